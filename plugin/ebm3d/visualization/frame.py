"""What a picture shows: the points of one frame, its boxes before and after refinement, f of both.

N detected boxes; G true boxes; P points. Boxes are ``(x, y, z, dx, dy, dz, yaw)`` in the LiDAR
frame, meters and radians, ``z`` at the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[Any]


@dataclass(frozen=True)
class RefinedFrame:
    """One frame before and after refinement.

    Attributes:
        frame_id: shown in titles.
        points: ``(P, >= 3)`` x, y, z in meters.
        initial: ``(N, 7)`` boxes as detected.
        refined: ``(N, 7)`` the same boxes after refinement, in the same order.
        scores: ``(N,)`` scores of the detector.
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
        count = len(self.initial)
        if self.refined.shape != self.initial.shape:
            raise shape_error("refined", f"of initial, {self.initial.shape}", self.refined)
        for name in ("scores", "f_initial", "f_refined"):
            if getattr(self, name).shape != (count,):
                raise shape_error(name, f"({count},)", getattr(self, name))
        if len(self.names) != count:
            raise shape_error("names", f"({count},)", np.array(self.names))
        if self.ground_truth is not None:
            check_boxes(self.ground_truth, "ground_truth")

    def above(self, score: float) -> RefinedFrame:
        """Return the frame with only the boxes whose score is at least ``score``."""
        keep = self.scores >= score
        names = tuple(n for n, kept in zip(self.names, keep, strict=True) if kept)
        return RefinedFrame(
            self.frame_id,
            self.points,
            self.initial[keep],
            self.refined[keep],
            self.scores[keep],
            names,
            self.f_initial[keep],
            self.f_refined[keep],
            self.ground_truth,
        )

    def corner_shift(self) -> NDArray[np.float64]:
        """Return how far refinement moved each box: mean distance of its corners, ``(N,)`` m."""
        before = corners_3d(torch.as_tensor(self.initial, dtype=torch.float64))
        after = corners_3d(torch.as_tensor(self.refined, dtype=torch.float64))
        shift: NDArray[np.float64] = (after - before).norm(dim=-1).mean(dim=-1).numpy()
        return shift

    def most_changed(self, count: int) -> list[int]:
        """Return the rows of at most ``count`` refined boxes, the most moved first."""
        order = np.argsort(-self.corner_shift(), kind="stable")
        return [int(row) for row in order if np.isfinite(self.f_initial[row])][:count]
