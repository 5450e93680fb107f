"""Learned densities beside the true ones, as small pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.benchmarks.regression_1d.problem import RANGE, Problem

WIDTH, HEIGHT = 180, 160
LOWEST, HIGHEST = -1.5, 1.5
_NUM_COLUMNS = 6


@dataclass(frozen=True)
class Panel:
    """One small picture.

    Attributes:
        title: above it.
        density: p(y | x) ``(WIDTH, HEIGHT)`` on :func:`picture_points`.
        note: beside the title, such as a divergence.
    """

    title: str
    density: NDArray[np.floating[Any]]
    note: str = ""


def picture_points() -> tuple[torch.Tensor, torch.Tensor]:
    """Return x ``(WIDTH,)`` and y over the whole range, of which a part is shown."""
    step = (HIGHEST - LOWEST) / (HEIGHT - 1)
    beyond = round((RANGE - HIGHEST) / step)
    y = torch.linspace(LOWEST - beyond * step, HIGHEST + beyond * step, HEIGHT + 2 * beyond)
    return torch.linspace(-RANGE, RANGE, WIDTH), y


def true_panel(problem: Problem) -> Panel:
    """Return the panel of the true density."""
    x, y = picture_points()
    masses = torch.softmax(problem.log_density(x.double()[:, None], y.double()), dim=-1)
    return Panel("true density", shown_part(masses / (y[1] - y[0])).numpy())


def shown_part(density: torch.Tensor) -> torch.Tensor:
    """Return what is shown of densities on :func:`picture_points`, ``(..., WIDTH, HEIGHT)``."""
    beyond = (density.shape[-1] - HEIGHT) // 2
    return density[..., beyond : beyond + HEIGHT]


def write_densities_picture(
    path: str | Path, panels: Sequence[tuple[str, Sequence[Panel]]], title: str
) -> None:
    """Write a PNG of densities.

    Args:
        path: the file; its folder is made if absent.
        panels: for each problem its title and panels, the true density first.
        title: of the picture.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    drawn = io.BytesIO()
    densities_figure(panels, title).savefig(drawn, dpi=80)
    # One color map needs few colors: a third of the size, to be kept under version control.
    Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)


def densities_figure(panels: Sequence[tuple[str, Sequence[Panel]]], title: str) -> Any:
    """Return the matplotlib figure of :func:`write_densities_picture`.

    Colors are the square root of the density, the same for all panels of a problem, so that faint
    modes show; the densest hundredth of the true density, and what is above, share one color.
    """
    from matplotlib.figure import Figure

    heights = [-(-len(group) // _NUM_COLUMNS) for _, group in panels]
    size = (2.05 * _NUM_COLUMNS, 1.0 + 2.0 * sum(heights) + 0.5 * len(heights))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=12)
    blocks: Any = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)
    for block, height, (name, group) in zip(blocks[:, 0], heights, panels, strict=True):
        block.suptitle(name, fontsize=11, x=0.01, ha="left", fontweight="bold")
        axes = block.subplots(height, _NUM_COLUMNS, sharex=True, sharey=True, squeeze=False)
        brightest = float(np.sqrt(np.quantile(group[0].density, 0.99)))
        for index, place in enumerate(axes.flat):
            if index >= len(group):
                place.set_axis_off()
                continue
            _draw(place, group[index], brightest)
    return figure


def _draw(axes: Any, panel: Panel, brightest: float) -> None:
    """One density."""
    axes.imshow(
        np.sqrt(panel.density.T),
        origin="lower",
        extent=(-RANGE, RANGE, LOWEST, HIGHEST),
        aspect="auto",
        cmap="magma_r",
        vmin=0,
        vmax=brightest,
        interpolation="nearest",
    )
    axes.set_title(panel.title, fontsize=8.5, loc="left", pad=3)
    axes.set_title(panel.note, fontsize=8.5, loc="right", pad=3, color="#555555")
    axes.set_xticks((-3, 0, 3))
    axes.set_yticks((-1, 0, 1))
    axes.tick_params(labelsize=7.5, length=2.5)
