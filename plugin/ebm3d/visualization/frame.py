"""What a picture shows: the points of one frame, its boxes before and after refinement, f of both.

N detected boxes; G true boxes; P points. Meters, radians, LiDAR frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.boxes.iou import iou_3d
from ebm3d.errors import check_boxes, input_error, shape_error

FloatArray = NDArray[Any]
MIN_SCORE = 0.3  # detections below are left out of pictures unless the threshold is lowered
_SEVERAL = 3  # boxes for which the threshold of a weak detector is lowered
_COLUMNS = (7, 9)  # of boxes
# Directions of x and y by the axis that is ahead.
AXES = {"x": ("forward", "to the left"), "y": ("to the right", "forward")}


@dataclass(frozen=True)
class BoxStyle:
    """How one kind of box is drawn: label, hexadecimal color, line style and width, marker."""

    label: str
    color: str
    dashes: str
    width: float
    marker: str

    @property
    def rgb(self) -> tuple[int, ...]:
        """Three bytes."""
        return tuple(bytes.fromhex(self.color[1:]))

    def legend_line(self, **options: Any) -> Any:
        """Return a line for a matplotlib legend."""
        from matplotlib.lines import Line2D

        options = {"linewidth": 2, "linestyle": self.dashes, **options}
        return Line2D([], [], color=self.color, label=self.label, **options)


# Colors that color-blind readers can tell apart (Okabe and Ito).
GROUND_TRUTH = BoxStyle("ground truth", "#009E73", "-", 2.4, "*")
INITIAL = BoxStyle("detected", "#D55E00", "--", 1.6, "X")
REFINED = BoxStyle("refined", "#0072B2", "-", 1.6, "o")
STYLES = (GROUND_TRUTH, INITIAL, REFINED)

# Form and color of a class of nuScenes; kin share a color. Classes without a mark have none drawn.
CLASS_MARKS = {
    "car": ("o", "#56B4E9"),
    "truck": ("s", "#E69F00"),
    "trailer": ("D", "#E69F00"),
    "bus": ("s", "#F0E442"),
    "construction_vehicle": ("P", "#F0E442"),
    "bicycle": ("v", "#CC79A7"),
    "motorcycle": ("^", "#CC79A7"),
    "pedestrian": ("o", "#FFFFFF"),
    "traffic_cone": ("^", "#000000"),
    "barrier": ("s", "#000000"),
}


@dataclass(frozen=True)
class RefinedFrame:
    """One frame before and after refinement.

    Args:
        frame_id: shown in titles.
        points: ``(P, >= 3)`` x, y, z.
        initial: ``(N, 7)`` detected boxes, or ``(N, 9)`` with velocities.
        refined: ``(N, 7)`` or ``(N, 9)``: the same boxes after refinement, in the same order.
        scores: ``(N,)`` of the detector.
        names: N class names.
        f_initial: ``(N,)`` f of ``initial``; NaN where a box was not refined.
        f_refined: ``(N,)`` f of ``refined``; NaN likewise.
        ground_truth: ``(G, 7)`` or ``(G, 9)`` true boxes, with as many columns as the others and
            an unknown velocity NaN; None where they are not known.
        min_score: score below which detections were left out.
        lags: ``(P,)`` seconds of each point before the key frame, or None where not known.
        forward: the LiDAR frame's axis that is ahead: "x" (KITTI; y is to the left) or "y"
            (nuScenes; x is to the right).

    Raises:
        ValueError: if shapes do not fit together.
    """

    frame_id: str
    points: FloatArray
    initial: FloatArray
    refined: FloatArray
    scores: FloatArray
    names: tuple[str, ...]
    f_initial: FloatArray
    f_refined: FloatArray
    ground_truth: FloatArray | None = None
    min_score: float = 0.0
    lags: FloatArray | None = None
    forward: str = "x"

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.points.ndim != 2 or self.points.shape[1] < 3:
            raise shape_error("points", "(P, 3) with columns (x, y, z), or more", self.points)
        check_boxes(self.initial, "initial", _COLUMNS)
        if self.refined.shape != self.initial.shape:
            raise shape_error("refined", f"of initial, {self.initial.shape}", self.refined)
        for name in ("scores", "names", "f_initial", "f_refined"):
            values = np.asarray(getattr(self, name))
            if values.shape != (len(self.initial),):
                raise shape_error(name, f"({len(self.initial)},)", values)
        if self.ground_truth is not None:
            check_boxes(self.ground_truth, "ground_truth", self.initial.shape[1:])
        if self.lags is not None and self.lags.shape != self.points.shape[:1]:
            raise shape_error("lags", f"({len(self.points)},), one per point", self.lags)
        if self.forward not in AXES:
            raise input_error("forward", '"x" or "y"', repr(self.forward))

    def above(self, score: float) -> RefinedFrame:
        """Return the frame with only the boxes whose score is at least ``score``."""
        keep = self.scores >= score
        rows = ("initial", "refined", "scores", "f_initial", "f_refined")
        names = tuple(np.array(self.names, dtype=object)[keep])
        kept = {name: getattr(self, name)[keep] for name in rows}
        return replace(self, names=names, min_score=score, **kept)

    @property
    def title(self) -> str:
        """Frame, number of detections, and the score from which they are shown."""
        count = len(self.initial)
        title = f"Frame {self.frame_id}: {count} detection{'s' if count != 1 else ''}"
        if not self.min_score:
            return title
        lowered = f", threshold lowered from {MIN_SCORE:g}" if self.min_score < MIN_SCORE else ""
        return f"{title} (score \N{GREATER-THAN OR EQUAL TO} {self.min_score:.2g}{lowered})"

    @property
    def longest_lag(self) -> float:
        """Of all points, seconds; 0 where all are of one sweep, or lags are not known."""
        return float(self.lags.max()) if self.lags is not None and len(self.lags) else 0.0

    @property
    def has_marks(self) -> bool:
        """Whether classes are told apart: any has a mark."""
        return not CLASS_MARKS.keys().isdisjoint(self.names)

    def kinds(self) -> list[tuple[FloatArray, BoxStyle]]:
        """Return the boxes of each kind with their style, in the order of drawing."""
        kinds = [(self.initial, INITIAL), (self.refined, REFINED)]
        return kinds if self.ground_truth is None else [(self.ground_truth, GROUND_TRUTH), *kinds]

    def corner_shift(self) -> FloatArray:
        """Return the mean distance by which refinement moved the corners of each box, ``(N,)``."""
        both = (torch.as_tensor(boxes[:, :7]).double() for boxes in (self.initial, self.refined))
        before, after = map(corners_3d, both)
        return (after - before).norm(dim=-1).mean(dim=-1).numpy()

    def most_changed(self, count: int) -> list[int]:
        """Return the rows of at most ``count`` refined boxes, the most moved first."""
        order = np.argsort(-self.corner_shift(), kind="stable")
        return [int(row) for row in order if np.isfinite(self.f_initial[row])][:count]

    def ious(self) -> tuple[FloatArray, FloatArray] | None:
        """Return the largest 3D IoU of each box with a true one before and after, ``(N,)`` each.

        None where no true box is known.
        """
        truth = self.ground_truth
        if truth is None or not len(truth):
            return None
        truth = truth[:, :7].astype(float)
        pairs = (iou_3d(b[:, :7].astype(float), truth) for b in (self.initial, self.refined))
        before, after = (iou.max(axis=1) for iou in pairs)
        return before, after

    def gain(self) -> FloatArray:
        """Return by how much refinement raised the IoU of each box; without truth, its shift."""
        ious = self.ious()
        return self.corner_shift() if ious is None else ious[1] - ious[0]

    def most_gained(self, count: int) -> list[int]:
        """Return the rows of at most ``count`` refined boxes, the largest gain first."""
        order = np.argsort(-self.gain(), kind="stable")
        return [int(row) for row in order if np.isfinite(self.f_initial[row])][:count]


def fitting_min_score(scores: Sequence[FloatArray], num_frames: int = 1) -> float:
    """Return ``MIN_SCORE``, or the lower score from which ``num_frames`` frames have three boxes.

    Args:
        scores: of the detections of each frame.
        num_frames: number of frames to draw; where fewer have three boxes, 0 is returned.
    """
    third = [np.sort(s)[-_SEVERAL] if len(s) >= _SEVERAL else 0.0 for s in scores]
    reached = sorted(third, reverse=True)[:num_frames]
    lowest = float(reached[-1]) if reached else MIN_SCORE
    return min(MIN_SCORE, np.floor(100 * lowest) / 100)


def most_convincing(frames: Sequence[RefinedFrame], count: int) -> tuple[list[int], float]:
    """Return which frames to draw, and from which score.

    Frames with three boxes or more come first, then the largest gain in all.
    """
    min_score = fitting_min_score([frame.scores for frame in frames], count)
    shown = [frame.above(min_score) for frame in frames]
    keys = [(-min(len(f.initial), _SEVERAL), -float(f.gain().sum())) for f in shown]
    return sorted(range(len(frames)), key=lambda row: keys[row])[:count], min_score
