"""What a pool reads from: feature maps and points of a batch of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ebm3d.errors import input_error, shape_error
from ebm3d.pooling.geometry import BEVGeometry

# Boxes a CPU evaluates at a time, so that their features stay in its cache.
MAX_CACHED = 2048
# Memory for what other devices evaluate at a time and keep for the backward pass.
MAX_BYTES = 2**31


@dataclass(frozen=True)
class Scenes:
    """Features of B frames.

    Attributes:
        bev: ``(B, C, H, W)`` bird's-eye-view map.
        geometry: where its cells lie.
        points: B tensors ``(P_b, F)``, F >= 3, LiDAR frame: x, y, z (m), then features such as
            intensity; empty where the frames come without points.
    """

    bev: Tensor
    geometry: BEVGeometry
    points: tuple[Tensor, ...] = ()

    @classmethod
    def from_range(
        cls, bev: Tensor, point_cloud_range: Sequence[float], points: Sequence[Tensor] = ()
    ) -> Scenes:
        """Build scenes whose map covers ``point_cloud_range``, six numbers in meters.

        Raises:
            ValueError: if the map has not four axes or the number of clouds is not B.
        """
        if bev.ndim != 4:
            raise shape_error("bev", "(B, C, H, W)", bev)
        if len(points) not in (0, len(bev)):
            expected = f"one cloud per frame ({len(bev)})"
            raise input_error("points", expected, f"{len(points)} clouds")
        geometry = BEVGeometry.from_range(point_cloud_range, bev.shape[2], bev.shape[3])
        return cls(bev, geometry, tuple(points))

    @classmethod
    def from_points(cls, points: Sequence[Tensor]) -> Scenes:
        """Build scenes of B clouds ``(P, F)`` alone: their map has no channels."""
        like = points[0] if points else torch.zeros(())
        bev = like.new_zeros(len(points), 0, 1, 1)
        return cls(bev, BEVGeometry.from_range((-1, -1, -1, 1, 1, 1), 1, 1), tuple(points))


class BoxPool(Protocol):
    """Boxes to features, in two steps.

    ``prepare`` does once what does not depend on where exactly the boxes are (project the map, crop
    the points near each box); the module itself is then called many times with moved boxes.
    """

    out_channels: int

    def prepare(self, scenes: Scenes, boxes: Tensor, scene_index: Tensor) -> Any:
        """Return the context for boxes near ``boxes`` ``(N, 7)``."""
        ...

    def __call__(self, context: Any, boxes: Tensor) -> Tensor:
        """Return ``(N, S, out_channels)`` features of ``boxes`` ``(N, S, 7)``.

        A box that is not finite has features and a gradient of NaN.
        """
        ...

    def evaluations_at_once(self, context: Any) -> int:
        """Return how many boxes to evaluate at a time: what fits the cache, or the memory."""
        ...
