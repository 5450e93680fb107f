"""A frame seen from above: the whole of it, and the boxes that refinement moved most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebm3d.boxes import bev_corners
from ebm3d.boxes.iou import iou_3d
from ebm3d.visualization.frame import FloatArray, RefinedFrame
from ebm3d.visualization.palette import GROUND_TRUTH, INITIAL, POINT_COLOR, REFINED, BoxStyle

_MAX_POINTS = 60_000
_NUM_CLOSE_UPS = 4
_VIEW_MARGIN = 3.0  # meters around what is shown
_CLOSE_UP_MARGIN = 0.7


def write_bev_picture(path: str | Path, frame: RefinedFrame, *, min_score: float = 0.3) -> None:
    """Write a PNG of a frame from above, with close-ups of the boxes refinement moved most.

    A close-up's title says how far the corners moved, f before and after, and, where true boxes
    are known, the 3D IoU with the best fitting one before and after.

    Args:
        path: the file; its folder must exist.
        frame: what to show.
        min_score: detections below are left out.
    """
    figure = bev_figure(frame.above(min_score))
    figure.savefig(path, dpi=130)


def bev_figure(frame: RefinedFrame) -> Any:
    """Return the matplotlib figure of :func:`write_bev_picture`, every box of ``frame`` in it."""
    from matplotlib.figure import Figure

    chosen = frame.most_changed(_NUM_CLOSE_UPS)
    figure = Figure(figsize=(13.5, 7.2), layout="constrained")
    grid = figure.add_gridspec(2, 4) if chosen else figure.add_gridspec(1, 1)
    whole = figure.add_subplot(grid[:, :2] if chosen else grid[0, 0])
    _draw_whole(whole, frame, chosen)
    for place, row in enumerate(chosen):
        axes = figure.add_subplot(grid[place // 2, 2 + place % 2])
        _draw_close_up(axes, frame, row, place + 1)
    handles = _legend_handles(frame)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def draw_boxes(axes: Any, boxes: FloatArray, style: BoxStyle, *, scale: float = 1.0) -> None:
    """Draw outlines from above, each with a stroke from the center to the front.

    Args:
        axes: matplotlib axes in meters.
        boxes: ``(N, 7)``.
        style: color and line.
        scale: factor of the line width.
    """
    corners = bev_corners(torch.as_tensor(boxes, dtype=torch.float64)).numpy()
    line = {"color": style.color, "linestyle": style.dashes, "linewidth": style.width * scale}
    for box, corner in zip(boxes, corners, strict=True):
        outline = np.concatenate((corner, corner[:1]))
        axes.plot(outline[:, 0], outline[:, 1], solid_joinstyle="miter", **line)
        front = (corner[0] + corner[3]) / 2
        axes.plot([box[0], front[0]], [box[1], front[1]], **line)


def draw_points(axes: Any, points: FloatArray, *, size: float) -> None:
    """Draw points from above; of very large clouds every n-th, so that files stay small."""
    step = max(1, -(-len(points) // _MAX_POINTS))
    shown = points[::step]
    axes.scatter(shown[:, 0], shown[:, 1], s=size, c=POINT_COLOR, linewidths=0, rasterized=True)


def signed(value: float, digits: int) -> str:
    """Return a number for a title: a true minus sign, and none before a rounded zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _draw_whole(axes: Any, frame: RefinedFrame, chosen: Sequence[int]) -> None:
    """Everything within the range of the boxes and the points."""
    from matplotlib.patheffects import withStroke

    draw_points(axes, frame.points, size=0.8)
    for boxes, style in _kinds(frame):
        draw_boxes(axes, boxes, style)
    for place, row in enumerate(chosen):
        x, y, reach = frame.refined[row, 0], frame.refined[row, 1], frame.refined[row, 3:5].max()
        axes.annotate(
            str(place + 1),
            (x, y + reach / 2),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    axes.set_aspect("equal")
    _set_view(axes, frame)
    axes.set_xlabel("x, forward (m)")
    axes.set_ylabel("y, to the left (m)")
    count = len(frame.initial)
    axes.set_title(f"Frame {frame.frame_id}: {count} detection{'s' if count != 1 else ''}")


def _draw_close_up(axes: Any, frame: RefinedFrame, row: int, number: int) -> None:
    """One box before and after, with what changed in the title."""
    both = np.stack((frame.initial[row], frame.refined[row]))
    corners = bev_corners(torch.as_tensor(both, dtype=torch.float64)).numpy().reshape(-1, 2)
    low, high = corners.min(axis=0) - _CLOSE_UP_MARGIN, corners.max(axis=0) + _CLOSE_UP_MARGIN
    center, half = (low + high) / 2, (high - low).max() / 2
    near = (np.abs(frame.points[:, :2] - center) <= half).all(axis=1)
    draw_points(axes, frame.points[near], size=7.0)
    if frame.ground_truth is not None:
        draw_boxes(axes, frame.ground_truth, GROUND_TRUTH, scale=1.3)
    draw_boxes(axes, both[:1], INITIAL, scale=1.5)
    draw_boxes(axes, both[1:], REFINED, scale=1.5)
    axes.set_aspect("equal")
    axes.set_xlim(center[0] - half, center[0] + half)
    axes.set_ylim(center[1] - half, center[1] + half)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("x (m)", fontsize=8)
    axes.set_ylabel("y (m)", fontsize=8)
    axes.set_title(_close_up_title(frame, row, number), fontsize=9)


def _close_up_title(frame: RefinedFrame, row: int, number: int) -> str:
    """What refinement did to one box, in two lines."""
    first = f"{number}: {frame.names[row]}, score {frame.scores[row]:.2f}"
    first += f", moved {frame.corner_shift()[row]:.2f} m"
    second = f"f {signed(frame.f_initial[row], 1)} → {signed(frame.f_refined[row], 1)}"
    if frame.ground_truth is not None and len(frame.ground_truth):
        before = iou_3d(frame.initial[row : row + 1], frame.ground_truth).max()
        after = iou_3d(frame.refined[row : row + 1], frame.ground_truth).max()
        second += f",  3D IoU {before:.2f} → {after:.2f}"
    return f"{first}\n{second}"


def _kinds(frame: RefinedFrame) -> list[tuple[FloatArray, BoxStyle]]:
    """The kinds of boxes there are, in the order of drawing."""
    kinds = [(frame.initial, INITIAL), (frame.refined, REFINED)]
    if frame.ground_truth is not None:
        kinds.insert(0, (frame.ground_truth, GROUND_TRUTH))
    return kinds


def _legend_handles(frame: RefinedFrame) -> list[Any]:
    """A line of each kind of box."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=style.color, linestyle=style.dashes, linewidth=2, label=style.label)
        for _, style in _kinds(frame)
    ]


def _set_view(axes: Any, frame: RefinedFrame) -> None:
    """Show all boxes and all but the farthest strays among the points."""
    parts = [boxes[:, :2] for boxes, _ in _kinds(frame)]
    if len(frame.points):
        parts.append(np.quantile(frame.points[:, :2], (0.002, 0.998), axis=0))
    shown = np.concatenate(parts)
    if len(shown):
        low, high = shown.min(axis=0) - _VIEW_MARGIN, shown.max(axis=0) + _VIEW_MARGIN
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
