"""Refinement of detected boxes by an energy on points alone.

N boxes of a frame; P points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.trust import Trust
from ebm3d.refiners import QuasiNewtonAscent, laplace_approximation
from ebm3d.refiners.posterior import BoxPosterior

FloatArray = NDArray[np.float64]

_BOXES_AT_ONCE = 512


@dataclass(frozen=True)
class DetectedFrame:
    """Detections of one frame with its cloud.

    Attributes:
        points: ``(P, 4)`` x, y, z (m, LiDAR frame), intensity in [0, 1]; float32.
        boxes: ``(N, 7)`` or ``(N, 9)``, LiDAR frame, z at the bottom; velocities are left out.
        labels: ``(N,)`` class of the energy, -1 for another one.
    """

    points: NDArray[np.float32]
    boxes: FloatArray
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class RefinedFrame:
    """What became of the boxes of a frame.

    Attributes:
        boxes: ``(N, 7)``; those that were not moved as they came.
        moved: ``(N,)``: of a class of the energy that is trusted, finite, with positive sizes.
        f_initial: ``(N,)`` f at the detected box; NaN, as what follows, where it did not move.
        f_refined: ``(N,)`` f at the refined one.
        box_std: ``(N, 7)`` standard deviations of x, y, z, sizes (m) and yaw (rad), of the
            posterior's curvature.
        box_covariance: ``(N, 7, 7)``.
    """

    boxes: FloatArray
    moved: NDArray[np.bool_]
    f_initial: FloatArray
    f_refined: FloatArray
    box_std: FloatArray
    box_covariance: FloatArray


class BoxRefiner:
    """Climbs the posterior of detected boxes.

    Args:
        energy: on the device to compute on.
        trust: how far; the cautious default if left out.
        num_steps: of the ascent; 0 leaves the boxes.
    """

    def __init__(
        self, energy: PointsEnergy, trust: Trust | None = None, num_steps: int = 10
    ) -> None:
        self.energy = energy.eval()
        self.trust = Trust.default(energy) if trust is None else trust
        self.num_steps = num_steps

    def __call__(self, frames: Iterable[DetectedFrame]) -> Iterator[RefinedFrame]:
        """Yield refined frames in order; frames are joined until they hold some hundred boxes."""
        batch: list[DetectedFrame] = []
        count = 0
        for frame in frames:
            batch.append(frame)
            count += len(frame.boxes)
            if count >= _BOXES_AT_ONCE:
                yield from self._refine(batch)
                batch, count = [], 0
        yield from self._refine(batch)

    def posterior(
        self, points: Sequence[Tensor], boxes: Tensor, labels: Tensor, frame_index: Tensor
    ) -> BoxPosterior:
        """Return g around boxes ``(N, 7)``; arguments as of :meth:`PointsEnergy.around`."""
        return self.trust.posterior(
            self.energy.around(points, boxes, labels, frame_index), boxes, labels
        )

    def climb(self, g: BoxPosterior, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return boxes ``(N, 7)`` after the ascent of g."""
        scale = torch.tensor([row.std for row in self.trust.classes])
        sizes = torch.tensor(self.energy.settings.mean_sizes)
        scale[:, 3:6] *= sizes  # steps are in meters
        ascent = QuasiNewtonAscent(
            self.num_steps, step_scale=scale.tolist(), max_step=1.0, max_displacement=4.0
        )
        return ascent(g, boxes, labels).boxes

    def _refine(self, batch: Sequence[DetectedFrame]) -> Iterator[RefinedFrame]:
        """Refine the boxes of some frames together."""
        chosen = [self._can_move(frame) for frame in batch]
        device = next(self.energy.parameters()).device
        rows = [frame.boxes[which, :7] for frame, which in zip(batch, chosen, strict=True)]
        if not sum(map(len, rows)):
            yield from (
                _frame(frame, which, {}) for frame, which in zip(batch, chosen, strict=True)
            )
            return
        boxes = torch.from_numpy(np.concatenate(rows)).float().to(device)
        labels = np.concatenate([f.labels[w] for f, w in zip(batch, chosen, strict=True)])
        classes = torch.from_numpy(labels).to(device)
        sizes = [len(part) for part in rows]
        index = torch.repeat_interleave(torch.tensor(sizes)).to(device)
        clouds = [torch.from_numpy(frame.points).to(device) for frame in batch]
        with torch.no_grad():
            f = self.energy.around(clouds, boxes, classes, index)
            g = self.trust.posterior(f, boxes, classes)
            refined = self.climb(g, boxes, classes)
            std = self.trust.coding(refined, classes).noise_std
            density = laplace_approximation(g, refined, std).distribution(torch.pi)
            fields = {
                "boxes": refined,
                "f_initial": f(boxes),
                "f_refined": f(refined),
                "box_std": density.std,
                "box_covariance": density.covariance,
            }
        parts = [value.double().cpu().numpy() for value in fields.values()]
        ends = np.cumsum(sizes)[:-1]
        for frame, which, *values in zip(
            batch, chosen, *(np.split(part, ends) for part in parts), strict=True
        ):
            yield _frame(frame, which, dict(zip(fields, values, strict=True)))

    def _can_move(self, frame: DetectedFrame) -> NDArray[np.bool_]:
        """Which boxes are refined."""
        trusted = np.array([np.isfinite(row.temperature) for row in self.trust.classes] + [False])
        boxes = frame.boxes[:, :7]
        valid = np.isfinite(boxes).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
        return np.asarray(valid & trusted[frame.labels] & (self.num_steps > 0))


def _frame(
    frame: DetectedFrame, moved: NDArray[np.bool_], fields: dict[str, FloatArray]
) -> RefinedFrame:
    """Put the moved boxes among those that stay."""
    num = len(frame.boxes)
    shapes = {"f_initial": (), "f_refined": (), "box_std": (7,), "box_covariance": (7, 7)}
    result = {name: np.full((num, *shape), np.nan) for name, shape in shapes.items()}
    boxes = frame.boxes[:, :7].astype(np.float64)
    if fields:
        boxes[moved] = fields.pop("boxes")
        for name, values in fields.items():
            result[name][moved] = values
    return RefinedFrame(boxes, moved, **result)
