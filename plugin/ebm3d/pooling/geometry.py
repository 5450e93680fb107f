"""Meters to cells: the one place that knows stride and origin of a bird's-eye-view map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.errors import check_count, input_error

Pair = tuple[float, float]


@dataclass(frozen=True)
class BEVGeometry:
    """Where the cells of a map ``(B, C, H, W)`` lie: rows are y, columns are x.

    Cell i covers ``[i, i + 1) * cell_size`` from the origin.

    Attributes:
        origin: x and y in meters of the outer corner of cell (0, 0).
        cell_size: extent of a cell along x and along y, meters.
    """

    origin: Pair
    cell_size: Pair

    @classmethod
    def from_range(cls, point_cloud_range: Sequence[float], height: int, width: int) -> BEVGeometry:
        """Derive the geometry from the range that a map of ``height x width`` cells covers.

        Args:
            point_cloud_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)``, meters.
            height: H, cells along y.
            width: W, cells along x.

        Raises:
            ValueError: if the range has not 6 numbers or is empty, or the map has no cells.
        """
        if len(point_cloud_range) != 6:
            expected = "(x_min, y_min, z_min, x_max, y_max, z_max)"
            raise input_error("point_cloud_range", expected, point_cloud_range)
        x_min, y_min, _, x_max, y_max, _ = (float(v) for v in point_cloud_range)
        if not (x_max > x_min and y_max > y_min):
            raise input_error("point_cloud_range", "increasing in x and y", point_cloud_range)
        check_count("height", height)
        check_count("width", width)
        return cls((x_min, y_min), ((x_max - x_min) / width, (y_max - y_min) / height))

    def meters_to_map(
        self, scale: Pair = (1.0, 1.0), shift: Pair = (0.0, 0.0), center_offset: float = 0.5
    ) -> tuple[Pair, Pair]:
        """Return factor and offset, in x and in y, from meters to coordinates of a map.

        Args:
            scale: of the coordinates, per cell; 1 for fractional cell indices.
            shift: the coordinates of index 0.
            center_offset: where in its cell an index lies; 0.5 is the cell's center. The 2020 paper
                has 0 (its map is shifted by half a cell, which its network learned).
        """
        x, y = (s / size for s, size in zip(scale, self.cell_size, strict=True))
        at_x = shift[0] - x * self.origin[0] - scale[0] * center_offset
        at_y = shift[1] - y * self.origin[1] - scale[1] * center_offset
        return (x, y), (at_x, at_y)


def stack_maps(bev: Tensor) -> Tensor:
    """Return maps ``(B, C, H, W)`` as rows of channels ``(B * H * W, C)``, contiguous."""
    return torch.flatten(bev.permute(0, 2, 3, 1), 0, 2).contiguous()
