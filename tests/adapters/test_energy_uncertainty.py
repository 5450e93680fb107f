"""Densities and decayed scores that an energy-based head predicts for its boxes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.densities import BoxDistribution
from ebm3d.densities.uncertainty import relative_uncertainty
from ebm3d.energy import BoxEnergy
from ebm3d.energy.uncertainty import METHODS
from ebm3d.refiners import laplace_approximation
from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

every_method = pytest.mark.parametrize("method", METHODS)


def _refine(head: Any, frames: Frames) -> list[dict[str, Any]]:
    return head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)


@every_method
def test_refined_boxes_are_the_point_estimates_of_their_densities(method: str):
    frames = build_frames()
    torch.manual_seed(3)
    head = build_head(uncertainty=method)
    (out, _), (again, _) = _refine(head, frames), _refine(head, frames)
    distribution = out["box_distribution"]
    assert isinstance(distribution, BoxDistribution)
    assert distribution.yaw_period == math.pi
    torch.testing.assert_close(distribution.boxes, out["boxes"])
    assert torch.equal(distribution.std, out["box_std"])
    assert torch.equal(distribution.covariance, out["box_covariance"])
    assert torch.equal(again["box_std"], out["box_std"])
    assert out["box_std"].dtype == torch.float32
    assert bool((out["box_std"] > 0).all())
    assert bool(torch.isfinite(distribution.log_prob(out["boxes"])).all())
    head.uncertainty = None
    plain = _refine(head, frames)[0]
    assert torch.equal(out["boxes"], plain["boxes"])
    assert "box_std" not in plain
    assert "scores_3d" not in out


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_laplace_density_is_that_of_the_energy_with_the_scale_of_the_noise(axes: str, sizes: str):
    frames = build_frames((2,))
    noise = {**REFINEMENT_HEAD["noise"], "axes": axes, "sizes": sizes}
    head = build_head(uncertainty="laplace", noise=noise)
    out = _refine(head, frames)[0]
    energy = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    noise_std = head.noise.noise_std(out["boxes"], frames.labels[0])
    # Crops are made around the detected boxes, in the head as here.
    expected = laplace_approximation(energy, out["boxes"], noise_std).distribution(math.pi)
    torch.testing.assert_close(out["box_covariance"], expected.covariance, rtol=1e-3, atol=1e-6)


@every_method
def test_box_that_was_not_refined_has_no_density_and_keeps_its_score(method: str):
    frames = build_frames((4, 1))
    out = _refine(build_head(uncertainty=method, score_decay=2.0, max_refined=2), frames)[0]
    order = frames.scores[0].argsort(descending=True)
    refined, rest = order[:2], order[2:]
    assert bool(torch.isnan(out["box_std"][rest]).all())
    assert bool(torch.isnan(out["box_covariance"][rest]).all())
    assert bool(torch.isfinite(out["box_std"][refined]).all())
    uncertainty = relative_uncertainty(out["box_std"][refined], out["boxes"][refined])
    expected = frames.scores[0].clone()
    expected[refined] *= torch.exp(-2 * uncertainty)
    torch.testing.assert_close(out["scores_3d"], expected)


@pytest.mark.parametrize(
    ("method", "options"),
    [("laplace", {}), ("importance", {"num_samples": 256, "num_rounds": 4})],
)
def test_uncertainty_and_log_density_share_what_normalizes_both(
    method: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    log_density, frames = {"method": method, **options}, build_frames((3,))
    evaluated, call = [], BoxEnergy.__call__

    def counting(energy: BoxEnergy, boxes: Tensor) -> Tensor:
        evaluated.append(boxes[..., 0].numel())
        return call(energy, boxes)

    monkeypatch.setattr(BoxEnergy, "__call__", counting)

    def run(**head_options: Any) -> tuple[dict[str, Any], int]:
        """The refined frame, and how many boxes f was evaluated at."""
        evaluated.clear()
        torch.manual_seed(6)
        return _refine(build_head(**head_options), frames)[0], sum(evaluated)

    _, alone = run()
    with_std, once = run(uncertainty=method)
    with_log_p, again = run(log_density=log_density)
    both, shared = run(uncertainty=method, log_density=log_density)
    assert alone < once == again == shared
    assert torch.equal(both["box_covariance"], with_std["box_covariance"])
    assert torch.equal(both["log_density"], with_log_p["log_density"])
    few = {"method": "importance", "num_samples": 16, "num_rounds": 2}
    expected = run(log_density=few)[0]["log_density"]
    assert torch.equal(run(uncertainty=method, log_density=few)[0]["log_density"], expected)


@every_method
@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_frame_without_detections_is_fine(method: str, counts: tuple[int, int]):
    refined = _refine(build_head(uncertainty=method, score_decay=1.0), build_frames(counts))
    for out, count in zip(refined, counts, strict=True):
        assert all(len(value) == count for value in out.values())


def test_laplace_works_under_inference_mode_and_leaves_no_gradients():
    head, frames = build_head(uncertainty="laplace"), build_frames()
    with torch.inference_mode():
        out = _refine(head, frames)[0]
    assert not out["box_std"].requires_grad
    assert all(p.grad is None for p in head.parameters())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"uncertainty": "bootstrap"}, "uncertainty"),
        ({"score_decay": -1.0, "uncertainty": "laplace"}, "score_decay"),
        ({"score_decay": 1.0}, "uncertainty"),
        ({"uncertainty": "laplace", "loss": {"type": "ConfidenceLoss"}}, "loss"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        build_head(**options)


def test_every_refiner_is_built_from_a_config_and_climbs():
    scale = REFINEMENT_HEAD["refiner"]["step_scale"]
    refiner = {"type": "QuasiNewtonAscent", "num_steps": 4, "step_scale": scale}
    for out in _refine(build_head(refiner=refiner), build_frames()):
        assert bool((out["f_refined"] >= out["f_initial"]).all())
