"""Motion in pictures: points colored by their time lag, velocities of boxes as arrows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import bev_corners

FloatArray = NDArray[Any]
SECONDS = 1.0  # an arrow ends where its box will be after them
_LEAST_SPEED = 0.2  # m/s; slower boxes stand, as in the attributes of nuScenes
_NEAR = 3.0  # meters; longer arrows leave a close-up
_CUBE, _CUBES = 0.1, 1 << 20  # edge in meters; more than there are along an axis
# Colors of points from the key frame to the oldest sweep: lightness grows evenly, and purple is
# the hue that no kind of box has.
_LAG_COLORS = np.array([(34, 14, 62), (96, 53, 135), (158, 112, 181), (222, 196, 226)])


def lag_colors(lags: FloatArray, longest: float) -> NDArray[np.uint8]:
    """Return colors ``(P, 3)`` of points by time lag ``(P,)``, seconds: from dark to light."""
    nodes = np.linspace(0.0, longest, len(_LAG_COLORS))
    channels = [np.interp(lags, nodes, channel) for channel in _LAG_COLORS.T]
    colors: NDArray[np.uint8] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colors


def without_repeats(points: FloatArray, lags: FloatArray) -> NDArray[np.intp]:
    """Return rows of points ``(P, 3)``, the latest last: one, the latest, in each cube of 0.1 m.

    What stands is drawn as in the key frame, what moves with its older points behind it.
    """
    latest_first = np.argsort(lags, kind="stable")
    cubes = np.floor(points[latest_first, :3] / _CUBE).astype(np.int64)
    keys = (cubes[:, 0] * _CUBES + cubes[:, 1]) * _CUBES + cubes[:, 2]
    first = np.unique(keys, return_index=True)[1]
    rows: NDArray[np.intp] = latest_first[np.sort(first)[::-1]]
    return rows


def near_arrow_ends(boxes: FloatArray) -> FloatArray:
    """Return the ends ``(K, 3)`` of :func:`velocity_arrows` that a close-up has room for."""
    arrows = velocity_arrows(boxes)
    return arrows[np.linalg.norm(arrows[:, 1] - arrows[:, 0], axis=1) < _NEAR, 1]


def draw_lag_scale(axes: Any, longest: float) -> None:
    """Fill matplotlib axes with the colors of lags up to the longest, seconds."""
    colors = lag_colors(np.linspace(0.0, longest, 256), longest)
    axes.imshow(colors[None], extent=(0.0, longest, 0.0, 1.0), aspect="auto")
    axes.set(yticks=[], xticks=np.linspace(0.0, longest, 3))
    axes.xaxis.set_major_formatter("{x:.2f}")
    axes.set_title("points: seconds before the key frame", fontsize=8, pad=3, loc="left")
    axes.tick_params(labelsize=8, length=2, pad=1)


def velocity_arrows(boxes: FloatArray) -> FloatArray:
    """Return start and end of the arrows of moving boxes, ``(K, 2, 3)`` meters, at the top.

    An arrow leads from the center of the box's front to where that will be in one second, at
    constant velocity. Boxes of seven columns, of unknown velocity (NaN) or slower than 0.2 m/s have
    none.

    Args:
        boxes: ``(N, 7)`` or ``(N, 9)``.
    """
    if boxes.shape[1] < 9:
        return np.zeros((0, 2, 3))
    moving = boxes[np.hypot(boxes[:, 7], boxes[:, 8]) >= _LEAST_SPEED].astype(np.float64)
    arrows = np.empty((len(moving), 2, 3))
    arrows[:, :, 2] = (moving[:, 2] + moving[:, 5])[:, None]
    arrows[:, :, :2] = bev_corners(torch.as_tensor(moving[:, :7])).numpy()[:, None, (0, 3)].mean(2)
    arrows[:, 1, :2] += SECONDS * moving[:, 7:9]
    return arrows
