"""Features of a box from a grid of positions on the bird's-eye-view map.

N boxes; S variants of each; C, H, W channels, rows (y), columns (x); C' projected channels;
A x L grid points across and along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebm3d.errors import input_error, shape_error
from ebm3d.pooling.box_grid import grid_positions
from ebm3d.pooling.geometry import BEVGeometry
from ebm3d.pooling.map_rows import MapReader, read_maps
from ebm3d.pooling.scene import Scenes
from ebm3d.registry import register


@dataclass(frozen=True)
class BEVContext:
    """Maps to read, and where their cells lie."""

    maps: MapReader
    geometry: BEVGeometry


@register
class BEVGridPool(nn.Module):
    r"""Read the map at ``across x along`` positions spread over the box.

    Positions are :math:`\mathrm{linspace}(-\frac12, \frac12)` times width and length (times
    ``extent``), turned by the yaw; the outermost lie on the box's edges. Source: Gustafsson et al.
    2020, docs/method.md, M-4. Deviations: the map is first projected linearly to ``out_channels``
    channels, which commutes with bilinear reading and makes the pooled vector and the first layer
    of the network small (``projection=None`` leaves it out); indices are cell centers
    (``center_offset=0.5``; the paper's maps are read at 0).

    Args:
        in_channels: C of the map.
        grid: points across the width and along the length.
        projection: C', or None for no projection.
        extent: size of the grid relative to the box; above 1 it looks beyond the edges.
        center_offset: see :meth:`ebm3d.pooling.geometry.BEVGeometry.meters_to_map`.
    """

    def __init__(
        self,
        in_channels: int,
        grid: tuple[int, int] = (4, 7),
        projection: int | None = 32,
        extent: float = 1.0,
        center_offset: float = 0.5,
    ) -> None:
        super().__init__()
        if len(grid) != 2 or min(grid) < 2:
            raise input_error("grid", "two numbers of at least 2 (across, along)", grid)
        if not 0 < extent < math.inf or in_channels < 1 or (projection or 1) < 1:
            raise input_error(
                "extent, in_channels, projection",
                "positive and finite, at least 1, at least 1 or None",
                (extent, in_channels, projection),
            )
        self.in_channels = in_channels
        self.center_offset = center_offset
        channels = in_channels if projection is None else projection
        self.projection = None if projection is None else nn.Linear(in_channels, projection)
        across = torch.linspace(-0.5, 0.5, grid[0]) * extent
        along = torch.linspace(-0.5, 0.5, grid[1]) * extent
        # Channel-major, across before along, as the paper flattens its features.
        offsets = torch.stack(torch.meshgrid(along, across, indexing="xy"), dim=-1).reshape(-1, 2)
        template = torch.cat((offsets, torch.ones(len(offsets), 1)), dim=1)
        self.register_buffer("template", template, persistent=False)
        self.template: Tensor
        self.out_channels = channels * grid[0] * grid[1]

    def prepare(self, scenes: Scenes, boxes: Tensor, scene_index: Tensor) -> BEVContext:
        """Take the maps to be projected once for all boxes and steps.

        Args:
            scenes: maps ``(B, C, H, W)``.
            boxes: ``(N, 7)``, not used: the whole map is at hand.
            scene_index: ``(N,)`` frame of each box.

        Returns:
            The context for :meth:`forward`.

        Raises:
            ValueError: if the map has another number of channels than the pool was made for.
        """
        bev = scenes.bev
        if bev.shape[1] != self.in_channels:
            raise shape_error(
                "bev",
                f"(B, {self.in_channels}, H, W)",
                bev,
                "set in_channels of the refinement head",
            )
        return BEVContext(read_maps(bev, self.projection, scene_index), scenes.geometry)

    def evaluations_at_once(self, context: BEVContext) -> int:
        """See :class:`ebm3d.pooling.BoxPool`."""
        return context.maps.evaluations_at_once

    def forward(self, context: BEVContext, boxes: Tensor) -> Tensor:
        """Pool features.

        Args:
            context: of :meth:`prepare`.
            boxes: ``(N, S, 7)``.

        Returns:
            ``(N, S, out_channels)``, differentiable in boxes, map and projection.
        """
        maps = context.maps
        scale, origin = context.geometry.meters_to_map(maps.scale, maps.shift, self.center_offset)
        return maps.read(grid_positions(boxes, self.template.to(boxes), scale, origin))
