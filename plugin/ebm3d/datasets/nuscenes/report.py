"""What a preparation of nuScenes read and wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from ebm3d.datasets.nuscenes.annotations import Annotations
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.problems import Problem

_MOVING = 0.5  # m/s
_CAPTION = (
    "database: training objects; points (of the key frame), l w h (m): medians; empty: without "
    "points; moving: beyond 0.5 m/s, median m/s of these"
)
_COLUMNS = ("labels", "database", "points", "empty", "l w h", "moving", "m/s")


@dataclass(frozen=True)
class ClassFigures:
    """Figures of the labels of one class.

    Args:
        number: of labels.
        num_points: median of the LiDAR points of the key frame.
        num_empty: labels without such points.
        size: medians of length, width, height, meters.
        num_moving: labels that move at more than 0.5 m/s.
        speed: their median, m/s; 0 without any.
    """

    number: int
    num_points: float
    num_empty: int
    size: tuple[float, float, float]
    num_moving: int
    speed: float


@dataclass(frozen=True)
class NuScenesPreparationReport:
    """What ``prepare_nuscenes`` read and wrote.

    ``num_scenes`` and ``num_frames`` are by split, ``num_database_objects`` and ``classes`` by
    class; ``num_sweeps`` counts the clouds beside the key frames; ``warnings`` is what is unusual.
    """

    out: Path
    version: str
    num_scenes: dict[str, int]
    num_frames: dict[str, int]
    num_sweeps: int
    num_database_objects: dict[str, int]
    classes: dict[str, ClassFigures]
    warnings: tuple[Problem, ...]
    seconds: float = field(compare=False)

    def table(self) -> Table:
        """Figures by class."""
        table = Table("class", title=f"{self.out}", title_justify="left", caption=_CAPTION)
        for column in _COLUMNS:
            table.add_column(column, justify="right", no_wrap=True)
        for name, figures in self.classes.items():
            table.add_row(name, *_cells(figures, self.num_database_objects.get(name, 0)))
        return table

    def summary(self) -> str:
        """Numbers of scenes and frames."""
        splits = ", ".join(
            f"{split}: {self.num_scenes[split]:,} scenes, {frames:,} frames"
            for split, frames in self.num_frames.items()
        )
        return f"{self.version}, {splits}; {self.num_sweeps:,} sweeps\n{self.seconds:.1f} s"


def class_figures(labels: Annotations, rows: NDArray[np.int64]) -> Mapping[str, ClassFigures]:
    """Figures of some annotations by class, in the order of ``CLASSES``; without absent ones."""
    by_class = {name: rows[labels.labels[rows] == i] for i, name in enumerate(CLASSES)}
    return {name: _figures(labels, found) for name, found in by_class.items() if len(found)}


def _figures(labels: Annotations, rows: NDArray[np.int64]) -> ClassFigures:
    """Figures of some annotations, at least one."""
    speeds = np.linalg.norm(labels.velocities[rows][:, :2], axis=1)
    moving = speeds[speeds > _MOVING]
    num_points = labels.num_lidar_points[rows]
    width, length, height = np.median(labels.sizes[rows], axis=0).tolist()
    return ClassFigures(
        number=len(rows),
        num_points=float(np.median(num_points)),
        num_empty=int(np.count_nonzero(num_points == 0)),
        size=(length, width, height),
        num_moving=len(moving),
        speed=float(np.median(moving)) if len(moving) else 0.0,
    )


def _cells(figures: ClassFigures, num_database: int) -> list[str]:
    """Cells of a class from the second column on."""
    return [
        f"{figures.number:,}",
        f"{num_database:,}",
        f"{figures.num_points:,.0f}",
        f"{figures.num_empty / figures.number:.0%}",
        " ".join(f"{extent:.2f}" for extent in figures.size),
        f"{figures.num_moving / figures.number:.0%}",
        f"{figures.speed:.1f}" if figures.num_moving else "-",
    ]
