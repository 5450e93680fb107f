"""Densities and log densities that an energy-based head predicts for its boxes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.densities import BoxDistribution
from ebm3d.energy import BoxEnergy, LogDensity, NormalizedEnergy, log_density
from ebm3d.energy.uncertainty import METHODS
from ebm3d.refiners import laplace_approximation
from tests.adapters.refined import REFINEMENT_HEAD, build_frames, build_head, refine

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

coordinates = pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])


@pytest.mark.parametrize("method", METHODS)
def test_refined_boxes_are_the_point_estimates_of_their_densities(method: str):
    frames = build_frames()
    torch.manual_seed(3)
    head = build_head(uncertainty=method)
    out, _ = refine(head, frames)
    distribution = out["box_distribution"]
    assert isinstance(distribution, BoxDistribution)
    assert distribution.yaw_period == math.pi
    torch.testing.assert_close(distribution.boxes, out["boxes"])
    assert torch.equal(distribution.std, out["box_std"])
    assert torch.equal(distribution.covariance, out["box_covariance"])
    assert out["box_std"].dtype == torch.float32
    assert bool((out["box_std"] > 0).all())
    assert bool(torch.isfinite(distribution.log_prob(out["boxes"])).all())
    head.uncertainty = None
    plain = refine(head, frames)[0]
    assert torch.equal(out["boxes"], plain["boxes"])
    assert "box_std" not in plain


@coordinates
def test_laplace_density_is_that_of_the_energy_with_the_scale_of_the_noise(axes: str, sizes: str):
    frames = build_frames((2,))
    noise = {**REFINEMENT_HEAD["noise"], "axes": axes, "sizes": sizes}
    head = build_head(uncertainty="laplace", noise=noise)
    out = refine(head, frames)[0]
    energy = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    noise_std = head.noise.noise_std(out["boxes"], frames.labels[0])
    # Crops are made around the detected boxes, in the head as here.
    expected = laplace_approximation(energy, out["boxes"], noise_std).distribution(math.pi)
    torch.testing.assert_close(out["box_covariance"], expected.covariance, rtol=1e-3, atol=1e-6)


@coordinates
@pytest.mark.parametrize("method", log_density.METHODS)
def test_log_density_is_that_of_the_energy_with_the_noise_of_the_head(
    method: str, axes: str, sizes: str
):
    noise = {**REFINEMENT_HEAD["noise"], "axes": axes, "sizes": sizes}
    head = build_head(loss={"type": "SNLLoss"}, log_density={"method": method}, noise=noise)
    torch.nn.init.normal_(head.criterion.network[-1].weight)
    frames = build_frames((2,))
    frames.scores[0] = torch.tensor([0.9, 0.7])  # the order in which the head binds them
    (out,) = refine(head, frames)
    energy = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    normalized = NormalizedEnergy(energy, out["boxes"], head.noise)
    detected = frames.boxes[0]
    expected = LogDensity(method)(normalized, out["f_refined"], detected, head.criterion)
    assert float(expected.std()) > 0
    torch.testing.assert_close(out["log_density"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "options"),
    [("laplace", {}), ("importance", {"num_samples": 256, "num_rounds": 4})],
)
def test_uncertainty_and_log_density_share_what_normalizes_both(
    method: str, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    by_method, frames = {"method": method, **options}, build_frames((3,))
    evaluated, call = [], BoxEnergy.__call__

    def counting(energy: BoxEnergy, boxes: Tensor) -> Tensor:
        evaluated.append(boxes[..., 0].numel())
        return call(energy, boxes)

    monkeypatch.setattr(BoxEnergy, "__call__", counting)

    def run(**head_options: Any) -> tuple[dict[str, Any], int]:
        """The refined frame, and how many boxes f was evaluated at."""
        evaluated.clear()
        torch.manual_seed(6)
        return refine(build_head(**head_options), frames)[0], sum(evaluated)

    plain, alone = run()
    with_std, once = run(uncertainty=method)
    with_log_p, again = run(log_density=by_method)
    both, shared = run(uncertainty=method, log_density=by_method)
    assert alone < once == again == shared
    assert all(torch.equal(both[name], plain[name]) for name in plain)
    assert torch.equal(both["box_covariance"], with_std["box_covariance"])
    assert torch.equal(both["log_density"], with_log_p["log_density"])
    few = {"method": "importance", "num_samples": 16, "num_rounds": 2}
    expected = run(log_density=few)[0]["log_density"]
    assert torch.equal(run(uncertainty=method, log_density=few)[0]["log_density"], expected)
