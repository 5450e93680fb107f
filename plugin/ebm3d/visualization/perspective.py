"""A frame in perspective: the whole, and close-ups of boxes before and after refinement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.boxes.iou import iou_3d
from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.atomic import replacing
from ebm3d.visualization.bev import signed
from ebm3d.visualization.camera import Camera, direction_of, fit_camera, project
from ebm3d.visualization.frame import (
    GROUND_TRUTH,
    INITIAL,
    MIN_SCORE,
    REFINED,
    BoxStyle,
    FloatArray,
    RefinedFrame,
)
from ebm3d.visualization.motion import draw_lag_scale, lag_colors, near_arrow_ends
from ebm3d.visualization.rendering import View, render
from ebm3d.visualization.scene import scene_of_boxes, scene_of_frame

_SIZE = (1600, 900)  # pixels of a view; close-ups are cut to _CLOSE_UP_ASPECT
_CLOSE_UP_ASPECT = 1.15
_NUM_CLOSE_UPS = 2
_PITCH, _CLOSE_UP_PITCH = np.radians(26.0), np.radians(30.0)
_STEEP_PITCH, _BEHIND = np.radians(42.0), -5.0  # if boxes are behind the sensor, x in meters
_TURN = np.radians(35.0)  # of a close-up's camera against the line from the sensor
_MARGIN = 1.0  # meters around boxes
# The azimuth ahead, and the matrix that turns rows (x, y, z) there from x forward.
_AHEAD = {
    "x": (0.0, np.eye(3)),
    "y": (np.pi / 2, np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])),
}
_WIDTH = np.array([[0.0, -8.0, 0.0], [0.0, 8.0, 0.0]])  # the least that is seen, meters
_ROAD = np.array([[0.0, -20.0, -2.0], [40.0, 20.0, 0.0]])  # seen if there is nothing
_SURROUNDINGS = 1.0  # meters around a close-up's boxes in which points are shown
_INSIDE, _OUTSIDE = (0, 0, 0), (170, 176, 184)  # colors of points in and around a box
_LETTER = (9.0, 20.0)  # pixels of a letter of a class name
_INCH = 100  # pixels


def write_rendering(path: str | Path, frame: RefinedFrame, *, min_score: float = MIN_SCORE) -> None:
    """Write a PNG of a frame seen from behind, and of two boxes before and after refinement.

    The two are those that refinement improved most. Detections below ``min_score`` are left out.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    frame = frame.above(min_score)
    chosen = frame.most_gained(_NUM_CLOSE_UPS)
    camera = front_camera(frame)
    width = 2.5 if frame.has_marks else 4.0  # boxes of ten classes are many and small
    views = [View(scene_of_frame(frame, min_score=min_score), camera, line_width=width)]
    for row in chosen:
        views += [_close_up(frame, row, style) for style in (INITIAL, REFINED)]
    whole, *close_ups = render(views, _SIZE)
    image, first = _without_margins(whole)
    roofs = frame.refined[:, :3].astype(float)
    roofs[:, 2] += frame.refined[:, 5] + 0.4
    places = project(roofs, camera, _SIZE) - first
    with replacing(path) as partial:
        _figure(frame, chosen, image, places, close_ups).savefig(partial)


def front_camera(frame: RefinedFrame, *, sensor: bool = False) -> Camera:
    """Return the camera looking forward that has all boxes, or else all points, in its picture.

    With ``sensor`` the sensor is in the picture too, so that the camera is behind it.
    """
    boxes = np.concatenate([boxes[:, :7] for boxes, _ in frame.kinds()])
    content, (azimuth, turn) = _corners(boxes, _MARGIN), _AHEAD[frame.forward]
    if not len(boxes):
        points = frame.points[:, :3]
        far = np.quantile(points, (0.02, 0.98), axis=0) if len(points) else _ROAD @ turn
        content = np.array(np.meshgrid(*np.transpose(far))).reshape(3, -1).T
    width = content.mean(axis=0) + _WIDTH @ turn
    content = np.concatenate((content, width, np.zeros((int(sensor), 3))))
    surrounds = float((content @ turn.T)[:, 0].min()) < _BEHIND
    pitch = _STEEP_PITCH if surrounds else _PITCH
    return fit_camera(content, direction_of(azimuth, pitch), _SIZE[0] / _SIZE[1])


def _close_up(frame: RefinedFrame, row: int, style: BoxStyle) -> View:
    """One box of a kind and the true boxes it touches, from the same camera for both kinds."""
    rows = np.stack((frame.initial[row], frame.refined[row])).astype(float)
    shown, both = rows[:1] if style is INITIAL else rows[1:], rows[:, :7]
    corners = _corners(both, 0.0)
    low, high = corners.min(axis=0) - _SURROUNDINGS, corners.max(axis=0) + _SURROUNDINGS
    points = frame.points[:, :3]
    near = ((points >= low) & (points <= high)).all(axis=1)
    points = points[near]
    kinds = [(shown, style)]
    if frame.ground_truth is not None:
        truth = frame.ground_truth.astype(float)
        truth = truth[(iou_3d(both, truth[:, :7]) > 0).any(axis=0)]
        kinds = [(truth, GROUND_TRUTH), *kinds]
        corners = np.concatenate((corners, _corners(truth[:, :7], 0.0)))
    corners = np.concatenate((corners, near_arrow_ends(rows)))
    azimuth = np.arctan2(both[1, 1], both[1, 0]) + _TURN
    camera = fit_camera(corners, direction_of(azimuth, _CLOSE_UP_PITCH), _CLOSE_UP_ASPECT)
    inside = points_in_boxes(points, shown[:, :7])
    colors = np.where(inside, _INSIDE, _OUTSIDE).astype(np.uint8)
    if frame.lags is not None and frame.longest_lag:
        colors = lag_colors(frame.lags[near], frame.longest_lag)
    scene = replace(scene_of_boxes(points, kinds), point_colors=colors)
    return View(scene, camera, point_size=7.0, line_width=9.0)


def _figure(
    frame: RefinedFrame,
    chosen: list[int],
    whole: NDArray[np.uint8],
    places: FloatArray,
    close_ups: list[NDArray[np.uint8]],
) -> Any:
    """The whole above the close-ups, as panels of one figure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    width, top, bottom, caption = _SIZE[0] / _INCH, 0.6, 0.6, 0.5 if chosen else 0.0  # inches
    panel = width / (2 * _NUM_CLOSE_UPS)
    heights = len(whole) / whole.shape[1] * width, (panel / _CLOSE_UP_ASPECT) * bool(chosen)
    height = sum(heights) + top + bottom + caption
    figure = Figure(figsize=(width, height), dpi=_INCH)
    axes = figure.add_axes((0, 1 - (top + heights[0]) / height, 1, heights[0] / height))
    axes.imshow(whole, aspect="auto")
    axes.axis("off")
    if frame.has_marks:
        _write_names(axes, frame, places, places[chosen])
    for number, place in enumerate(places[chosen], 1):
        badge: dict[str, Any] = {"boxstyle": "circle", "facecolor": "black", "edgecolor": "white"}
        font: dict[str, Any] = {
            "color": "white",
            "fontsize": 14,
            "weight": "bold",
            "ha": "center",
            "va": "bottom",
        }
        axes.text(place[0], place[1], str(number), bbox=badge, **font)
    figure.suptitle(frame.title, fontsize=19, y=1 - top / 2 / height, va="center")
    if frame.longest_lag:
        place = (0.82, 1 - 0.46 / height, 0.15, 0.12 / height)
        draw_lag_scale(figure.add_axes(place), frame.longest_lag)
    cut = round(_SIZE[0] - _SIZE[1] * _CLOSE_UP_ASPECT) // 2
    for index, image in enumerate(close_ups):
        row, style = chosen[index // 2], (INITIAL, REFINED)[index % 2]
        left = (index + 0.02 + 0.03 * (1 - index % 2)) / (2 * _NUM_CLOSE_UPS)
        place = (left, bottom / height, 0.95 * panel / width, heights[1] / height)
        axes = figure.add_axes(place, xticks=[], yticks=[])
        axes.imshow(image[:, cut : _SIZE[0] - cut], aspect="auto")
        for spine in axes.spines.values():
            spine.set(color=style.color, linewidth=4)
        if frame.has_marks:
            look: dict[str, Any] = {"va": "top", "fontsize": 14, "path_effects": [_outline()]}
            axes.text(0.03, 0.96, frame.names[row], transform=axes.transAxes, **look)
        title = f"{index // 2 + 1}  {_label(frame, row, style)}"
        axes.set_title(title, color=style.color, fontsize=17, weight="bold")
    handles = [
        Patch(facecolor="#DCE4E0", edgecolor=style.color, linewidth=3, label=style.label)
        if style is GROUND_TRUTH
        else style.legend_line(linestyle="-", linewidth=5)
        for boxes, style in frame.kinds()
        if len(boxes)
    ]
    if handles:
        place = {"loc": "lower center", "ncols": len(handles), "frameon": False}
        figure.legend(handles=handles, fontsize=17, **place)
    return figure


def _write_names(axes: Any, frame: RefinedFrame, places: FloatArray, taken: FloatArray) -> None:
    """Class names above boxes, large boxes first, where they cover no other name and no number."""
    covered = [(*place, 2.0 * _LETTER[0]) for place in taken]
    for row in np.argsort(-frame.refined[:, 3:6].prod(axis=1), kind="stable"):
        name, (x, y) = frame.names[row], places[row]
        half = len(name) * _LETTER[0] / 2
        if all(abs(x - u) > half + h or abs(y - v) > _LETTER[1] for u, v, h in covered):
            axes.text(x, y, name, ha="center", va="bottom", fontsize=10, path_effects=[_outline()])
            covered.append((x, y, half))


def _outline() -> Any:
    """White around letters, so that they can be read on points and lines."""
    from matplotlib.patheffects import withStroke

    return withStroke(linewidth=3, foreground="white")


def _label(frame: RefinedFrame, row: int, style: BoxStyle) -> str:
    """Kind of a box, and its 3D IoU; where no truth is known, its f."""
    after, ious = style is REFINED, frame.ious()
    if ious is not None:
        return f"{style.label}: IoU {ious[after][row]:.2f}"
    return f"{style.label}: f {signed((frame.f_initial, frame.f_refined)[after][row], 1)}"


def _corners(boxes: FloatArray, margin: float) -> FloatArray:
    """Corners ``(8 N, 3)`` of boxes with a margin on each side but the bottom."""
    larger = np.asarray(boxes, dtype=float) + np.array([0, 0, 0, 2, 2, 1, 0]) * margin
    return corners_3d(torch.as_tensor(larger)).numpy().reshape(-1, 3)


def _without_margins(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """The image without white borders, and (column, row) of its first pixel."""
    drawn = (image < 250).any(axis=-1)
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return image, np.zeros(2, dtype=np.intp)
    kept = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return kept, np.array((columns[0], rows[0]))
