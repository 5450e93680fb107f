r"""Calibration of predicted box densities.

P pairs of a predicted density and a true box; D dimensions of the residuals, 7 or with velocities
9; S samples; J levels. x, y and z are the axes of the LiDAR where residuals are taken from anchors,
and along, across and up where they are taken from a box that is refined. docs/method.md, M-16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, sem

from ebm3d.errors import shape_error
from ebm3d.evaluation.distribution_distances import miscalibration_area

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DIMENSIONS = ("x", "y", "z", "dx", "dy", "dz", "yaw")
VELOCITIES = ("vx", "vy")
"""What boxes of nine columns have beside ``DIMENSIONS``."""
GROUPS = {
    "xyz": DIMENSIONS[:3],
    "size": DIMENSIONS[3:6],
    "yaw": DIMENSIONS[6:],
    "velocity": VELOCITIES,
}
"""Dimensions whose miscalibration is averaged."""
# Without 0 and 1, where every prediction is calibrated.
LEVELS: FloatArray = np.arange(1, 16) / 16
COVERAGES = (0.5, 0.8, 0.9, 0.95)
NUM_BINS = 20


def dimensions_of(num_columns: int) -> tuple[str, ...]:
    """Return the names of the dimensions of boxes of seven columns, or of nine."""
    return (*DIMENSIONS, *VELOCITIES) if num_columns > len(DIMENSIONS) else DIMENSIONS


@dataclass(frozen=True, eq=False)
class CalibrationPairs:
    """What each predicted density says about the true box it is paired with.

    A pair with NaN anywhere, or a standard deviation that is not positive and finite, is one
    without a density.

    Args:
        log_prob: log density of the true box, nats, in meters, radians and m/s, ``(P,)``.
        pit: marginal distribution functions at the true box, ``(P, D)``, in [0, 1].
        squared_mahalanobis: of the true box under mean and covariance of the density, ``(P,)``.
        std: standard deviations, LiDAR frame, ``(P, D)``, meters, radians and m/s.
        errors: predicted box minus true box, ``(P, D)``.
        energy_scores: of ``distribution_distances.energy_scores``, ``(P,)``.
        entropies: of the densities, nats, in the units of ``log_prob``, ``(P,)``.

    Raises:
        ValueError: if a shape does not fit.
    """

    log_prob: FloatArray
    pit: FloatArray
    squared_mahalanobis: FloatArray
    std: FloatArray
    errors: FloatArray
    energy_scores: FloatArray
    entropies: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes."""
        num = len(self.log_prob)
        width = len(dimensions_of(np.shape(self.pit)[-1]))
        for name, value in vars(self).items():
            expected = (num, width) if name in ("pit", "std", "errors") else (num,)
            if np.shape(value) != expected:
                raise shape_error(name, f"{expected} for {num} pairs", value)

    def __len__(self) -> int:
        """P."""
        return len(self.log_prob)

    def select(self, which: NDArray[np.bool_] | IntArray) -> CalibrationPairs:
        """Return the pairs chosen by a mask ``(P,)`` or by indices."""
        return CalibrationPairs(**{name: value[which] for name, value in vars(self).items()})

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Which pairs have a density, ``(P,)``."""
        table = np.column_stack(list(vars(self).values()))
        known: NDArray[np.bool_] = ~np.isnan(table).any(axis=1)
        return known & ((self.std > 0) & np.isfinite(self.std)).all(axis=1)

    @property
    def is_flipped(self) -> NDArray[np.bool_]:
        """Which predicted headings are off by more than a quarter turn, ``(P,)``."""
        return np.asarray(np.abs(self.errors[:, 6]) > math.pi / 2)


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    r"""Calibration of a set of predicted densities; NaN where there are no pairs.

    Args:
        num_pairs: n, pairs with a density; all figures are of these.
        num_without_density: pairs left out for want of a density.
        num_flipped: pairs of the n whose predicted heading is flipped by pi.
        nll: mean negative log density of the true boxes, nats, in meters, radians and m/s.
        nll_median: the median.
        nll_standard_error: of the mean, pairs taken as independent.
        nll_not_flipped: mean over the pairs whose heading is not flipped.
        entropy: mean entropy, in the units of ``nll``, which it equals if the densities are true.
        energy_score: mean of the energy scores.
        observed: share of true values at or below each level of ``LEVELS``, ``(D + 1, 15)``, the
            last row for the squared Mahalanobis distance.
        pit_counts: histogram over [0, 1] of the probability integral transforms, ``(D + 1, 20)``.
        coverage: share of true values in the central interval (last row: the ellipsoid) of each
            probability in ``COVERAGES``, ``(D + 1, 4)``.
        miscalibration_area: area between the share of true values in central intervals (last row:
            ellipsoids), as a function of their probability, and the diagonal, ``(D + 1,)``.
        sharpness: mean standard deviation of each dimension, ``(D,)``, meters, radians and m/s.
        rms_standardized_error: root mean square of error over standard deviation, ``(D,)``; 1 if
            the variances are true.
    """

    num_pairs: int
    num_without_density: int
    num_flipped: int
    nll: float
    nll_median: float
    nll_standard_error: float
    nll_not_flipped: float
    entropy: float
    energy_score: float
    observed: FloatArray
    pit_counts: IntArray
    coverage: FloatArray
    miscalibration_area: FloatArray
    sharpness: FloatArray
    rms_standardized_error: FloatArray

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the D dimensions."""
        return dimensions_of(len(self.sharpness))

    @property
    def calibration_error(self) -> FloatArray:
        """Mean absolute difference of share and level, ``(D + 1,)``; the last one is joint."""
        return np.abs(self.observed - LEVELS).mean(axis=1)

    @property
    def squared_calibration_error(self) -> FloatArray:
        """Mean squared difference, ``(D + 1,)``."""
        return np.square(self.observed - LEVELS).mean(axis=1)

    @property
    def max_calibration_error(self) -> FloatArray:
        """Largest absolute difference, ``(D + 1,)``."""
        return np.abs(self.observed - LEVELS).max(axis=1)

    @property
    def ece(self) -> float:
        """The absolute calibration error, mean over the dimensions."""
        return float(self.calibration_error[:-1].mean())

    @property
    def qce(self) -> float:
        """The absolute calibration error of the squared Mahalanobis distance."""
        return float(self.calibration_error[-1])

    @property
    def groups(self) -> tuple[str, ...]:
        """Those of ``GROUPS`` that the densities have."""
        return tuple(name for name, part in GROUPS.items() if part[0] in self.dimensions)

    def mca(self, group: str) -> float:
        """Return the miscalibration area, mean over the dimensions of one of ``GROUPS``."""
        rows = [self.dimensions.index(name) for name in GROUPS[group]]
        return float(self.miscalibration_area[rows].mean())

    @property
    def ece_by_chance(self) -> float:
        r"""What :attr:`ece` and :attr:`qce` of true densities are in expectation, near 0.33 / √n.

        A share of n draws misses its level p by :math:`E|X/n - p|` with X binomial, in closed form
        :math:`\frac{2}{n} m (1 - p) \binom nm p^m (1 - p)^{n - m}` with
        :math:`m = \lfloor np \rfloor + 1` (De Moivre).
        """
        num = self.num_pairs
        if num == 0:
            return math.nan
        above = np.floor(num * LEVELS) + 1
        return float((2 * above * (1 - LEVELS) * binom.pmf(above, num, LEVELS) / num).mean())

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a tree of numbers; ``None`` where there are no pairs."""
        rows = (*self.dimensions, "joint")

        def by_row(values: FloatArray, with_mean: bool = False) -> dict[str, float | None]:
            row = {name: _number(v) for name, v in zip(rows, values, strict=False)}
            return row | ({"mean": _number(values.mean())} if with_mean else {})

        levels = [f"{level:.4f}" for level in LEVELS]
        coverages = [f"{share:.2f}" for share in COVERAGES]
        return {
            "num_pairs": self.num_pairs,
            "num_without_density": self.num_without_density,
            "num_turned": self.num_flipped,
            "nll": {
                "mean": _number(self.nll),
                "median": _number(self.nll_median),
                "standard_error": _number(self.nll_standard_error),
                "not_turned": _number(self.nll_not_flipped),
            },
            "entropy": _number(self.entropy),
            "energy_score": _number(self.energy_score),
            "ece": by_row(self.calibration_error[:-1], with_mean=True),
            "ece_squared": by_row(self.squared_calibration_error[:-1], with_mean=True),
            "ece_max": by_row(self.max_calibration_error[:-1], with_mean=True),
            "ece_by_chance": _number(self.ece_by_chance),
            "qce": _number(self.qce),
            "qce_max": _number(self.max_calibration_error[-1]),
            "mca": {name: _number(self.mca(name)) for name in self.groups},
            "sharpness": by_row(self.sharpness),
            "rms_standardized_error": by_row(self.rms_standardized_error),
            "coverage": dict(zip(coverages, map(by_row, self.coverage.T), strict=True)),
            "reliability": dict(zip(levels, map(by_row, self.observed.T), strict=True)),
            "pit_histogram": {
                f"{i / NUM_BINS:.2f}": dict(zip(rows, counts, strict=True))
                for i, counts in enumerate(self.pit_counts.T.tolist())
            },
        }


def report_calibration(pairs: CalibrationPairs) -> CalibrationReport:
    r"""Measure the calibration of predicted densities.

    With :math:`u_{nd}` the marginal distribution functions at the true boxes and
    :math:`u_{n,D+1} = F_{\chi^2_D}(m_n^2)` that of the squared Mahalanobis distance,

    .. math::
        \hat p_{jd} = \frac1n \sum_n [u_{nd} \le p_j], \qquad
        \mathrm{ECE}_d = \frac1J \sum_j |\hat p_{jd} - p_j|, \qquad p_j = \frac{j}{J + 1}

    and QCE is the same of d = D + 1. Sources: Kuleshov, Fenner, Ermon, ICML 2018 (their calibration
    error is the weighted squared form, reported beside); Küppers, Schneider, Haselhoff, 2022 (QCE).
    Our deviations: 15 levels inside (0, 1); the absolute form is the one called ECE. The joint
    figures suppose a Gaussian, of which :math:`m^2` is chi-squared. The miscalibration area is that
    of Tran et al., Mach. Learn.: Sci. Technol. 1 025006, 2020 (the MCA of Query2Uncertainty, arXiv
    2605.05328, there in percent, without published code). docs/method.md, M-16.
    """
    known = pairs.select(pairs.is_known)
    num = len(known)
    joint = chi2.cdf(known.squared_mahalanobis, df=known.pit.shape[1])
    pit = np.column_stack([np.clip(known.pit, 0.0, 1.0), joint])
    inside = np.column_stack([np.abs(2 * known.pit - 1), joint])
    nll = -known.log_prob
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in pit.T]).astype(np.int64)
    return CalibrationReport(
        num_pairs=num,
        num_without_density=len(pairs) - num,
        num_flipped=int(known.is_flipped.sum()),
        nll=_mean(nll),
        nll_median=float(np.median(nll)) if num else math.nan,
        nll_standard_error=float(sem(nll)) if num > 1 and np.isfinite(nll).all() else math.nan,
        nll_not_flipped=_mean(nll[~known.is_flipped]),
        entropy=_mean(known.entropies),
        energy_score=_mean(known.energy_scores),
        observed=_means(pit.T[:, None] <= LEVELS[:, None]),
        pit_counts=counts,
        coverage=_means(inside.T[:, None] <= np.array(COVERAGES)[:, None]),
        miscalibration_area=np.array([*map(miscalibration_area, inside.T)]),
        sharpness=_means(known.std.T),
        rms_standardized_error=np.sqrt(_means(np.square(known.errors / known.std).T)),
    )


def _mean(values: FloatArray) -> float:
    """The mean, NaN of nothing."""
    return float(values.mean()) if values.size else math.nan


def _means(values: NDArray[Any]) -> FloatArray:
    """Means over the last axis, NaN where it is empty."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(values.mean(axis=-1), dtype=np.float64)


def _number(value: float) -> float | None:
    """A figure of the tree."""
    return None if math.isnan(value) else float(value)
