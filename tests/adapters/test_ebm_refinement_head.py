"""Energy-based refinement: its loss with every method and noise, the ascent, its settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import (
    PROPOSAL,
    REFINEMENT_HEAD,
    build_frames,
    build_head,
    losses_of,
    refine,
)
from tests.adapters.tiny import sum_losses

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_BASE = REFINEMENT_HEAD["noise"]
_WITHOUT_NLL = {**PROPOSAL, "nll_weight": 0.0}
_SCALE = REFINEMENT_HEAD["refiner"]["step_scale"]


def test_loss_of_a_flat_f_is_the_contrast_of_the_noise_with_itself():
    head, frames = build_head(), build_frames()
    torch.nn.init.zeros_(head.network.layers[-1].weight)
    losses = losses_of(head, frames)
    torch.manual_seed(0)
    expected = []
    for boxes, labels in zip(frames.boxes, frames.labels, strict=True):
        log_q = head.noise.sample(boxes, labels, 16).log_q
        expected.append(torch.logsumexp(-log_q, dim=1) + log_q[:, 0])
    torch.testing.assert_close(losses["loss_ebm"], torch.cat(expected).mean())
    assert 0 <= float(losses["ebm_rank_first"]) <= 1
    assert not losses["ebm_rank_first"].requires_grad
    head.loss_weight = 3.0
    torch.testing.assert_close(losses_of(head, frames)["loss_ebm"], 3 * losses["loss_ebm"])


def _reached(head: Any, loss: Tensor) -> set[str]:
    """The parts of a head that a loss has a gradient for."""
    head.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, p in head.named_parameters()
        if p.grad is not None and float(p.grad.abs().sum()) > 0
    }


def test_each_loss_reaches_its_parameters_alone():
    head = build_head(noise=PROPOSAL)
    losses = losses_of(head, build_frames())
    assert _reached(head, losses["loss_proposal"]) == {"noise"}
    assert _reached(head, losses["loss_ebm"]) == {"pools", "network"}
    assert not losses["proposal_nll"].requires_grad
    assert 0 < float(losses["proposal_effective_share"]) <= 1
    head = build_head(loss={"type": "SNLLoss", "num_noise_samples": 8})
    assert _reached(head, losses_of(head, build_frames())["loss_ebm"]) == {
        *("pools", "network", "criterion")
    }


def test_proposal_is_in_the_checkpoint_with_the_input_of_the_head_and_fixed_noise_is_not():
    head = build_head(noise=PROPOSAL)
    names = {name for name in head.state_dict() if "noise" in name}
    assert names
    assert all(name.startswith("noise.network.") for name in names)
    assert not [name for name in build_head().state_dict() if "noise" in name]
    first = head.noise.network.layers[0]
    assert first.in_features == head.network.layers[0].in_features


_RETURNS_SAMPLES = [
    {"type": f"{name}Loss", "num_noise_samples": 8}
    for name in ("NCE", "NCEPlus", "MLIS", "KLDIS", "SNL", "ConditionalNCE")
]
_RETURNS_NONE = [
    {"type": "MLMCMCLoss", "num_steps": 2, "num_chains": 2},
    {"type": "ScoreMatchingLoss", "kind": "sliced"},
    {"type": "DSMLoss", "num_noise_samples": 2},
]


@pytest.mark.parametrize(
    ("loss", "noise"),
    [
        *((loss, noise) for loss in _RETURNS_SAMPLES for noise in (_BASE, PROPOSAL, _WITHOUT_NLL)),
        *((loss, noise) for loss in _RETURNS_NONE for noise in (_BASE, PROPOSAL)),
        ({"type": "ConfidenceLoss", "num_noise_samples": 8}, _BASE),
    ],
    ids=lambda part: part["type"],
)
def test_every_method_trains_with_every_noise_it_can_use(
    loss: dict[str, Any], noise: dict[str, Any]
):
    head = build_head(loss=loss, noise=noise)
    losses = losses_of(head, build_frames())
    sum_losses(losses).backward()
    assert all(math.isfinite(float(value.detach())) for value in losses.values())
    assert ("loss_proposal" in losses) == (noise["type"] == "LearnedProposal")
    gradients = [p.grad for p in head.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_few_steps_lower_both_losses():
    head, frames = build_head(noise=PROPOSAL), build_frames((6, 6))
    torch.nn.init.normal_(head.network.layers[-1].weight, std=1e-3)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    history = []
    for step in range(100):
        optimizer.zero_grad()
        losses = losses_of(head, frames, seed=step)
        sum_losses(losses).backward()
        optimizer.step()
        history.append([float(losses[name].detach()) for name in ("loss_ebm", "loss_proposal")])
    first, last = (torch.tensor(part).mean(dim=0) for part in (history[:10], history[-20:]))
    assert float(last[0]) < 0.5 * float(first[0])
    assert float(last[1]) < float(first[1]) - 2  # nats


@pytest.mark.parametrize("refiner", ["GradientAscent", "QuasiNewtonAscent"])
def test_refined_boxes_have_a_higher_f_and_both_values_are_those_of_the_network(refiner: str):
    config = REFINEMENT_HEAD["refiner"]
    if refiner == "QuasiNewtonAscent":
        config = {"type": refiner, "num_steps": 4, "step_scale": _SCALE}
    head, frames = build_head(refiner=config), build_frames()
    for index, out in enumerate(refine(head, frames)):
        assert bool((out["f_refined"] >= out["f_initial"]).all())
        assert float((out["boxes"] - frames.boxes[index]).abs().max()) > 1e-3
        for name, boxes in (("f_initial", frames.boxes[index]), ("f_refined", out["boxes"])):
            one = frames.one(index)
            with torch.no_grad():
                f = head.make_energy(one.bev, one.points, [boxes], one.labels)(boxes)
            torch.testing.assert_close(out[name], f, atol=1e-5, rtol=1e-5)


def test_huge_slopes_move_no_box_further_than_allowed():
    head, frames = build_head(), build_frames()
    torch.nn.init.normal_(head.network.layers[-1].weight, std=1e20)
    reach = 3 * torch.tensor(_SCALE) + 1e-4
    for out, boxes in zip(refine(head, frames), frames.boxes, strict=True):
        moved = out["boxes"] - boxes
        assert bool((moved[:, 2:6].abs() <= reach[2:6]).all())
        assert bool((moved[:, :2].norm(dim=1) <= reach[:2].norm()).all())


def test_box_outside_the_map_is_refined_to_a_valid_box():
    head, frames = build_head(), build_frames()
    frames.boxes[0][0, :2] = torch.tensor([500.0, -300.0])
    out = refine(head, frames)[0]
    assert bool(torch.isfinite(out["boxes"]).all())
    assert bool(torch.isfinite(out["f_refined"]).all())


_PAPER = {"type": "Paper2020EnergyNetwork"}
_THREE = {"type": "BoxNoise", "stds": [[0.1] * 7] * 3}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 1), ({"network": _PAPER}, None), ({"network": _PAPER, "noise": _THREE}, 3)],
    ids=["network", "any", "noise"],
)
def test_the_classes_are_those_of_the_tables(options: dict[str, Any], expected: int | None):
    from mmdet3d.registry import MODELS

    assert MODELS.build({**REFINEMENT_HEAD, **options}).num_classes == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": None}, "loss must be a config: a dict with .* but got None"),
        ({"loss": {"num_noise_samples": 4}}, "loss must be a config: a dict with the name"),
        ({"loss": {"type": "NoLoss"}}, r"loss\.type must be the name of a registered class"),
        ({"loss": {"type": "NCELoss", "samples": 4}}, "loss must be arguments of NCELoss"),
        ({"loss": {"type": "BoxNoise", "stds": [1.0] * 7}}, r"loss\.type must be that of a loss"),
        ({"loss": {"type": "NCELoss", "num_noise_samples": "4"}}, "num_noise_samples must be"),
        ({"noise": {"type": "NCELoss"}}, r"noise\.type must be that of a noise, .* without around"),
        ({"noise": {"type": "LearnedProposal", "base": 3}}, r"noise\.base must be a config"),
        ({"noise": {"type": "LearnedProposal"}}, r"arguments of LearnedProposal.*'base'"),
        ({"noise": {**PROPOSAL, "base": _THREE}}, r"rows of noise\.stds must be"),
        ({"loss": {"type": "ConfidenceLoss"}, "noise": PROPOSAL}, "makes f a log density"),
        *(({"loss": loss, "noise": _WITHOUT_NLL}, "nll_weight=0") for loss in _RETURNS_NONE),
        ({"refiner": {"type": "BoxNoise", "stds": [1.0] * 7}}, r"refiner\.type must be that of a"),
        (
            {
                "network": _PAPER,
                "noise": _THREE,
                "refiner": {**REFINEMENT_HEAD["refiner"], "step_scale": [[1] * 7] * 2},
            },
            r"rows of refiner\.step_scale must be 1 or 3",
        ),
        ({"network": {"type": "NCELoss"}}, r"network\.type must be that of a network"),
        ({"pooling": []}, "at least one pool"),
        ({"pooling": {"type": "BEVGridPool"}}, "pooling must be a list"),
        ({"pooling": [3]}, r"pooling\[0\] must be a config"),
        ({"point_cloud_range": [0, 0, 0, 1, 1]}, "point_cloud_range must be six numbers"),
        ({"max_refined": 0}, "max_refined must be at least 1"),
        ({"max_refined": 2.5}, "max_refined must be at least 1, a whole number"),
        ({"max_evaluations": 2.5}, "max_evaluations must be at least 1, a whole number"),
        ({"loss_weight": math.nan}, "loss_weight must be at least 0 and finite"),
        ({"uncertainty": "bootstrap"}, "^uncertainty must be"),
        ({"score_decay": "high"}, "score_decay must be at least 0 and finite"),
        ({"score_decay": -1.0, "uncertainty": "laplace"}, "^score_decay must be"),
        ({"score_decay": 1.0}, "^uncertainty must be"),
        ({"uncertainty": "laplace", "loss": {"type": "ConfidenceLoss"}}, "^loss must be"),
        ({"log_density": "laplace"}, "log_density must be a dict of method, num_samples"),
        ({"log_density": {"samples": 4}}, "log_density must be a dict of method, num_samples"),
        ({"log_density": {"method": "exact"}}, r"^log_density\.method must be"),
        ({"log_density": {"method": "learned"}}, "^loss must be"),
        ({"log_density": {}, "loss": {"type": "ConfidenceLoss"}}, "^loss must be"),
    ],
)
def test_settings_of_another_kind_are_refused_by_name(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_head(**options)


def test_misspelled_option_is_a_type_error():
    with pytest.raises(TypeError, match="max_refine"):
        build_head(max_refine=3)
