"""Training methods and noises in a head, a learned proposal among them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

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
_WITHOUT_NLL = {**_PROPOSAL, "nll_weight": 0.0}


def _loss(head: Any, frames: Frames, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    losses: dict[str, Tensor] = head.loss(frames.bev, frames.points, frames.boxes, frames.labels)
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
    head = build_head(loss={"type": "SNLLoss", "num_noise_samples": 8})
    losses = _loss(head, build_frames())
    assert _reached(head, losses["loss_ebm"]) == {"pools", "network", "criterion"}


def test_proposal_is_in_the_checkpoint_and_fixed_noise_is_not():
    names = {name for name in build_head(noise=_PROPOSAL).state_dict() if "noise" in name}
    assert names
    assert all(name.startswith("noise.network.") for name in names)
    assert not [name for name in build_head().state_dict() if "noise" in name]


def test_proposal_reads_features_of_the_heads_pools_and_its_mean_sizes():
    head = build_head(noise=_PROPOSAL)
    first = head.noise.network.layers[0]
    assert first.in_features == head.network.layers[0].in_features
    assert len(head.noise.network.log_mean_sizes) == 1


_RETURNS_SAMPLES = [
    {"type": name, "num_noise_samples": 8}
    for name in (
        "NCELoss",
        "NCEPlusLoss",
        "MLISLoss",
        "KLDISLoss",
        "SNLLoss",
        "ConditionalNCELoss",
    )
]
_RETURNS_NONE = [
    {"type": "MLMCMCLoss", "num_steps": 2, "num_chains": 2},
    {"type": "ScoreMatchingLoss", "kind": "sliced"},
    {"type": "DSMLoss", "num_noise_samples": 2},
]


@pytest.mark.parametrize(
    ("loss", "noise"),
    [
        *((loss, noise) for loss in _RETURNS_SAMPLES for noise in (_BASE, _PROPOSAL, _WITHOUT_NLL)),
        *((loss, noise) for loss in _RETURNS_NONE for noise in (_BASE, _PROPOSAL)),
        ({"type": "ConfidenceLoss", "num_noise_samples": 8}, _BASE),
    ],
    ids=lambda part: part["type"],
)
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


def test_batch_without_true_boxes_has_zero_losses_that_reach_every_parameter():
    head = build_head(noise=_PROPOSAL)
    losses = _loss(head, build_frames((0, 0)))
    for name in ("loss_ebm", "loss_proposal"):
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


@pytest.mark.parametrize("loss", _RETURNS_NONE, ids=lambda part: part["type"])
def test_proposal_without_a_training_signal_is_refused(loss: dict[str, Any]):
    with pytest.raises(ValueError, match="nll_weight=0"):
        build_head(loss=loss, noise=_WITHOUT_NLL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": {"type": "ConfidenceLoss"}, "noise": _PROPOSAL}, "makes f a log density"),
        ({"noise": {"type": "LearnedProposal"}}, r"arguments of LearnedProposal.*'base'"),
        (
            {"noise": {**_PROPOSAL, "base": {**_BASE, "stds": [[0.1] * 7] * 3}}},
            r"rows of noise\.stds must be",
        ),
    ],
)
def test_noise_that_does_not_fit_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_head(**options)
