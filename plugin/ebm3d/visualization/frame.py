"""What a picture shows: the points of one frame, its boxes before and after refinement, f of both.

N detected boxes; G true boxes; P points. Meters, radians, LiDAR frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[Any]


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
INITIAL = BoxStyle("detected", "#D55E00", "--", 1.3, "X")
REFINED = BoxStyle("refined", "#0072B2", "-", 1.3, "o")


@dataclass(frozen=True)
class RefinedFrame:
    """One frame before and after refinement.

    Args:
        frame_id: shown in titles.
        points: ``(P, >= 3)`` x, y, z.
        initial: ``(N, 7)`` detected boxes.
        refined: ``(N, 7)`` the same boxes after refinement, in the same order.
        scores: ``(N,)`` of the detector.
        names: N class names.
        f_initial: ``(N,)`` f of ``initial``; NaN where a box was not refined.
        f_refined: ``(N,)`` f of ``refined``; NaN likewise.
        ground_truth: ``(G, 7)`` true boxes, or None where they are not known.

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

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.points.ndim != 2 or self.points.shape[1] < 3:
            raise shape_error("points", "(P, 3) with columns (x, y, z), or more", self.points)
        check_boxes(self.initial, "initial")
        if self.refined.shape != self.initial.shape:
            raise shape_error("refined", f"of initial, {self.initial.shape}", self.refined)
        for name in ("scores", "names", "f_initial", "f_refined"):
            values = np.asarray(getattr(self, name))
            if values.shape != (len(self.initial),):
                raise shape_error(name, f"({len(self.initial)},)", values)
        if self.ground_truth is not None:
            check_boxes(self.ground_truth, "ground_truth")

    def above(self, score: float) -> RefinedFrame:
        """Return the frame with only the boxes whose score is at least ``score``."""
        keep = self.scores >= score
        rows = ("initial", "refined", "scores", "f_initial", "f_refined")
        names = tuple(np.array(self.names, dtype=object)[keep])
        return replace(self, names=names, **{name: getattr(self, name)[keep] for name in rows})

    def kinds(self) -> list[tuple[FloatArray, BoxStyle]]:
        """Return the boxes of each kind with their style, in the order of drawing."""
        kinds = [(self.initial, INITIAL), (self.refined, REFINED)]
        return kinds if self.ground_truth is None else [(self.ground_truth, GROUND_TRUTH), *kinds]

    def corner_shift(self) -> FloatArray:
        """Return the mean distance by which refinement moved the corners of each box, ``(N,)``."""
        both = (torch.as_tensor(boxes).double() for boxes in (self.initial, self.refined))
        before, after = map(corners_3d, both)
        return (after - before).norm(dim=-1).mean(dim=-1).numpy()

    def most_changed(self, count: int) -> list[int]:
        """Return the rows of at most ``count`` refined boxes, the most moved first."""
        order = np.argsort(-self.corner_shift(), kind="stable")
        return [int(row) for row in order if np.isfinite(self.f_initial[row])][:count]
