"""Refinement heads on boxes with velocities, all nine or seven refined; tables by class name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.distribution import REGRESSIONS
from tests.adapters.refined import (
    PROPOSAL,
    REFINEMENT_HEAD,
    REGRESSION_HEAD,
    Frames,
    build_frames,
    build_head,
    build_regression_head,
    losses_of,
    refine,
)
from tests.adapters.tiny import sum_losses

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_STDS = [*REFINEMENT_HEAD["noise"]["stds"], 0.5, 0.3]
_ENCODED = ("RLELBoxRegression", "BELBoxRegression", "BinnedBoxRegression")
_POOLING = [
    REFINEMENT_HEAD["pooling"][0],
    {"type": "PointBoxPool", "channels": (8, 8), "num_features": 5, "time_feature": 4},
]


def _moving(base: dict[str, Any]) -> dict[str, Any]:
    """Options of a head for boxes of nine columns."""
    options: dict[str, Any] = {
        "pooling": _POOLING,
        "network": dict(base["network"]),
        "noise": {**base["noise"], "stds": _STDS},
    }
    if "refiner" in base:
        scale = [*base["refiner"]["step_scale"], 0.5, 0.3]
        options["refiner"] = {**base["refiner"], "step_scale": scale}
    return options


def _ebm(**options: Any) -> Any:
    return build_head(**{**_moving(REFINEMENT_HEAD), **options})


def _regression(**options: Any) -> Any:
    return build_regression_head(**{**_moving(REGRESSION_HEAD), **options})


def _frames() -> Frames:
    """Boxes with velocities, points with a lag."""
    frames = build_frames()
    boxes = [torch.cat((b, 3 * torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    points = [torch.cat((p, torch.rand(len(p), 1) / 2), dim=1) for p in frames.points]
    return replace(frames, boxes=boxes, points=points)


@pytest.mark.parametrize("uncertainty", [None, "laplace", "importance"])
def test_all_nine_numbers_are_refined_and_have_a_density(uncertainty: str | None):
    head, frames = _ebm(uncertainty=uncertainty), _frames()
    for out, boxes in zip(refine(head, frames), frames.boxes, strict=True):
        assert out["boxes"].shape == boxes.shape
        assert bool((out["f_refined"] >= out["f_initial"]).all())
        assert bool(((out["boxes"] - boxes)[:, 7:].abs() > 1e-4).any())
        if uncertainty is not None:
            assert out["box_std"].shape == boxes.shape
            assert out["box_covariance"].shape == (len(boxes), 9, 9)


def test_seven_numbers_are_refined_by_the_same_f_at_the_detected_velocity():
    head, frames = _ebm(uncertainty="laplace"), _frames()
    seven = _ebm(refine_velocity=False, uncertainty="laplace")
    seven.load_state_dict(head.state_dict())
    f = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    refined = refine(seven, frames)
    complete = [
        torch.cat((out["boxes"], boxes[:, 7:]), dim=1)
        for out, boxes in zip(refined, frames.boxes, strict=True)
    ]
    with torch.no_grad():
        expected = f(torch.cat(complete))
    torch.testing.assert_close(torch.cat([out["f_refined"] for out in refined]), expected)
    for out, boxes in zip(refined, frames.boxes, strict=True):
        assert out["boxes"].shape == (len(boxes), 7)
        assert out["box_covariance"].shape == (len(boxes), 7, 7)
        assert not torch.equal(out["boxes"], boxes[:, :7])


def test_the_energy_is_trained_without_boxes_of_unknown_velocity():
    head, frames = _ebm(), _frames()
    frames.boxes[0][1, 7] = torch.nan
    kept = torch.tensor([0, 2])
    without = replace(
        frames,
        boxes=[frames.boxes[0][kept], frames.boxes[1]],
        labels=[frames.labels[0][kept], frames.labels[1]],
    )
    torch.testing.assert_close(losses_of(head, frames), losses_of(head, without))


def test_a_regression_is_trained_on_what_is_known_of_a_box():
    """Outputs for an unknown velocity have no gradient, all others that of a known one."""
    head, frames = _regression(regression={"type": "DirectBoxRegression"}), _frames()
    frames = frames.one(0)
    head.network.layers[-1].bias.data.normal_()
    known, unknown = ([frames.boxes[0][:1].clone()] for _ in range(2))
    known[0][:, 7:], unknown[0][:, 7:] = 0.0, math.nan
    gradients: list[Tensor] = []
    for boxes in (known, unknown):
        head.zero_grad()
        one = replace(frames, boxes=boxes, labels=[frames.labels[0][:1]])
        losses_of(head, one)["loss_regression"].backward()
        gradients.append(head.network.layers[-1].bias.grad.clone())
    assert bool((gradients[0][7:].abs() > 0).any())
    assert torch.equal(gradients[1][7:], torch.zeros(2))
    torch.testing.assert_close(gradients[1][:7], gradients[0][:7])


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_every_regression_has_nine_residuals(kind: str):
    ends = {} if kind not in _ENCODED else {"lower": -5.0, "upper": 5.0}
    regression = {"type": kind, **ends}
    head, frames = _regression(regression=regression), _frames()
    sum_losses(losses_of(head, frames)).backward()
    for out, boxes in zip(refine(head, frames), frames.boxes, strict=True):
        assert out["boxes"].shape == out["box_std"].shape == boxes.shape
        assert not torch.equal(out["boxes"][:, 7:], boxes[:, 7:])


def test_detection_of_unknown_velocity_stays():
    head, frames = _ebm(), _frames()
    frames.boxes[0][1, 8] = torch.inf
    out = refine(head, frames)[0]
    assert torch.equal(out["boxes"][1], frames.boxes[0][1])
    assert torch.isnan(out["f_refined"]).tolist() == [False, True, False]


_SIZES = {"van": [4.8, 1.9, 2.0], "car": [3.9, 1.6, 1.56], "bike": [1.8, 0.6, 1.7]}
_NAMES = ["bike", "car"]


def _by_name(scale: float) -> dict[str, list[float]]:
    return {name: [scale * (i + 1) * value for value in _STDS] for i, name in enumerate(_SIZES)}


def test_tables_by_class_name_are_rows_in_the_order_of_the_labels():
    options = _moving(REFINEMENT_HEAD)
    options["network"]["mean_sizes"] = _SIZES
    options["noise"]["stds"], options["refiner"]["step_scale"] = _by_name(1.0), _by_name(2.0)
    head = build_head(**options, class_names=_NAMES)
    torch.testing.assert_close(
        head.network.log_mean_sizes.exp(), torch.tensor([_SIZES[name] for name in _NAMES])
    )
    stds = torch.tensor(_STDS, dtype=torch.float64)
    torch.testing.assert_close(head.noise.stds, torch.stack((3 * stds, 2 * stds)))
    torch.testing.assert_close(head.refiner.scale, torch.stack((6 * stds, 4 * stds)))
    assert head.num_classes == 2
    with pytest.raises(ValueError, match="class_names must be given, for the rows of network"):
        build_head(**options)
    with pytest.raises(ValueError, match=r"network\.mean_sizes must be a row for each .* 'tram'"):
        build_head(**options, class_names=["tram", "car"])


def test_what_does_not_go_together_is_refused():
    options = _moving(REFINEMENT_HEAD)
    with pytest.raises(ValueError, match=r"network\.velocities must be True"):
        build_head(**{**options, "network": {**options["network"], "velocities": False}})
    head, frames = _ebm(), _frames()
    seven = replace(frames, boxes=[boxes[:, :7] for boxes in frames.boxes])
    for call in (refine, losses_of):
        with pytest.raises(ValueError, match=r"boxes must have shape \(N, 9\)"):
            call(head, seven)


def test_a_normalizer_of_nine_dimensions_is_refused_for_seven():
    options = {"loss": {"type": "SNLLoss"}, "log_density": {"method": "learned"}}
    _ebm(**options)
    with pytest.raises(ValueError, match=r"method must be .*refine_velocity=False"):
        _ebm(**options, refine_velocity=False)


@pytest.mark.parametrize("loss", ["NCELoss", "SNLLoss"])
def test_a_learned_proposal_and_a_learned_normalizer_read_nine_numbers(loss: str):
    proposal = {**PROPOSAL, "base": {**PROPOSAL["base"], "stds": _STDS}}
    head, frames = _ebm(noise=proposal, loss={"type": loss, "num_noise_samples": 8}), _frames()
    losses = losses_of(head, frames)
    sum_losses(losses).backward()
    assert all(bool(torch.isfinite(value).all()) for value in losses.values())
    assert refine(head, frames)[0]["boxes"].shape == frames.boxes[0].shape
