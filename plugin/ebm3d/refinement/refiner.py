"""Refinement of detected boxes by an energy on points alone.

N boxes of a frame; P points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.trust import Trust
from ebm3d.refiners import QuasiNewtonAscent, laplace_approximation
from ebm3d.refiners.posterior import BoxPosterior
from ebm3d.refiners.scorers import Scorer

FloatArray = NDArray[np.float64]

_BOXES_AT_ONCE = 512


@dataclass(frozen=True)
class DetectedFrame:
    """Detections of one frame with its cloud.

    Attributes:
        points: ``(P, 4)`` x, y, z (m, LiDAR frame), intensity in [0, 1]; float32.
        boxes: ``(N, 7)`` or ``(N, 9)``, LiDAR frame, z at the bottom; velocities are left out.
        labels: ``(N,)`` class of the energy, -1 for another one.
        scores: ``(N,)`` of any range.
    """

    points: NDArray[np.float32]
    boxes: FloatArray
    labels: NDArray[np.int64]
    scores: FloatArray

    @cached_property
    def is_valid(self) -> NDArray[np.bool_]:
        """``(N,)`` whether a box is finite, with positive sizes, and of a class of the energy."""
        boxes = self.boxes[:, :7]
        valid = np.isfinite(boxes).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
        return np.asarray(valid & (self.labels >= 0))

    @cached_property
    def num_points(self) -> NDArray[np.int64]:
        """``(N,)`` points in each box; 0 where it is not valid."""
        counts = np.zeros(len(self.boxes), dtype=np.int64)
        which = self.is_valid
        counts[which] = points_in_boxes(self.points, self.boxes[which, :7]).sum(axis=0)
        return counts


@dataclass(frozen=True)
class RefinedFrame:
    """What became of the boxes of a frame.

    Attributes:
        boxes: ``(N, 7)`` refined, or as detected.
        moved: ``(N,)`` whether refined: valid, and of a class and band that is trusted.
        f_initial: ``(N,)`` f at the detected box; NaN, as what follows, where not refined.
        f_refined: ``(N,)`` f at the refined one.
        box_std: ``(N, 7)`` standard deviations of x, y, z, sizes (m) and yaw (rad), of the
            posterior's curvature.
        box_covariance: ``(N, 7, 7)``.
        features: ``(N, 4)`` what :class:`ebm3d.refinement.trust.FitProbability` reads.
        probability: ``(N,)`` that the box fits, where trust has learned it.
    """

    boxes: FloatArray
    moved: NDArray[np.bool_]
    f_initial: FloatArray
    f_refined: FloatArray
    box_std: FloatArray
    box_covariance: FloatArray
    features: FloatArray
    probability: FloatArray


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

    def climb(
        self, f: Scorer, boxes: Tensor, labels: Tensor, num_points: Tensor
    ) -> tuple[BoxPosterior, Tensor]:
        """Return g of boxes ``(N, 7)`` and the boxes ``(N, 7)`` that its ascent leads to.

        Args:
            f: the energy bound to the boxes.
            boxes: detected.
            labels: ``(N,)`` classes.
            num_points: ``(N,)`` in the boxes.
        """
        g = self.trust.posterior(f, boxes, labels, num_points)
        std = self.trust.coding(boxes, labels, num_points).noise_std
        rows, kinds = torch.unique(torch.cat((labels[:, None], std), 1), dim=0, return_inverse=True)
        scale = rows[:, 1:].clone()
        sizes = torch.tensor(self.energy.settings.mean_sizes, device=boxes.device)
        scale[:, 3:6] *= sizes[rows[:, 0].long()]  # steps are in meters
        ascent = QuasiNewtonAscent(
            self.num_steps, 0.3, step_scale=scale.tolist(), max_step=1.0, max_displacement=4.0
        )
        return g, ascent(g, boxes, kinds).boxes

    def _refine(self, batch: Sequence[DetectedFrame]) -> Iterator[RefinedFrame]:
        """Refine the boxes of some frames together."""
        moved = [self._can_move(frame) for frame in batch]
        if not sum(map(np.count_nonzero, moved)):
            yield from (_frame(frame, which, {}) for frame, which in zip(batch, moved, strict=True))
            return
        device = next(self.energy.parameters()).device
        pairs = list(zip(batch, moved, strict=True))
        boxes, labels, points, scores = (
            torch.from_numpy(np.concatenate([getattr(f, name)[which] for f, which in pairs]))
            for name in ("boxes", "labels", "num_points", "scores")
        )
        boxes = boxes[:, :7].float().to(device)
        labels, points, scores = labels.to(device), points.to(device), scores.float().to(device)
        sizes = torch.tensor([int(which.sum()) for which in moved])
        index = torch.repeat_interleave(sizes).to(device)
        clouds = [torch.from_numpy(frame.points).to(device) for frame in batch]
        with torch.no_grad():
            f = self.energy.around(clouds, boxes, labels, index)
            g, refined = self.climb(f, boxes, labels, points)
            std = self.trust.coding(refined, labels, points).noise_std
            density = laplace_approximation(g, refined, std).distribution(torch.pi)
            before, after = f(boxes), f(refined)
            features = torch.stack((scores, after, after - before, torch.log1p(points)), dim=1)
            fields = {
                "boxes": refined,
                "f_initial": before,
                "f_refined": after,
                "box_std": density.std,
                "box_covariance": density.covariance,
                "features": features,
                "probability": self.trust.probability(features, labels),
            }
        arrays = [value.double().cpu().split(sizes.tolist()) for value in fields.values()]
        for (frame, which), *values in zip(pairs, *arrays, strict=True):
            yield _frame(frame, which, {k: v.numpy() for k, v in zip(fields, values, strict=True)})

    def _can_move(self, frame: DetectedFrame) -> NDArray[np.bool_]:
        """Which boxes are refined."""
        labels, points = torch.from_numpy(frame.labels), torch.from_numpy(frame.num_points)
        trusted = self.trust.is_trusted(labels, points).numpy()
        return np.asarray(frame.is_valid & trusted & (self.num_steps > 0))


def _frame(
    frame: DetectedFrame, moved: NDArray[np.bool_], fields: dict[str, FloatArray]
) -> RefinedFrame:
    """Put the moved boxes among those that stay."""
    num = len(frame.boxes)
    boxes = frame.boxes[:, :7].astype(np.float64)
    result = {
        name: np.full((num, *shape), np.nan)
        for name, shape in {
            "f_initial": (),
            "f_refined": (),
            "box_std": (7,),
            "box_covariance": (7, 7),
            "features": (4,),
            "probability": (),
        }.items()
    }
    if fields:
        boxes[moved] = fields.pop("boxes")
        for name, values in fields.items():
            result[name][moved] = values
    return RefinedFrame(boxes, moved, **result)
