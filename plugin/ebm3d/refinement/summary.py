"""What a refinement of many frames did: figures by class, and the frames that changed most.

N boxes of a frame.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from ebm3d.boxes.local import local_offsets
from ebm3d.datasets.results import FrameChanges, FrameResults
from ebm3d.evaluation.tables import make_table
from ebm3d.refinement.refiner import DetectedFrame, RefinedFrame
from ebm3d.visualization import RefinedFrame as Picture
from ebm3d.visualization import fitting_min_score, write_bev_picture

_FIELDS = ("f_initial", "f_refined", "box_std", "box_covariance", "probability")
_COLUMNS = ("along", "across", "up", "size", "yaw", "f before", "f after")


class RefinementSummary:
    """Collects what became of frames.

    Args:
        class_names: of the energy.
        num_pictures: frames to keep for :meth:`draw`.
    """

    def __init__(self, class_names: Sequence[str], num_pictures: int = 0) -> None:
        self.class_names, self._num_pictures = tuple(class_names), num_pictures
        self.num_boxes = self.num_moved = 0
        self.others: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._rows: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        self._scores: list[NDArray[np.float64]] = []
        self._pictures: list[tuple[float, int, Picture]] = []

    def add(
        self,
        frame: FrameResults,
        detected: DetectedFrame,
        refined: RefinedFrame,
        fields: Mapping[str, NDArray[np.float64]],
    ) -> FrameChanges:
        """Count a frame; return what changes in its file, with further fields."""
        boxes = frame.boxes.copy()
        boxes[refined.moved, :7] = refined.boxes[refined.moved]
        self.num_boxes += len(boxes)
        self.num_moved += int(refined.moved.sum())
        self._counts.update(frame.names.tolist())
        self.others.update(name for name in frame.names.tolist() if name not in self.class_names)
        old, new = (torch.from_numpy(b[:, :7].astype(np.float64)) for b in (frame.boxes, boxes))
        offsets = local_offsets(old, new).abs().numpy()
        size = offsets[:, 3:6].max(axis=1, keepdims=True, initial=0.0)
        f = np.stack((refined.f_initial, refined.f_refined), axis=1)
        row = np.concatenate((offsets[:, :3], size, np.degrees(offsets[:, 6:7]), f), axis=1)
        for name in np.unique(frame.names[refined.moved]).tolist():
            self._rows[name].append(row[refined.moved & (frame.names == name)])
        if self._num_pictures:
            self._keep(frame, detected, boxes, refined)
        own = {name: getattr(refined, name) for name in _FIELDS}
        return FrameChanges(boxes, refined.moved, {**own, **fields})

    def table(self) -> Table:
        """Medians of the moves of each class, and of f."""
        title = "Refined boxes; medians of the moves (m, degrees), of sizes the one changed most"
        table = make_table(title, ("", "boxes", "moved", *_COLUMNS))
        for name in self.class_names:
            rows = self._rows.get(name)
            moved = np.concatenate(rows) if rows else np.zeros((0, len(_COLUMNS)))
            cells = [f"{value:.3f}" for value in np.median(moved, axis=0)] if rows else ()
            table.add_row(name, str(self._counts[name]), str(len(moved)), *cells)
        for name, number in self.others.items():
            table.add_row(f"{name}, unknown", str(number), "0")
        return table

    def draw(self, folder: Path) -> list[Path]:
        """Draw the frames that changed most, from above; return the files."""
        if not self._pictures:
            return []
        folder.mkdir(exist_ok=True)
        scores = np.concatenate(self._scores)
        if len(scores) and 0 <= scores.min() <= scores.max() <= 1:
            lowest = fitting_min_score(self._scores, self._num_pictures)
        else:  # logits, or whatever the detector ranks by
            lowest = float(scores.min(initial=0.0))
        paths = []
        for _, _, picture in sorted(self._pictures, key=lambda entry: -entry[0]):
            paths.append(folder / f"{picture.frame_id}.png")
            write_bev_picture(paths[-1], picture, min_score=lowest)
        return paths

    def _keep(
        self,
        frame: FrameResults,
        detected: DetectedFrame,
        boxes: NDArray[np.float64],
        refined: RefinedFrame,
    ) -> None:
        """Keep a frame if it changed more than the least of those that are kept."""
        self._scores.append(frame.scores)
        picture = Picture(
            frame.frame_id,
            detected.points,
            frame.boxes,
            boxes,
            frame.scores,
            tuple(frame.names.tolist()),
            refined.f_initial,
            refined.f_refined,
        )
        entry = (float(picture.corner_shift().sum()), len(self._scores), picture)
        push: Any = (
            heapq.heappush if len(self._pictures) < self._num_pictures else heapq.heappushpop
        )
        push(self._pictures, entry)
