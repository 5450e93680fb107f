from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import LogDensity, NormalizedEnergy
from tests.energy.gaussian_energy import CONSTANT, NOISE, GaussianEnergy


class _Criterion:
    """A training method that learned a wrong normalizer, of the detected box."""

    is_density = True

    def log_normalizer(self, f: Any, boxes: Tensor, noise_std: Tensor) -> Tensor:
        """The first coordinate and the first unit."""
        return boxes[:, 0] + noise_std[:, 0]


def _near(f: GaussianEnergy) -> Tensor:
    """Boxes beside the modes."""
    coding = LocalCoding(f.boxes, f.coding.noise_std)
    return coding.decode(0.2 * torch.randn_like(f.boxes))


def _found(f: GaussianEnergy, boxes: Tensor, *options: Any) -> Tensor:
    normalized = NormalizedEnergy(f, boxes, NOISE)
    return LogDensity(*options)(normalized, f(boxes), f.boxes, _Criterion())


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        # Five standard errors; the last of four rounds keeps most samples of a Gaussian.
        (("importance", 2048, 4), 5 / 1000**0.5),
        # At the mode f is quadratic in the residuals; beside it nearly so.
        (("laplace",), 0.02),
    ],
    ids=["importance", "laplace"],
)
def test_log_density_of_a_gaussian_energy_is_the_gaussians(options: Any, tolerance: float):
    f = GaussianEnergy(4)
    boxes = _near(f)
    torch.testing.assert_close(
        _found(f, boxes, *options), f.log_prob(boxes), atol=tolerance, rtol=0
    )


def test_learned_normalizer_is_asked_for_at_the_detected_box():
    f = GaussianEnergy(4)
    boxes = _near(f)
    b = f.boxes[:, 0] + NOISE.noise_std(f.boxes, f.labels)[:, 0]
    torch.testing.assert_close(
        _found(f, boxes, "learned"), f.log_prob(boxes) + CONSTANT - b, atol=1e-12, rtol=0
    )


def test_box_whose_f_is_no_number_has_no_log_density():
    f = GaussianEnergy(2)
    value = torch.tensor([torch.nan, torch.inf], dtype=torch.float64)
    found = LogDensity("learned")(NormalizedEnergy(f, f.boxes, NOISE), value, f.boxes, _Criterion())
    assert bool(torch.isnan(found).all())


@pytest.mark.parametrize("method", ["importance", "laplace", "learned"])
def test_no_boxes_have_no_log_densities(method: str):
    f = GaussianEnergy(0)
    assert _found(f, f.boxes, method).shape == (0,)


@pytest.mark.parametrize("options", [("exact",), ("importance", 0), ("importance", 8, 0)], ids=str)
def test_options_are_checked(options: Any):
    with pytest.raises(ValueError, match=r"log_density\."):
        LogDensity(*options)


def test_training_method_whose_f_cannot_be_normalized_so_is_refused():
    with pytest.raises(ValueError, match=r"makes f a log density.*SimpleNamespace"):
        LogDensity().check(SimpleNamespace(is_density=False))
    with pytest.raises(ValueError, match="SNLLoss"):
        LogDensity("learned").check(SimpleNamespace(is_density=True))
    LogDensity("learned").check(_Criterion())
