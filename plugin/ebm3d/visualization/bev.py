"""A frame seen from above: the whole of it, and the boxes that refinement moved most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import bev_corners
from ebm3d.boxes.iou import iou_3d
from ebm3d.datasets.atomic import replacing
from ebm3d.visualization.frame import (
    AXES,
    CLASS_MARKS,
    GROUND_TRUTH,
    INITIAL,
    MIN_SCORE,
    REFINED,
    BoxStyle,
    FloatArray,
    RefinedFrame,
)
from ebm3d.visualization.motion import (
    draw_lag_scale,
    lag_colors,
    near_arrow_ends,
    velocity_arrows,
    without_repeats,
)

_MAX_POINTS = 60_000
_NUM_CLOSE_UPS = 4
_VIEW_MARGIN = 3.0  # meters around what is shown
_CLOSE_UP_MARGIN = 0.7
_LONG_ID = 16  # letters beyond which a title takes two lines, as for tokens of nuScenes
_THIN = 0.6  # of a line's width where boxes are many and small


def write_bev_picture(
    path: str | Path, frame: RefinedFrame, *, min_score: float = MIN_SCORE
) -> None:
    """Write a PNG of a frame from above, with close-ups of the boxes refinement moved most.

    A close-up's title says how far the corners moved, f before and after, and, where true boxes
    are known, the largest 3D IoU with one. Detections below ``min_score`` are left out.
    """
    with replacing(path) as partial:
        bev_figure(frame.above(min_score)).savefig(partial, dpi=130)


def bev_figure(frame: RefinedFrame) -> Any:
    """Return the matplotlib figure of :func:`write_bev_picture`, every box of ``frame`` in it."""
    from matplotlib.figure import Figure

    chosen = frame.most_changed(_NUM_CLOSE_UPS)
    figure = Figure(figsize=(13.5, 7.2), layout="constrained")
    rows, columns = max(1, min(2, len(chosen))), -(-len(chosen) // 2)
    grid = figure.add_gridspec(rows, 2 + columns)
    _draw_whole(figure.add_subplot(grid[:, :2]), frame, chosen)
    for index, row in enumerate(chosen):
        axes = figure.add_subplot(grid[index // columns, 2 + index % columns])
        _draw_close_up(axes, frame, row, index + 1)
    if frame.longest_lag:
        draw_lag_scale(figure.add_axes((0.79, 0.03, 0.16, 0.014)), frame.longest_lag)
    handles = [style.legend_line() for _, style in frame.kinds()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def signed(value: float, digits: int) -> str:
    """Return a number for a title: a true minus sign, and none before a rounded zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _draw_boxes(axes: Any, boxes: FloatArray, style: BoxStyle, *, scale: float = 1.0) -> None:
    """Draw outlines of boxes, each with a stroke from the center to the front, and arrows."""
    corners = bev_corners(torch.as_tensor(boxes[:, :7], dtype=torch.float64)).numpy()
    line = {"color": style.color, "linestyle": style.dashes, "linewidth": style.width * scale}
    for box, corner in zip(boxes, corners, strict=True):
        outline = np.concatenate((corner, corner[:1]))
        axes.plot(outline[:, 0], outline[:, 1], solid_joinstyle="miter", **line)
        front = (corner[0] + corner[3]) / 2
        axes.plot([box[0], front[0]], [box[1], front[1]], **line)
    arrows = velocity_arrows(boxes)[..., :2]
    if len(arrows):
        place = (*arrows[:, 0].T, *(arrows[:, 1] - arrows[:, 0]).T)
        size = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "dots"}
        axes.quiver(*place, color=style.color, width=1.5 * style.width * scale, zorder=3, **size)


def _draw_points(axes: Any, frame: RefinedFrame, near: NDArray[np.bool_], *, size: float) -> None:
    """Draw chosen points, the latest last; of very large clouds every n-th, for small files."""
    points = frame.points[near]
    colors: Any = "#777777"
    if frame.lags is not None and frame.longest_lag:
        lags = frame.lags[near]
        rows = without_repeats(points, lags)
        rows = rows[:: max(1, -(-len(rows) // _MAX_POINTS))]
        points, colors = points[rows], lag_colors(lags[rows], frame.longest_lag) / 255
    x, y = points[:: max(1, -(-len(points) // _MAX_POINTS)), :2].T
    axes.scatter(x, y, s=size, c=colors, linewidths=0, rasterized=True)


def _draw_classes(axes: Any, frame: RefinedFrame) -> None:
    """Mark the refined boxes of each class that has a mark, and count them in a legend."""
    for name, (marker, color) in CLASS_MARKS.items():
        places = frame.refined[np.array(frame.names, dtype=object) == name, :2]
        if len(places):
            look = {"marker": marker, "c": color, "edgecolors": "black", "linewidths": 0.6}
            axes.scatter(*places.T, s=11, zorder=4, label=f"{name} ({len(places)})", **look)
    if axes.get_legend_handles_labels()[0]:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "ncols": 5}
        axes.legend(**place, frameon=False, fontsize=8, handletextpad=0.1, columnspacing=1.0)


def _draw_whole(axes: Any, frame: RefinedFrame, chosen: Sequence[int]) -> None:
    """All boxes, and all but the farthest strays among the points."""
    from matplotlib.patheffects import withStroke

    outline = withStroke(linewidth=3, foreground="white")
    _draw_points(axes, frame, np.ones(len(frame.points), dtype=bool), size=0.8)
    extent = [boxes[:, :2] for boxes, _ in frame.kinds()]
    extent += [velocity_arrows(boxes)[:, 1, :2] for boxes, _ in frame.kinds()]
    if len(frame.points):
        extent.append(np.quantile(frame.points[:, :2], (0.002, 0.998), axis=0))
    for boxes, style in frame.kinds():
        _draw_boxes(axes, boxes, style, scale=_THIN if frame.has_marks else 1.0)
    _draw_classes(axes, frame)
    refined = torch.as_tensor(frame.refined[chosen, :7], dtype=torch.float64)
    tops = bev_corners(refined)[..., 1].amax(1)
    for number, (x, top) in enumerate(zip(frame.refined[chosen, 0], tops, strict=True), 1):
        place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center"}
        text = {"fontsize": 10, "fontweight": "bold", "path_effects": [outline]}
        axes.annotate(str(number), (x, float(top)), **place, **text)
    shown = np.concatenate(extent)
    if len(shown):
        _set_view(axes, shown.min(axis=0) - _VIEW_MARGIN, shown.max(axis=0) + _VIEW_MARGIN)
    x, y = AXES[frame.forward]
    axes.set_xlabel(f"x, {x} (m)")
    axes.set_ylabel(f"y, {y} (m)")
    is_long = len(frame.frame_id) > _LONG_ID
    axes.set_title(frame.title.replace(": ", ":\n", 1) if is_long else frame.title)


def _draw_close_up(axes: Any, frame: RefinedFrame, row: int, number: int) -> None:
    """One box before and after, with what changed in the title."""
    rows = np.stack((frame.initial[row], frame.refined[row]))
    both = rows[:, :7]
    corners = bev_corners(torch.as_tensor(both, dtype=torch.float64)).numpy().reshape(-1, 2)
    corners = np.concatenate((corners, near_arrow_ends(rows)[:, :2]))
    low, high = corners.min(axis=0) - _CLOSE_UP_MARGIN, corners.max(axis=0) + _CLOSE_UP_MARGIN
    center, half = (low + high) / 2, (high - low).max() / 2
    near = (np.abs(frame.points[:, :2] - center) <= half).all(axis=1)
    _draw_points(axes, frame, near, size=4.0 if frame.longest_lag else 7.0)
    if frame.ground_truth is not None:
        _draw_boxes(axes, frame.ground_truth, GROUND_TRUTH, scale=1.3)
    _draw_boxes(axes, rows[:1], INITIAL, scale=1.5)
    _draw_boxes(axes, rows[1:], REFINED, scale=1.5)
    _set_view(axes, center - half, center + half)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("x (m)", fontsize=8)
    axes.set_ylabel("y (m)", fontsize=8)
    title = f"{number}: {frame.names[row]}, score {frame.scores[row]:.2f}"
    title += f", moved {frame.corner_shift()[row]:.2f} m"
    title += f"\nf {signed(frame.f_initial[row], 1)} → {signed(frame.f_refined[row], 1)}"
    if frame.ground_truth is not None and len(frame.ground_truth):
        before, after = iou_3d(both, frame.ground_truth[:, :7]).max(axis=1)
        title += f",  3D IoU {before:.2f} → {after:.2f}"
    if rows.shape[1] == 9:
        title += "\nspeed {:.1f} → {:.1f} m/s".format(*np.hypot(*rows[:, 7:].T))
    axes.set_title(title, fontsize=9)


def _set_view(axes: Any, low: FloatArray, high: FloatArray) -> None:
    """Show the rectangle between two corners, as long as wide on paper as in meters."""
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
