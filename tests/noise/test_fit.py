from __future__ import annotations

import math

import pytest
import torch

from ebm3d.noise import BoxNoise
from ebm3d.noise.fit import fit_noise_stds

_STDS = torch.tensor([0.3, 0.1, 0.05, 0.04, 0.06, 0.02, 0.08, 0.9, 0.2], dtype=torch.float64)


def _pairs(generator: torch.Generator, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """True boxes of every heading, and boxes of one Gaussian around them."""
    true = torch.tensor([[20.0, 3.0, -1.7, 4.0, 1.7, 1.5, 0.0, 5.0, -2.0]], dtype=torch.float64)
    true = true.repeat(count, 1)
    true[:, 6] = torch.rand(count, dtype=torch.float64, generator=generator) * 6 - 3
    labels = torch.zeros(count, dtype=torch.int64)
    drawn = BoxNoise(_STDS.tolist(), (1.0,)).sample(true, labels, 1, generator)
    return true, drawn.boxes[:, 1]


def test_fit_of_gaussian_errors_is_their_standard_deviation(generator: torch.Generator):
    fitted = fit_noise_stds(*_pairs(generator))
    # Standard error of the 68 % quantile of |x|, relative: sqrt(p (1 - p) / n) / (2 pdf(1)).
    error = math.sqrt(0.6827 * 0.3173 / 20_000) / (2 * 0.24197)
    torch.testing.assert_close(fitted, _STDS, rtol=5 * error, atol=0)


def test_boxes_without_velocities_have_the_same_fit(generator: torch.Generator):
    true, detected = _pairs(generator, 50)
    expected = fit_noise_stds(true, detected)[:7]
    assert torch.equal(fit_noise_stds(true[:, :7], detected[:, :7]), expected)


def test_unknown_velocities_are_left_out_of_theirs_alone(generator: torch.Generator):
    true, detected = _pairs(generator, 50)
    rest = fit_noise_stds(true[10:], detected[10:])[7:]
    expected = torch.cat((fit_noise_stds(true, detected)[:7], rest))
    true[:4, 7:], true[4:10, 8] = math.nan, math.nan
    torch.testing.assert_close(fit_noise_stds(true, detected), expected)


@pytest.mark.parametrize(("value", "name"), [(math.nan, "velocities"), (math.inf, "true")])
def test_velocities_that_are_all_unknown_or_infinite_are_refused(value: float, name: str):
    true = torch.ones(3, 9)
    true[:, 8] = value
    with pytest.raises(ValueError, match=f"^{name} must be"):
        fit_noise_stds(true, torch.ones(3, 9))


def test_gross_errors_and_headings_flipped_by_pi_do_not_move_the_fit(generator: torch.Generator):
    true, detected = _pairs(generator)
    expected = fit_noise_stds(true, detected)
    flipped = detected.clone()
    flipped[::2, 6] += math.pi
    torch.testing.assert_close(fit_noise_stds(true, flipped), expected, atol=1e-12, rtol=0)
    detected[:200, :3] += 30.0
    torch.testing.assert_close(fit_noise_stds(true, detected), _STDS, rtol=0.06, atol=0)


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="N >= 1"):
        fit_noise_stds(torch.zeros(0, 7), torch.zeros(0, 7))


def test_invalid_pairs_are_refused_by_number():
    valid, invalid = torch.ones(3, 7), torch.ones(3, 7)
    invalid[2, 4] = 0
    with pytest.raises(ValueError, match=r"detected\[2\]"):
        fit_noise_stds(valid, invalid)
    with pytest.raises(ValueError, match=r"true\[2\]"):
        fit_noise_stds(invalid, valid)
