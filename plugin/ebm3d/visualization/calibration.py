"""Pictures of calibration: reliability of each dimension and of all at once, and PIT histograms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from ebm3d.datasets.atomic import replacing
from ebm3d.evaluation.calibration import LEVELS, NUM_BINS, CalibrationReport
from ebm3d.visualization.frame import REFINED

_BOX_NAMES = ("x / along", "y / across", "z / up", "length", "width", "height", "yaw")
_VELOCITY_NAMES = ("vx", "vy")
_BAND_COLOR = "#D9D9D9"
_TRUE_COLOR = "#555555"
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_PERCENTS = ("0", "25", "50", "75", "100")
_HIGHEST = 4.0  # bars above are cut and say their height
_HINTS = (
    "Histograms: a valley means densities too narrow, a hill too wide, a slope a shift. "
    "Joint: true boxes in growing ellipsoids.\n"
    "Gray: with as many pairs, calibrated densities stay inside 95 times of 100."
)


def write_calibration_picture(path: str | Path, report: CalibrationReport, title: str) -> None:
    """Write a PNG of how predicted densities are calibrated; its folder is made if absent."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        calibration_figure(report, title).savefig(partial, dpi=130)


def calibration_figure(report: CalibrationReport, title: str) -> Any:
    """Return the matplotlib figure of :func:`write_calibration_picture`.

    For each dimension and for the squared Mahalanobis distance: the share of true values below each
    claimed quantile, above the histogram of the distribution functions at the true values.
    """
    from matplotlib.figure import Figure

    names = (*_BOX_NAMES, *_VELOCITY_NAMES)[: len(report.dimensions)] + ("joint (all)",)
    num_columns = len(names) // 2
    figure = Figure(figsize=(3.1 * num_columns, 12.0), layout="constrained")
    blocks: Any = figure.subfigures(2, 1, hspace=0.03)
    panels = [block.subplots(2, num_columns, height_ratios=(1.85, 1)) for block in blocks]
    for row, name in enumerate(names):
        block, column = divmod(row, num_columns)
        above, below = panels[block][:, column]
        _draw_reliability(above, report, row)
        _draw_histogram(below, report, row)
        error = report.calibration_error[row]
        measure = "QCE" if row == len(names) - 1 else "ECE"
        shown = "-" if math.isnan(error) else f"{error:.3f}"
        above.set_title(name, fontsize=11.5, fontweight="bold", loc="left")
        above.set_title(f"{measure} {shown}", fontsize=10.5, loc="right", color=REFINED.color)
        if column == 0:
            above.set_ylabel("share of true values (%)")
            below.set_ylabel("relative frequency")
    figure.suptitle(f"{title}\n{_summary(report)}", fontsize=13)
    figure.supxlabel(_HINTS, fontsize=10, color=_TRUE_COLOR)
    return figure


def _draw_reliability(axes: Any, report: CalibrationReport, row: int) -> None:
    """Share of true values below each claimed quantile."""
    axes.plot((0, 1), (0, 1), color=_TRUE_COLOR, linewidth=1.0, linestyle=(0, (4, 3)), zorder=2)
    if report.num_pairs:
        levels = np.linspace(0.0, 1.0, 101)
        low, high = _chance_band(report.num_pairs, levels)
        axes.fill_between(levels, low, high, color=_BAND_COLOR, linewidth=0, zorder=1)
        shares = report.observed[row]
        axes.fill_between(LEVELS, LEVELS, shares, color=REFINED.color, alpha=0.15, linewidth=0)
        marker = {"marker": "o", "ms": 4.5, "mec": "white", "mew": 0.7}
        axes.plot(LEVELS, shares, color=REFINED.color, linewidth=1.8, zorder=3, **marker)
    axes.set_aspect("equal")
    axes.set_yticks(_TICKS, labels=_PERCENTS)
    _finish(axes, "claimed probability (%)", 1.0)


def _draw_histogram(axes: Any, report: CalibrationReport, row: int) -> None:
    """Frequencies of the distribution functions at the true values; 1 where calibrated."""
    if report.num_pairs:
        scale = NUM_BINS / report.num_pairs
        low, high = _chance_band(report.num_pairs, np.array([1.0 / NUM_BINS]))
        axes.axhspan(low[0] * NUM_BINS, high[0] * NUM_BINS, color=_BAND_COLOR, linewidth=0)
        centers = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
        heights = report.pit_counts[row] * scale
        axes.bar(centers, heights, width=0.86 / NUM_BINS, color=REFINED.color, alpha=0.85, zorder=2)
        text = {"fontsize": 8, "ha": "center", "color": REFINED.color}
        for center, height in zip(centers, heights, strict=True):
            if height > _HIGHEST:
                axes.text(center, 1.02 * _HIGHEST, f"{height:.1f}", **text)
    axes.axhline(1.0, color=_TRUE_COLOR, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    _finish(axes, "distribution function at the true value (%)", _HIGHEST)


def _chance_band(num_pairs: int, levels: NDArray[np.float64]) -> tuple[Any, Any]:
    """Between which shares 95 % of true densities lie at each level."""
    low, high = (binom.ppf(p, num_pairs, levels) / num_pairs for p in (0.025, 0.975))
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _summary(report: CalibrationReport) -> str:
    """The figures under the title."""
    if not report.num_pairs:
        return "no pairs of a predicted density and a true box"
    left_out = f" ({report.num_without_density} without density)"
    return (
        f"{report.num_pairs} pairs{left_out if report.num_without_density else ''},  "
        f"NLL {report.nll:.2f} nats,  energy score {report.energy_score:.3f},  "
        f"ECE {report.ece:.3f}  (by chance {report.ece_by_chance:.3f})"
    ).replace("-", "\N{MINUS SIGN}")


def _finish(axes: Any, label: str, top: float) -> None:
    """Limits, ticks in percent, and light lines to read values."""
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, top)
    axes.set_xticks(_TICKS, labels=_PERCENTS)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8, length=2.5)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
