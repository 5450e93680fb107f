"""The objects of all frames of a data set as one table, and their figures by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.frame_files import KittiFrame
from ebm3d.datasets.kitti_difficulty import difficulty
from ebm3d.datasets.kitti_labels import KittiObjects


@dataclass(frozen=True)
class ClassSummary:
    """Figures of the objects of one class.

    Args:
        number: of objects.
        num_points: median of the points in a box.
        num_empty: objects without a point.
        size: medians of length, width, height, meters.
        angles: least and greatest ``rotation_y``, radians.
        difficulties: number of easy, moderate, hard objects and of none of these.
    """

    number: int
    num_points: float
    num_empty: int
    size: tuple[float, float, float]
    angles: tuple[float, float]
    difficulties: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """All objects of a data set but DontCare; N in all, rows in the order of the frames."""

    objects: KittiObjects
    num_points: NDArray[np.int64]
    frame: NDArray[np.int64]  # index of the frame
    levels: NDArray[np.int64]

    @classmethod
    def of_frames(cls, frames: Sequence[KittiFrame]) -> LabelTable:
        """Join the objects of all frames."""
        chosen = [frame.objects.select(frame.is_object) for frame in frames]
        table = np.concatenate([np.zeros((0, 14)), *(part.to_table(False) for part in chosen)])
        names = np.concatenate([np.zeros(0, "<U1"), *(part.names for part in chosen)])
        counts = [np.zeros(0, np.int64), *(f.num_points[f.is_object] for f in frames)]
        objects = KittiObjects.from_table(names, table)
        rows = np.repeat(np.arange(len(frames)), [len(part) for part in chosen])
        return cls(objects, np.concatenate(counts), rows, difficulty(objects))

    def summaries(self) -> dict[str, ClassSummary]:
        """Figures by class, the most frequent first."""
        counts = Counter(self.objects.names.tolist())
        return {name: self._summary(self.objects.names == name) for name, _ in counts.most_common()}

    def _summary(self, rows: NDArray[np.bool_]) -> ClassSummary:
        """Figures of some objects, at least one."""
        angles, num_points = self.objects.rotation_y[rows], self.num_points[rows]
        height, width, length = np.median(self.objects.dimensions[rows], axis=0).tolist()
        levels = self.levels[rows]
        easy, moderate, hard, none = (int(np.count_nonzero(levels == k)) for k in (0, 1, 2, -1))
        return ClassSummary(
            number=int(rows.sum()),
            num_points=float(np.median(num_points)),
            num_empty=int(np.count_nonzero(num_points == 0)),
            size=(length, width, height),
            angles=(float(angles.min()), float(angles.max())),
            difficulties=(easy, moderate, hard, none),
        )
