"""Features of the points in and around a box, which make its height and z observable.

N boxes; S variants of each; K points of a crop; F point features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm3d.boxes.frames import points_to_box_frame
from ebm3d.errors import input_error
from ebm3d.pooling.point_crops import PointCrops, crop_points
from ebm3d.pooling.scene import Scenes

_METRIC_SCALE = 2.0  # distances to faces enter in units of half a meter
_NUM_GEOMETRIC = 10


class PointBoxPool(nn.Module):
    r"""A small point network in the frame of the evaluated box.

    Each point enters with its coordinates relative to the half sizes, its signed distances to the
    six faces, and its intensity; two layers give features, which are averaged and maximized over
    the points. A window that falls smoothly to zero at ``margin`` outside the box weights both, so
    that the features depend on the points and the evaluated box alone: not on where the crop was
    made (which would tell the network the true box during training), and without a jump when a
    point enters. Source: docs/method.md, M-5 (our own; the 2020 paper sees the height only
    through the map).

    Args:
        channels: widths of the two point layers.
        margin: how far outside the box points still count, meters: along, across, vertically.
        slack: how far a box may move from where its crop was made, meters, before points are
            missed; added to the margin of the crop.
        max_points: largest number of points kept per box.
        num_features: F, columns of the clouds used, x, y, z included (4: with intensity).
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),
        margin: Sequence[float] = (0.6, 0.6, 0.4),
        slack: float = 0.6,
        max_points: int = 128,
        num_features: int = 4,
    ) -> None:
        super().__init__()
        if len(margin) != 3 or min(margin) <= 0:
            raise input_error("margin", "three positive numbers of meters", margin)
        if num_features < 3 or max_points < 1 or slack < 0:
            raise input_error(
                "num_features, max_points, slack",
                "at least 3, 1 and 0",
                (num_features, max_points, slack),
            )
        self.margin, self.slack = tuple(margin), slack
        self.max_points, self.num_features = max_points, num_features
        self.first = nn.Linear(_NUM_GEOMETRIC + num_features - 3, channels[0])
        self.second = nn.Linear(channels[0], channels[1])
        self.out_channels = 2 * channels[1] + 2

    def prepare(self, scenes: Scenes, boxes: Tensor, scene_index: Tensor) -> PointCrops:
        """Crop the points near each box.

        Args:
            scenes: must have points.
            boxes: ``(N, 7)``; later calls may move each by up to ``slack``.
            scene_index: ``(N,)``.

        Returns:
            The crops.

        Raises:
            ValueError: if the scenes come without points or with too few columns.
        """
        if len(scenes.points) != len(scenes.bev):
            raise input_error(
                "points",
                f"one cloud per frame ({len(scenes.bev)})",
                f"{len(scenes.points)} clouds",
                "set model.data_preprocessor.type to 'RefinementDataPreprocessor'",
            )
        clouds = [cloud[:, : self.num_features].to(boxes.dtype) for cloud in scenes.points]
        if any(cloud.shape[1] < self.num_features for cloud in clouds):
            raise input_error(
                "points",
                f"of {self.num_features} columns",
                tuple(clouds[0].shape),
                "set num_features of PointBoxPool to the columns of your clouds",
            )
        reach = [m + self.slack for m in self.margin]
        return crop_points(clouds, boxes.detach(), scene_index, reach, self.max_points)

    def forward(self, context: PointCrops, boxes: Tensor) -> Tensor:
        """Pool features.

        Args:
            context: of :meth:`prepare`.
            boxes: ``(N, S, 7)``.

        Returns:
            ``(N, S, out_channels)``: mean and maximum of the point features, and the logarithms of
            the number of points in the window and inside the box. Differentiable in boxes. Memory
            grows with N * S * K * channels; :class:`ebm3d.energy.BoxEnergy` bounds it.
        """
        points = context.points[:, None]
        local = points_to_box_frame(points, boxes)
        half = 0.5 * boxes[:, :, None, 3:6]
        centered = torch.cat((local[..., :2], local[..., 2:] - half[..., 2:]), dim=-1)
        beyond = centered.abs() - half
        lower, upper = -local[..., 2:], local[..., 2:] - 2 * half[..., 2:]
        signed = centered / half
        features = torch.cat(
            (
                signed.clamp(-3, 3),
                _METRIC_SCALE * beyond[..., :2],
                _METRIC_SCALE * lower,
                _METRIC_SCALE * upper,
                _METRIC_SCALE * centered,
                points[..., 3:].expand(*local.shape[:-1], -1),
            ),
            dim=-1,
        )
        reach = beyond.new_tensor(self.margin)
        ramp = (1 - beyond.clamp_min(0) / reach).clamp_min(0)
        window = (ramp * ramp * (3 - 2 * ramp)).prod(dim=-1) * context.present[:, None]
        # The sigmoid alone has no end: it would count points by where the crop was cut.
        inside = torch.sigmoid(-10 * beyond).prod(dim=-1) * window
        hidden = torch.relu(self.second(torch.relu(self.first(features))))
        total = window.sum(-1)
        mean = (window[..., None, :] @ hidden)[..., 0, :] / (total[..., None] + 1)
        # max with indices: its backward touches one point a channel, that of amax all of them
        largest = (hidden * window[..., None]).max(dim=-2).values
        counts = torch.stack((total, inside.sum(-1)), dim=-1) * context.weight[:, None, None]
        return torch.cat((mean, largest, torch.log1p(counts)), dim=-1)
