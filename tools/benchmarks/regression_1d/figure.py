"""Learned densities beside the true ones, as small pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regression_1d.problem import PROBLEMS, RANGE

WIDTH, HEIGHT, EXTENT = 180, 160, 1.5  # of a picture; y is shown between minus and plus EXTENT
_NUM_COLUMNS = 6

Panel = tuple[str, Tensor, float]
"""Title, density ``(WIDTH, HEIGHT)``, divergence."""


@torch.no_grad()
def density_picture(log_density: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Densities ``(K, WIDTH, HEIGHT)``, normalized over the whole range of y."""
    x, y = torch.linspace(-RANGE, RANGE, WIDTH), torch.linspace(-RANGE, RANGE, 2 * HEIGHT)
    density = log_density(x, y).softmax(-1) / (y[1] - y[0])
    return density[..., HEIGHT // 2 : -HEIGHT // 2]


def write_figure(path: Path, panels: Mapping[str, Sequence[Panel]]) -> None:
    """Write a PNG of panels by problem, the true density before each group.

    Colors are the square root of the density, so that faint modes show, the same for all panels of
    a problem; the densest hundredth of the true density, and what is above, share one color.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    heights = [-(-(len(group) + 1) // _NUM_COLUMNS) for group in panels.values()]
    size = (2.05 * _NUM_COLUMNS, 1.0 + 2.0 * sum(heights) + 0.5 * len(heights))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle("p(y | x), square root of the density; at the right the divergence, nats")
    blocks = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)
    for block, height, (name, group) in zip(blocks[:, 0], heights, panels.items(), strict=True):
        problem = PROBLEMS[name]
        title = f"{name}: {problem.title}"
        block.suptitle(title, fontsize=11, x=0.01, ha="left", fontweight="bold")
        truth = density_picture(lambda x, y, p=problem: p.log_density(x[:, None], y)[None])[0]
        axes = block.subplots(height, _NUM_COLUMNS, sharex=True, sharey=True, squeeze=False)
        brightest = float(truth.quantile(0.99).sqrt())
        for place in axes.flat[len(group) + 1 :]:
            place.set_axis_off()
        shown = [("true density", truth, None), *group]
        for place, (panel_title, density, kl) in zip(axes.flat, shown, strict=False):
            _draw(place, panel_title, density.float().sqrt().T, kl, brightest)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    # One color map needs few colors: a third of the size.
    Image.open(drawn).convert("RGB").quantize(128).save(path, optimize=True)


def _draw(axes: Any, title: str, image: Tensor, kl: float | None, brightest: float) -> None:
    """One density."""
    extent = (-RANGE, RANGE, -EXTENT, EXTENT)
    axes.imshow(
        image, origin="lower", extent=extent, aspect="auto", cmap="magma_r", vmin=0, vmax=brightest
    )
    axes.set_title(title, fontsize=8.5, loc="left", pad=3)
    if kl is not None:
        axes.set_title(f"{kl:.3f}", fontsize=8.5, loc="right", pad=3, color="#555555")
    axes.set_xticks((-3, 0, 3))
    axes.set_yticks((-1, 0, 1))
    axes.tick_params(labelsize=7.5, length=2.5)
