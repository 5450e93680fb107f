"""Heads whose noise is learned, or knows what the detector found."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ebm3d.boxes.codings import LocalCoding

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_BASE = REFINEMENT_HEAD["noise"]
_PROPOSAL: dict[str, Any] = {
    "type": "LearnedProposal",
    "base": _BASE,
    "num_components": 2,
    "hidden_channels": (8,),
}
_DETECTION: dict[str, Any] = {"type": "DetectionNoise", "base": _BASE}


def _detections(frames: Frames, shift: float = 0.1) -> list[Any]:
    """One beside each true box."""
    from ebm3d.noise import Detections

    pairs = zip(frames.boxes, frames.labels, strict=True)
    return [Detections(boxes + shift, labels) for boxes, labels in pairs]


def _loss(head: Any, frames: Frames, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    found = (_detections(frames),) if head.wants_detections else ()
    losses: dict[str, Tensor] = head.loss(
        frames.bev, frames.points, frames.boxes, frames.labels, *found
    )
    return losses


def _reached(head: Any, loss: Tensor) -> set[str]:
    """The parts of a head that a loss has a gradient for."""
    head.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, p in head.named_parameters()
        if p.grad is not None and float(p.grad.abs().sum()) > 0
    }


def test_each_loss_reaches_its_own_parameters_alone():
    head = build_head(noise=_PROPOSAL)
    losses = _loss(head, build_frames())
    assert _reached(head, losses["loss_proposal"]) == {"noise"}
    assert _reached(head, losses["loss_ebm"]) == {"pools", "network"}


def test_proposal_is_a_part_of_the_head_and_of_its_checkpoint():
    names = {name for name in build_head(noise=_PROPOSAL).state_dict() if "noise" in name}
    assert names
    assert all(name.startswith("noise.network.") for name in names)


def test_checkpoint_of_fixed_noise_has_no_word_of_it():
    for noise in (_BASE, _DETECTION):
        assert not [name for name in build_head(noise=noise).state_dict() if "noise" in name]


def test_proposal_reads_features_of_the_heads_pools_and_its_mean_sizes():
    head = build_head(noise=_PROPOSAL)
    channels = sum(pool.out_channels for pool in head.pools)
    first = head.noise.network.layers[0]
    assert first.in_features == head.network.layers[0].in_features
    assert first.in_features > channels
    assert len(head.noise.network.log_mean_sizes) == 1


def test_log_normalizer_of_a_loss_reads_the_features_of_the_heads_pools():
    head = build_head(loss={"type": "SNLLoss", "num_noise_samples": 8})
    losses = _loss(head, build_frames())
    assert _reached(head, losses["loss_ebm"]) == {"pools", "network", "criterion"}
    assert {name.split(".")[0] for name in head.state_dict()} >= {"criterion", "network", "pools"}


_DRAWING = [
    {"type": "NCELoss", "num_noise_samples": 8},
    {"type": "NCEPlusLoss", "num_noise_samples": 8},
    {"type": "MLISLoss", "num_noise_samples": 8},
    {"type": "KLDISLoss", "num_noise_samples": 8},
    {"type": "SNLLoss", "num_noise_samples": 8},
]
_NOT_DRAWING = [
    {"type": "ConditionalNCELoss", "num_noise_samples": 8},
    {"type": "MLMCMCLoss", "num_steps": 2, "num_chains": 2},
    {"type": "ScoreMatchingLoss", "kind": "sliced"},
    {"type": "DSMLoss", "num_noise_samples": 2},
]
_TAUGHT_BY_ENERGY_ALONE = {**_PROPOSAL, "nll_weight": 0.0}
_TOGETHER = [
    *((loss, noise) for loss in _DRAWING for noise in (_BASE, _PROPOSAL, _DETECTION)),
    *((loss, noise) for loss in _NOT_DRAWING for noise in (_BASE, _PROPOSAL)),
    ({"type": "ConfidenceLoss", "num_noise_samples": 8}, _BASE),
    ({"type": "ConfidenceLoss", "num_noise_samples": 8}, _DETECTION),
    (_DRAWING[0], _TAUGHT_BY_ENERGY_ALONE),
    (_NOT_DRAWING[0], _TAUGHT_BY_ENERGY_ALONE),
]


@pytest.mark.parametrize(("loss", "noise"), _TOGETHER, ids=lambda part: part["type"])
def test_every_method_trains_with_every_noise_it_can_use(
    loss: dict[str, Any], noise: dict[str, Any]
):
    head, frames = build_head(loss=loss, noise=noise), build_frames()
    losses = _loss(head, frames)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(math.isfinite(float(value.detach())) for value in losses.values())
    assert ("loss_proposal" in losses) == (noise["type"] == "LearnedProposal")
    gradients = [p.grad for p in head.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


@pytest.mark.parametrize("noise", [_PROPOSAL, _DETECTION], ids=lambda n: n["type"])
def test_batch_without_true_boxes_has_zero_losses_that_reach_every_parameter(noise: dict[str, Any]):
    head = build_head(noise=noise)
    losses = _loss(head, build_frames((0, 0)))
    for name in {"loss_ebm", "loss_proposal"} & set(losses):
        head.zero_grad(set_to_none=True)
        losses[name].backward(retain_graph=True)
        assert float(losses[name].detach()) == 0.0
        assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in head.parameters())
    assert all(math.isfinite(float(value.detach())) for value in losses.values())


def test_few_steps_lower_both_losses():
    head, frames = build_head(noise=_PROPOSAL), build_frames((6, 6))
    torch.nn.init.normal_(head.network.layers[-1].weight, std=1e-3)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    history = []
    for step in range(100):
        optimizer.zero_grad()
        losses = _loss(head, frames, seed=step)
        (losses["loss_ebm"] + losses["loss_proposal"]).backward()
        optimizer.step()
        history.append([float(losses[name].detach()) for name in ("loss_ebm", "loss_proposal")])
    first, last = (torch.tensor(part).mean(dim=0) for part in (history[:10], history[-20:]))
    assert float(last[0]) < 0.5 * float(first[0])
    assert float(last[1]) < float(first[1]) - 2  # nats


def test_logs_of_the_proposal_are_figures_without_gradient():
    losses = _loss(build_head(noise=_PROPOSAL), build_frames())
    for name in ("proposal_nll", "proposal_effective_share"):
        assert losses[name].shape == ()
        assert not losses[name].requires_grad
    assert 0 < float(losses["proposal_effective_share"]) <= 1


def test_hard_negatives_are_drawn_around_detections():
    frames = build_frames((1, 1))
    head = build_head(noise={**_DETECTION, "share": 0.999, "width": 1e-3, "min_iou": 1e-3})
    drawn: list[Tensor] = []
    criterion = head.criterion

    def watched(f: Any, noise: Any) -> Any:
        drawn.append(noise.sample(20).boxes[:, 1:])
        return criterion(f, noise)

    head.criterion = watched
    _loss(head, frames)
    near = (drawn[0] - (torch.cat(frames.boxes) + 0.1)[:, None]).abs()[..., :6].amax(dim=(2))
    assert float((near < 0.01).float().mean()) > 0.9


@pytest.mark.parametrize("noise", [_BASE, _PROPOSAL, _DETECTION], ids=lambda n: n["type"])
def test_importance_mean_is_finite_repeatable_and_near_the_detection(noise: dict[str, Any]):
    head, frames = build_head(noise=noise, prediction="importance_mean"), build_frames((3, 2))
    first, second = (
        head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)
        for _ in range(2)
    )
    for index, (out, again) in enumerate(zip(first, second, strict=True)):
        assert torch.equal(out["boxes"], again["boxes"])
        assert bool(torch.isfinite(out["boxes"]).all())
        assert 1e-4 < float((out["boxes"] - frames.boxes[index])[:, :3].abs().max()) < 3
        one = frames.one(index)
        with torch.no_grad():
            f = head.bind(one.bev, one.points, [out["boxes"]], one.labels)(out["boxes"])
        torch.testing.assert_close(out["f_refined"], f, atol=1e-4, rtol=1e-4)


def test_importance_mean_of_a_gaussian_energy_is_its_mean():
    head = build_head(prediction="importance_mean", num_prediction_samples=16384)
    frames, mean, std = build_frames((2, 1)), 0.5, 0.8
    frames.scores[0] = torch.tensor([0.9, 0.5])  # in this order the head binds them
    boxes = torch.cat(frames.boxes)
    coding = LocalCoding(boxes, head.noise.noise_std(boxes, torch.cat(frames.labels)))

    def f(variants: Tensor) -> Tensor:
        flat = variants[:, None] if variants.ndim == 2 else variants
        at = flat.transpose(0, 1)
        log_p = Normal(mean, std).log_prob(coding.encode(at)).sum(-1) - coding.log_volume(at)
        return log_p.transpose(0, 1).reshape(variants.shape[:-1])

    head.bind = lambda *_: f
    refined = head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)
    moved = coding.encode(torch.cat([r["boxes"] for r in refined]))
    # A twentieth of the samples carries weight, and more: a standard error of std / sqrt(800).
    bound = 5 * std / math.sqrt(800)
    torch.testing.assert_close(moved, torch.full((3, 7), mean), atol=bound, rtol=0)


def test_importance_mean_of_no_number_leaves_the_box():
    head, frames = build_head(prediction="importance_mean"), build_frames()
    torch.nn.init.constant_(head.network.layers[-1].bias, math.nan)
    refined = head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)
    for out, boxes in zip(refined, frames.boxes, strict=True):
        assert torch.equal(out["boxes"], boxes)


@pytest.mark.parametrize(
    "options", [{"noise": _PROPOSAL}, {"prediction": "importance_mean"}], ids=str
)
def test_confidences_neither_teach_a_proposal_nor_weigh_samples(options: dict[str, Any]):
    with pytest.raises(ValueError, match="one that makes f a log density"):
        build_head(loss={"type": "ConfidenceLoss"}, **options)


@pytest.mark.parametrize("loss", _NOT_DRAWING, ids=lambda n: n["type"])
def test_hard_negatives_that_would_teach_nothing_are_refused(loss: dict[str, Any]):
    with pytest.raises(ValueError, match=rf"for a DetectionNoise, but got {loss['type']}; use"):
        build_head(loss=loss, noise=_DETECTION)


@pytest.mark.parametrize("loss", _NOT_DRAWING[1:], ids=lambda n: n["type"])
def test_proposal_without_any_teacher_is_refused(loss: dict[str, Any]):
    with pytest.raises(ValueError, match=rf"nll_weight=0, but got {loss['type']}; give"):
        build_head(loss=loss, noise=_TAUGHT_BY_ENERGY_ALONE)


def test_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="prediction must be one of"):
        build_head(prediction="mean")


def test_proposal_without_a_base_is_refused():
    with pytest.raises(ValueError, match=r"noise must be arguments of LearnedProposal.*'base'"):
        build_head(noise={"type": "LearnedProposal"})


def test_scales_of_the_base_need_a_row_per_class():
    with pytest.raises(ValueError, match=r"rows of noise\.stds must be 1 or 1"):
        build_head(noise={**_PROPOSAL, "base": {**_BASE, "stds": [[0.1] * 7] * 3}})


def test_heads_of_a_group_get_detections_if_they_want_them():
    from mmdet3d.registry import MODELS

    heads = {
        "plain": REFINEMENT_HEAD,
        "hard": {**REFINEMENT_HEAD, "noise": _DETECTION},
    }
    torch.manual_seed(5)
    group = MODELS.build({"type": "RefinementHeadGroup", "heads": heads})
    assert group.wants_detections
    losses = _loss(group, build_frames())
    assert {"plain.loss_ebm", "hard.loss_ebm"} <= set(losses)
    plain = MODELS.build({"type": "RefinementHeadGroup", "heads": {"plain": REFINEMENT_HEAD}})
    assert not plain.wants_detections
