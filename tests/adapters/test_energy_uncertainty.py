"""Densities and scores that an energy-based head gives its boxes; refiners built from configs."""

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
def test_refined_boxes_have_densities_whose_point_estimates_they_are(method: str):
    torch.manual_seed(3)
    out = _refine(build_head(uncertainty=method), build_frames())[0]
    distribution = out["box_distribution"]
    assert isinstance(distribution, BoxDistribution)
    assert distribution.yaw_period == math.pi
    torch.testing.assert_close(distribution.boxes, out["boxes"])
    torch.testing.assert_close(distribution.std, out["box_std"])
    torch.testing.assert_close(distribution.covariance, out["box_covariance"])
    assert out["box_std"].dtype == torch.float32
    assert bool((out["box_std"] > 0).all())
    assert bool(torch.isfinite(distribution.log_prob(out["boxes"])).all())


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_laplace_density_is_that_of_the_energy_in_units_of_the_noise(axes: str, sizes: str):
    frames = build_frames((2,))
    noise = {**REFINEMENT_HEAD["noise"], "axes": axes, "sizes": sizes}
    head = build_head(uncertainty="laplace", noise=noise)
    out = _refine(head, frames)[0]
    energy = head.bind(frames.bev, frames.points, frames.boxes, frames.labels)
    noise_std = head.noise.noise_std(out["boxes"], frames.labels[0])
    # Crops are made around the detected boxes, in the head as here.
    expected = laplace_approximation(energy, out["boxes"], noise_std).distribution(math.pi)
    torch.testing.assert_close(out["box_covariance"], expected.covariance, rtol=1e-3, atol=1e-6)


@every_method
def test_box_that_was_not_refined_has_no_density_and_keeps_its_score(method: str):
    frames = build_frames((4, 1))
    out = _refine(build_head(uncertainty=method, score_decay=2.0, max_refined=2), frames)[0]
    refined = frames.scores[0].argsort(descending=True)[:2]
    rest = frames.scores[0].argsort(descending=True)[2:]
    assert bool(torch.isnan(out["box_std"][rest]).all())
    assert bool(torch.isnan(out["box_covariance"][rest]).all())
    assert bool(torch.isfinite(out["box_std"][refined]).all())
    uncertainty = relative_uncertainty(out["box_std"][refined], out["boxes"][refined])
    expected = frames.scores[0].clone()
    expected[refined] *= torch.exp(-2 * uncertainty)
    torch.testing.assert_close(out["scores_3d"], expected)


@every_method
def test_refined_boxes_are_the_same_with_and_without_densities(method: str):
    frames = build_frames()
    torch.manual_seed(4)
    head = build_head(uncertainty=method)
    with_densities = _refine(head, frames)
    head.uncertainty = None
    for given, plain in zip(with_densities, _refine(head, frames), strict=True):
        assert torch.equal(given["boxes"], plain["boxes"])
        assert "box_std" not in plain
        assert "scores_3d" not in given


def _counted(frames: Frames, **options: Any) -> tuple[dict[str, Any], int]:
    """The first refined frame, and how many boxes f was evaluated at."""
    evaluated = []

    class _Counting(BoxEnergy):
        def __call__(self, boxes: Tensor) -> Tensor:
            evaluated.append(boxes[..., 0].numel())
            return super().__call__(boxes)

    torch.manual_seed(6)
    head = build_head(**options)
    head.binding = _Counting
    return _refine(head, frames)[0], sum(evaluated)


@pytest.mark.parametrize(
    ("method", "options"),
    [("laplace", {}), ("importance", {"num_samples": 256, "num_rounds": 4})],
)
def test_uncertainty_and_log_density_share_what_normalizes_both(
    method: str, options: dict[str, int]
):
    log_density, frames = {"method": method, **options}, build_frames((3,))
    _, alone = _counted(frames)
    uncertain, once = _counted(frames, uncertainty=method)
    weighed, again = _counted(frames, log_density=log_density)
    both, shared = _counted(frames, uncertainty=method, log_density=log_density)
    assert alone < once == again == shared
    assert torch.equal(both["box_covariance"], uncertain["box_covariance"])
    assert torch.equal(both["log_density"], weighed["log_density"])


def test_samples_of_other_numbers_are_not_shared():
    frames = build_frames((3,))
    few = {"num_samples": 16, "num_rounds": 2}
    expected = _counted(frames, log_density=few)[0]["log_density"]
    found = _counted(frames, uncertainty="importance", log_density=few)[0]["log_density"]
    assert torch.equal(found, expected)


def test_batch_has_the_curvature_of_frame_by_frame():
    head, frames = build_head(uncertainty="laplace"), build_frames((3, 4))
    together = _refine(head, frames)
    for index in range(2):
        alone = _refine(head, frames.one(index))[0]
        torch.testing.assert_close(
            together[index]["box_std"], alone["box_std"], rtol=1e-3, atol=1e-5
        )


def test_samples_are_the_same_for_the_same_input():
    head, frames = build_head(uncertainty="importance"), build_frames()
    first, second = _refine(head, frames), _refine(head, frames)
    assert torch.equal(first[0]["box_std"], second[0]["box_std"])


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
    ("options", "message"),
    [
        ({"uncertainty": "bootstrap"}, "uncertainty must be None or one of"),
        ({"score_decay": -1.0, "uncertainty": "laplace"}, "score_decay must be at least 0"),
        ({"score_decay": 1.0}, "uncertainty must be one of .*, for a score_decay"),
        (
            {"uncertainty": "laplace", "loss": {"type": "ConfidenceLoss", "num_noise_samples": 4}},
            "loss must be one that makes f a log density, for an uncertainty",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_head(**options)


_QUASI_NEWTON = {
    "type": "QuasiNewtonAscent",
    "num_steps": 4,
    "step_scale": REFINEMENT_HEAD["refiner"]["step_scale"],
}
_MULTI_START = {
    "type": "MultiStart",
    "base": _QUASI_NEWTON,
    "noise_std": REFINEMENT_HEAD["noise"]["stds"],
    "num_starts": 3,
    "turned": True,
}


def _final(refiner: dict[str, Any], frames: Frames) -> Tensor:
    torch.manual_seed(5)
    out = _refine(build_head(refiner=refiner, uncertainty="laplace"), frames)
    assert all(bool(torch.isfinite(o["box_std"]).all()) for o in out)
    assert all(bool((o["f_refined"] >= o["f_initial"]).all()) for o in out)
    return torch.cat([o["f_refined"] for o in out])


def test_refiners_are_built_from_configs_and_several_starts_end_no_lower():
    frames = build_frames()
    one, several = (_final(refiner, frames) for refiner in (_QUASI_NEWTON, _MULTI_START))
    # Variants of a box share one matrix product, whose rounding differs.
    assert bool((several >= one - 1e-4).all())


def test_units_of_several_starts_are_named_where_their_rows_are_too_many():
    with pytest.raises(ValueError, match=r"rows of refiner\.noise_std must be 1 or 1"):
        build_head(refiner={**_MULTI_START, "noise_std": [[0.1] * 7] * 3})


def test_modes_of_several_starts_are_those_of_the_refiner_alone():
    frames = build_frames()
    head = build_head(refiner=_MULTI_START, max_refined=2)
    out = _refine(head, frames)
    for index, found in enumerate(out):
        one, modes = frames.one(index), found["modes"]
        kept = one.scores[0].argsort(descending=True)[:2]
        boxes, labels = one.boxes[0][kept], one.labels[0][kept]
        energy = head.bind(one.bev, one.points, [boxes], [labels])
        expected = head.refiner(energy, boxes, labels).modes
        close = {"atol": 1e-3, "rtol": 1e-3, "equal_nan": True}
        torch.testing.assert_close(modes[kept].boxes, expected.boxes, **close)
        torch.testing.assert_close(modes[kept].weights, expected.weights, **close)
        torch.testing.assert_close(modes[kept].boxes[:, 0], found["boxes"][kept])
        torch.testing.assert_close(modes[kept].f[:, 0], found["f_refined"][kept])
        left = torch.isnan(found["f_refined"])
        assert int(left.sum()) == len(left) - 2
        assert modes.count[left].tolist() == [0] * (len(left) - 2)
        assert bool((modes.count[kept] >= 1).all())


def test_refiner_of_one_start_predicts_no_modes():
    assert all("modes" not in found for found in _refine(build_head(), build_frames()))


def test_refiner_inside_of_several_starts_has_a_row_per_class_of_the_network_too():
    base = {**_QUASI_NEWTON, "step_scale": [[0.1] * 7] * 3}
    with pytest.raises(ValueError, match=r"rows of refiner.base.step_scale"):
        build_head(refiner={**_MULTI_START, "base": base})
