"""Features of the points in and around a box, which make its height and z observable.

What is seen of a point is defined in :mod:`ebm3d.pooling.point_features_torch`.

N boxes; S variants of each; F columns of the clouds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ebm3d.boxes.kernels import kernels_serve
from ebm3d.devices import constant
from ebm3d.errors import check_count, input_error, is_number
from ebm3d.pooling.padded_pool import PaddedContext, pool_padded
from ebm3d.pooling.point_crops import PaddedCrops, PointCrops, crop_points
from ebm3d.pooling.point_features import point_features
from ebm3d.pooling.point_features_torch import NUM_GEOMETRIC
from ebm3d.pooling.scene import MAX_BYTES, MAX_CACHED, Scenes
from ebm3d.pooling.segments import pool_segments
from ebm3d.registry import register


@register
class PointBoxPool(nn.Module):
    r"""A small point network in the frame of the evaluated box.

    Each point enters with its coordinates relative to the half sizes, its distances beyond the
    faces, its position from the center, and its intensity; two layers give features, of which the
    mean and maximum over the window are taken. The window falls smoothly to zero at ``margin``
    outside the box: features do not jump when a point enters, and do not depend on where the crop
    was made, which would tell the network the true box during training. Two limits of that: a box
    moved by more than ``max_box_shift`` misses points, and where a crop is thinned to
    ``max_points`` the choice depends weakly on the crop. Source: docs/method.md, M-5 (the 2020
    paper sees the height only through the map).

    Points of several sweeps, with their lag in the column ``time_feature``, are moved by the
    velocity of the evaluated box, so that f sees it: those of a moving object fall on one shape at
    its true velocity.

    Args:
        channels: widths of the two point layers.
        margin: how far outside the box points count, meters: along, across, vertically.
        max_box_shift: how far the faces of a box may move from where its crop was made, meters;
            above the reach of the noise and of the refiner. It costs only the crop.
        max_points: largest number of points kept per crop, those out of the window included.
        num_features: F, columns of the clouds used, x, y, z included (4: with intensity).
        time_feature: the column that holds a point's lag, the time of the frame less that of the
            point, seconds; None: all points are of the frame's time.
        feature_scales: factors of the columns after z, before the network; 1 if left out.
        max_velocity_shift: how far a velocity may move from that of the crop, m/s.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),
        margin: Sequence[float] = (0.6, 0.6, 0.4),
        max_box_shift: float = 1.5,
        max_points: int = 256,
        num_features: int = 4,
        time_feature: int | None = None,
        feature_scales: Sequence[float] | None = None,
        max_velocity_shift: float = 3.0,
    ) -> None:
        super().__init__()
        if len(margin) != 3 or not all(0 < value < math.inf for value in margin):
            raise input_error("margin", "three positive numbers of meters", margin)
        if not 0 <= max_box_shift < math.inf:
            raise input_error("max_box_shift", "at least 0 and finite", max_box_shift)
        check_count("max_points", max_points)
        check_count("num_features", num_features, least=3)
        if time_feature is not None and time_feature not in range(3, num_features):
            expected = f"None or a column after z, 3 to {num_features - 1}"
            raise input_error("time_feature", expected, repr(time_feature))
        scales = tuple(feature_scales or (1.0,) * (num_features - 3))
        if len(scales) != num_features - 3 or not all(map(is_number, scales)):
            expected = f"{num_features - 3} finite numbers, one per column after z"
            raise input_error("feature_scales", expected, repr(feature_scales))
        if not is_number(max_velocity_shift) or max_velocity_shift < 0:
            raise input_error("max_velocity_shift", "at least 0 and finite", max_velocity_shift)
        self.time_feature, self.max_velocity_shift = time_feature, max_velocity_shift
        self._scales = None if set(scales) <= {1.0} else (1.0, 1.0, 1.0, *map(float, scales))
        self.margin, self.max_box_shift = tuple(margin), max_box_shift
        self.max_points, self.num_features = max_points, num_features
        self.first = nn.Linear(NUM_GEOMETRIC + num_features - 3, channels[0])
        self.second = nn.Linear(channels[0], channels[1])
        self.out_channels = 2 * channels[1] + 2

    def prepare(
        self, scenes: Scenes, boxes: Tensor, scene_index: Tensor
    ) -> PointCrops | PaddedContext:
        """Crop the points near each box; points take no part in gradients.

        Args:
            scenes: must have points.
            boxes: ``(N, 7)``; later calls may move each by up to ``max_box_shift``. With nine
                columns points are looked for where the velocity moves them.
            scene_index: ``(N,)`` frame of each box.

        Raises:
            ValueError: if the scenes come without points or with too few columns.
        """
        if len(scenes.points) != len(scenes.bev):
            raise input_error(
                "points",
                f"one cloud per frame ({len(scenes.bev)})",
                f"{len(scenes.points)} clouds",
                "set model.type to 'RefinedVoxelNet' (or the Refined... type of your detector), "
                "which hands them on",
            )
        clouds = [p[:, : self.num_features].detach().to(boxes.dtype) for p in scenes.points]
        if any(cloud.shape[1] < self.num_features for cloud in clouds):
            raise input_error(
                "points",
                f"of {self.num_features} columns",
                tuple(clouds[0].shape),
                "set num_features of PointBoxPool to the columns of your clouds",
            )
        reach = [m + self.max_box_shift for m in self.margin]
        crops = crop_points(
            clouds,
            boxes.detach(),
            scene_index,
            reach,
            self.max_points,
            self.time_feature,
            self.max_velocity_shift,
        )
        if self._scales is not None:
            crops = replace(crops, points=crops.points * constant(self._scales, crops.points))
        if isinstance(crops, PaddedCrops):
            return PaddedContext.of(crops, self.first, self.second, self.margin)
        return crops

    def evaluations_at_once(self, context: PointCrops | PaddedContext) -> int:
        """See :class:`ebm3d.pooling.BoxPool`."""
        if isinstance(context, PointCrops):
            return MAX_CACHED
        # What the backward pass needs: coordinates and factors, and both layers with their relu.
        numbers = 90 + 2 * self.first.out_features + 2 * self.second.out_features
        point = numbers * context.xyz.element_size()
        return max(1, MAX_BYTES // (context.xyz.shape[1] * point))

    def forward(self, context: PointCrops | PaddedContext, boxes: Tensor) -> Tensor:
        """Return ``(N, S, out_channels)`` of boxes ``(N, S, 7)`` or ``(N, S, 9)``.

        Mean and maximum of the point features, and the logarithms of one plus the number of points
        in the window and inside the box. Differentiable in boxes and parameters, twice. Memory
        grows with N * S * points * channels.
        """
        if isinstance(context, PointCrops) and not kernels_serve(boxes, context.points):
            context = PaddedContext.of(context.padded(), self.first, self.second, self.margin)
        if isinstance(context, PaddedContext):
            return pool_padded(context, boxes)
        count, variants = boxes.shape[:2]
        features, window, counts, owner = point_features(context, boxes, self.margin)
        hidden = torch.relu_(self.second(torch.relu_(self.first(features))))
        pooled = pool_segments(hidden, window, owner, count * variants)
        sums, maxima = pooled.chunk(2, dim=1)
        in_window = counts[:, :1]
        weight = context.weight.repeat_interleave(variants)[:, None]
        # Nothing times the count: a box that is not finite has no rows, and a maximum of NaN.
        parts = (sums / (in_window + 1), maxima + 0 * in_window, torch.log1p(counts * weight))
        return torch.cat(parts, dim=1).view(count, variants, self.out_channels)
