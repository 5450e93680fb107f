"""The normalized log density that an energy-based head predicts for its boxes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

pytest.importorskip("mmdet3d")

from ebm3d.boxes.codings import LocalCoding
from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

HEIGHT, STD = 3.0, 0.4


def _refine(head: Any, frames: Frames) -> list[dict[str, Tensor]]:
    return head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)


class _Gaussian:
    """f of a Gaussian of residuals from the detected boxes, HEIGHT above its log density."""

    def __init__(self, head: Any, boxes: Tensor, labels: Tensor) -> None:
        self.labels = labels
        self.coding = LocalCoding(boxes, head.noise.noise_std(boxes, labels))

    def log_prob(self, boxes: Tensor) -> Tensor:
        residuals = Normal(0, STD).log_prob(self.coding.encode(boxes)).sum(-1)
        return residuals - self.coding.log_volume(boxes)

    def __call__(self, boxes: Tensor) -> Tensor:
        if boxes.ndim == 2:
            return HEIGHT + self.log_prob(boxes)
        return HEIGHT + self.log_prob(boxes.transpose(0, 1)).transpose(0, 1)


# As the 2020 paper's: along x and y, sizes in meters.
_METRIC = {**REFINEMENT_HEAD["noise"], "axes": "world", "sizes": "metric"}
every_noise = pytest.mark.parametrize(
    "noise", [REFINEMENT_HEAD["noise"], _METRIC], ids=["box", "metric"]
)


@every_noise
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        # Five standard errors; the last of four rounds keeps most samples of a Gaussian.
        ({"method": "importance", "num_samples": 2048, "num_rounds": 4}, 5 / math.sqrt(1000)),
        # Differences of the gradient in float32.
        ({"method": "laplace"}, 0.02),
    ],
    ids=["importance", "laplace"],
)
def test_log_density_of_a_gaussian_energy_is_that_of_the_gaussian(
    options: dict[str, Any], tolerance: float, noise: dict[str, Any]
):
    head, frames = build_head(log_density=options, noise=noise), build_frames((3,))
    frames.scores[0] = torch.tensor([0.9, 0.7, 0.5])  # the order in which the head binds them
    energy = _Gaussian(head, frames.boxes[0], frames.labels[0])
    head.make_energy = lambda *_: energy
    (out,) = _refine(head, frames)
    expected = energy.log_prob(out["boxes"])
    torch.testing.assert_close(out["log_density"], expected, atol=tolerance, rtol=0)


@every_noise
def test_learned_normalizer_is_that_of_the_loss_at_the_detected_box(noise: dict[str, Any]):
    head = build_head(loss={"type": "SNLLoss"}, log_density={"method": "learned"}, noise=noise)
    torch.nn.init.normal_(head.criterion.network[-1].weight)
    frames = build_frames((2,))
    frames.scores[0] = torch.tensor([0.9, 0.7])
    (out,) = _refine(head, frames)
    energy = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    noise_std = head.noise.noise_std(frames.boxes[0], frames.labels[0])
    with torch.no_grad():
        b = head.criterion.log_normalizer(energy, frames.boxes[0], noise_std)
    assert float(b.std()) > 0
    torch.testing.assert_close(out["log_density"], out["f_refined"] - b, atol=1e-4, rtol=1e-4)


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
