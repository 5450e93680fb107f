from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from ebm3d.evaluation.calibration import COVERAGES, LEVELS, CalibrationPairs, report_calibration
from ebm3d.evaluation.distribution_distances import energy_scores, miscalibration_area

STD = np.array([0.3, 0.2, 0.1, 0.25, 0.1, 0.15, 0.05])
VELOCITY_STD = np.array([0.4, 0.3])


def gaussian_pairs(
    rng: np.random.Generator, num: int, spread: float = 1.0, std: np.ndarray = STD
) -> CalibrationPairs:
    """Truths with some standard deviations; predictions that claim ``spread`` times as much."""
    truths = std * rng.normal(size=(num, len(std)))
    claimed = spread * std
    density = stats.norm(0.0, claimed)
    samples = claimed * rng.normal(size=(num, 8, len(std)))
    return CalibrationPairs(
        log_prob=density.logpdf(truths).sum(axis=1),
        pit=density.cdf(truths),
        squared_mahalanobis=np.square(truths / claimed).sum(axis=1),
        std=np.broadcast_to(claimed, (num, len(std))).copy(),
        errors=-truths,
        energy_scores=energy_scores(samples, truths),
        entropies=np.full(num, density.entropy().sum()),
    )


def test_pit_of_true_densities_is_uniform(rng):
    report = report_calibration(gaussian_pairs(rng, 4000))
    for counts in report.pit_counts:  # 5 standard errors: a p-value of 6e-7
        assert counts.sum() == 4000
        assert stats.chisquare(counts).pvalue > 6e-7


def test_nll_of_true_densities_is_their_entropy_and_its_standard_error_is_true(rng):
    reports = [report_calibration(gaussian_pairs(rng, 500)) for _ in range(200)]
    nll = np.array([r.nll for r in reports])
    claimed = np.array([r.nll_standard_error for r in reports])
    entropy = 0.5 * np.log(2 * math.pi * math.e * STD**2).sum()
    assert reports[0].entropy == pytest.approx(entropy)
    assert abs(nll.mean() - entropy) < 5 * nll.std() / math.sqrt(len(nll))
    # NLL of a 7-D Gaussian has variance 7 / 2.
    np.testing.assert_allclose(claimed.mean(), math.sqrt(3.5 / 500), rtol=0.02)
    assert nll.std() == pytest.approx(claimed.mean(), rel=5 / math.sqrt(2 * len(nll)))


@pytest.mark.parametrize("num", [100, 400, 1600])
def test_errors_of_true_densities_fall_with_the_root_of_their_number(rng, num):
    reports = [report_calibration(gaussian_pairs(rng, num)) for _ in range(40)]
    for name in ("ece", "qce"):
        values = np.array([getattr(r, name) for r in reports])
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert abs(values.mean() - reports[0].ece_by_chance) < 5 * error
    assert reports[0].ece_by_chance * math.sqrt(num) == pytest.approx(0.329, abs=0.003)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_miscalibration_area_is_that_of_the_closed_form(rng, spread):
    std = np.concatenate([STD, VELOCITY_STD])
    report = report_calibration(gaussian_pairs(rng, 4000, spread, std))
    shares = np.linspace(0.0, 1.0, 10001)
    inside = 2 * stats.norm.cdf(spread * stats.norm.ppf((1 + shares) / 2)) - 1
    joint = stats.chi2.cdf(spread**2 * stats.chi2.ppf(shares, 9), 9)
    tree = report.as_dict()
    assert list(tree["mca"]) == ["xyz", "size", "yaw", "velocity"]
    assert list(tree["sharpness"]) == ["x", "y", "z", "dx", "dy", "dz", "yaw", "vx", "vy"]
    area = np.abs(inside - shares).mean()
    np.testing.assert_allclose(list(tree["mca"].values()), area, atol=0.02)
    areas = report.miscalibration_area
    np.testing.assert_allclose(areas[:-1], area, atol=0.02)
    assert areas[-1] == pytest.approx(np.abs(joint - shares).mean(), abs=0.02)


def test_the_miscalibration_area_is_that_of_a_fine_grid(rng: np.random.Generator) -> None:
    values = rng.random(9) ** 2
    grid = (np.arange(200_000) + 0.5) / 200_000
    shares = np.searchsorted(np.sort(values), grid, side="right") / len(values)
    assert miscalibration_area(values) == pytest.approx(np.abs(shares - grid).mean(), abs=1e-5)
    assert miscalibration_area(np.zeros(5)) == pytest.approx(0.5)


def test_claims_of_twice_the_spread_give_the_closed_form_of_every_figure(rng):
    num, spread = 40000, 2.0
    report = report_calibration(gaussian_pairs(rng, num, spread))
    shares = stats.norm.cdf(spread * stats.norm.ppf(LEVELS))
    joint = stats.chi2.cdf(spread**2 * stats.chi2.ppf(LEVELS, 7), 7)
    tolerance = 5 * 0.5 / math.sqrt(num)
    for row, expected in zip(report.observed, [shares] * 7 + [joint], strict=True):
        np.testing.assert_allclose(row, expected, atol=tolerance)
    gaps = np.abs(shares - LEVELS)
    assert report.ece == pytest.approx(gaps.mean(), abs=tolerance)
    np.testing.assert_allclose(report.max_calibration_error[:7], gaps.max(), atol=tolerance)
    np.testing.assert_allclose(
        report.squared_calibration_error[:7], (gaps**2).mean(), atol=tolerance
    )
    assert report.qce == pytest.approx(np.abs(joint - LEVELS).mean(), abs=tolerance)
    central = 2 * stats.norm.cdf(spread * stats.norm.ppf((1 + np.array(COVERAGES)) / 2)) - 1
    ellipsoid = stats.chi2.cdf(spread**2 * stats.chi2.ppf(COVERAGES, 7), 7)
    np.testing.assert_allclose(report.coverage[:7], np.tile(central, (7, 1)), atol=tolerance)
    np.testing.assert_allclose(report.coverage[7], ellipsoid, atol=tolerance)
    np.testing.assert_allclose(report.sharpness, spread * STD)
    np.testing.assert_allclose(report.rms_standardized_error, 1 / spread, rtol=0.02)


def plain_energy_score(samples: np.ndarray, truth: np.ndarray, period: float) -> float:
    """Two loops over the samples of one pair."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        yaw = min(abs(a[6] - b[6] + k * period) for k in range(-9, 10))
        return math.sqrt(sum((a[i] - b[i]) ** 2 for i in range(6)) + yaw**2)

    num = len(samples)
    first = sum(distance(s, truth) for s in samples) / num
    second = sum(distance(a, b) for i, a in enumerate(samples) for b in samples[:i])
    return first - 0.5 * second / (num * (num - 1) / 2)


@pytest.mark.parametrize("period", [math.pi, 2 * math.pi])
def test_energy_scores_equal_two_loops(rng, period):
    samples, truths = rng.normal(size=(3, 6, 7)) * 3, rng.normal(size=(3, 7)) * 3
    expected = [plain_energy_score(samples[p], truths[p], period) for p in range(3)]
    np.testing.assert_allclose(energy_scores(samples, truths, period), expected, rtol=1e-12)


@pytest.mark.parametrize("num_samples", [2, 16])
def test_energy_score_of_a_gaussian_in_one_dimension_is_its_closed_form(rng, num_samples):
    """With two samples as well: the score is unbiased for any number of samples."""
    num, std, offset = 20000, 0.7, 0.9
    samples = np.zeros((num, num_samples, 7))
    samples[..., 4] = std * rng.normal(size=(num, num_samples))
    truths = np.zeros((num, 7))
    truths[:, 4] = offset
    z = offset / std
    expected = std * (
        z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi)
    )
    found = energy_scores(samples, truths)
    assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(num)


def test_pairs_without_a_density_are_counted_and_left_out(rng):
    pairs = gaussian_pairs(rng, 60)
    gone = {"log_prob": 3, "pit": 7, "squared_mahalanobis": 11, "std": 20, "energy_scores": 59}
    changed = {name: getattr(pairs, name).copy() for name in gone}
    for name, row in gone.items():
        changed[name][row] = np.nan
    changed["std"][30, 4] = 0.0
    report = report_calibration(dataclasses.replace(pairs, **changed))
    assert (report.num_pairs, report.num_without_density) == (54, 6)
    kept = np.setdiff1d(np.arange(60), [*gone.values(), 30])
    assert report.as_dict() == report_calibration(pairs.select(kept)).as_dict() | {
        "num_without_density": 6
    }


def test_boxes_with_flipped_heading_are_counted_and_left_out_of_one_mean(rng):
    pairs = gaussian_pairs(rng, 20)
    pairs.errors[[2, 5], 6] = [3.0, -1.6]
    pairs.log_prob[[2, 5]] = -np.inf
    report = report_calibration(pairs)
    assert (report.num_pairs, report.num_flipped) == (20, 2)
    assert report.nll_not_flipped == pytest.approx(-np.delete(pairs.log_prob, [2, 5]).mean())
    assert report.nll == math.inf
    assert math.isfinite(report.nll_median)


@pytest.mark.parametrize("num", [0, 1])
def test_without_pairs_figures_are_none_and_not_errors(rng, num):
    tree = json.loads(json.dumps(report_calibration(gaussian_pairs(rng, num)).as_dict()))
    assert tree["num_pairs"] == sum(row["yaw"] for row in tree["pit_histogram"].values()) == num
    assert tree["nll"]["standard_error"] is None
    assert (
        (tree["ece"]["mean"] is None) == (tree["coverage"]["0.90"]["joint"] is None) == (num == 0)
    )


def test_shapes_that_do_not_fit_are_refused(rng):
    pairs = gaussian_pairs(rng, 5)
    with pytest.raises(ValueError, match=r"pit must have shape \(5, 7\) for 5 pairs"):
        dataclasses.replace(pairs, pit=pairs.pit[:, :6])
    with pytest.raises(ValueError, match="samples must have shape"):
        energy_scores(np.zeros((4, 3, 7)), np.zeros((5, 7)))
    with pytest.raises(ValueError, match="samples must be at least two a pair"):
        energy_scores(np.zeros((5, 1, 7)), np.zeros((5, 7)))
