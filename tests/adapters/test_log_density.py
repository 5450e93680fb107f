"""The normalized log density that an energy-based head predicts for its boxes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.energy import LogDensity, NormalizedEnergy
from ebm3d.energy.log_density import METHODS
from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def _refine(head: Any, frames: Frames) -> list[dict[str, Tensor]]:
    return head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
@pytest.mark.parametrize("method", METHODS)
def test_log_density_is_that_of_the_energy_with_the_noise_of_the_head(
    method: str, axes: str, sizes: str
):
    noise = {**REFINEMENT_HEAD["noise"], "axes": axes, "sizes": sizes}
    head = build_head(loss={"type": "SNLLoss"}, log_density={"method": method}, noise=noise)
    torch.nn.init.normal_(head.criterion.network[-1].weight)
    frames = build_frames((2,))
    frames.scores[0] = torch.tensor([0.9, 0.7])  # the order in which the head binds them
    (out,) = _refine(head, frames)
    energy = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    normalized = NormalizedEnergy(energy, out["boxes"], head.noise)
    detected = frames.boxes[0]
    expected = LogDensity(method)(normalized, out["f_refined"], detected, head.criterion)
    assert float(expected.std()) > 0
    torch.testing.assert_close(out["log_density"], expected, atol=1e-4, rtol=1e-4)


def test_log_density_changes_nothing_else_and_is_the_same_again():
    frames = build_frames()
    torch.manual_seed(0)
    plain, head = build_head(), build_head(log_density={"num_samples": 16, "num_rounds": 2})
    head.load_state_dict(plain.state_dict())
    first, second = _refine(head, frames), _refine(head, frames)
    for one, again, expected in zip(first, second, _refine(plain, frames), strict=True):
        assert set(one) == {*expected, "log_density"}
        assert all(torch.equal(one[name], expected[name]) for name in expected)
        assert bool(torch.isfinite(one["log_density"]).all())
        assert torch.equal(one["log_density"], again["log_density"])


def test_box_that_was_not_refined_has_no_log_density():
    (out,) = _refine(build_head(log_density={}, max_refined=1), build_frames((3,)))
    assert int(torch.isnan(out["log_density"]).sum()) == 2


def test_no_boxes_have_no_log_densities():
    for out in _refine(build_head(log_density={}), build_frames((0, 0))):
        assert out["log_density"].shape == (0,)


@pytest.mark.parametrize(
    ("loss", "options", "name"),
    [
        ("NCELoss", {"method": "exact"}, r"log_density\.method"),
        ("NCELoss", {"samples": 3}, "log_density"),
        ("ConfidenceLoss", {"method": "importance"}, "loss"),
        ("NCELoss", {"method": "learned"}, "loss"),
    ],
)
def test_options_that_do_not_fit_are_refused(loss: str, options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        build_head(loss={"type": loss}, log_density=options)
