"""Features of a box from a grid of positions on the bird's-eye-view map.

N boxes with S variants each, E = N * S; C, H, W channels, rows (y), columns (x); C' projected
channels; G grid points, across x along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.devices import Matrix, constant
from ebm3d.errors import check_count, check_positive, input_error, shape_error
from ebm3d.pooling.geometry import BEVGeometry, Pair
from ebm3d.pooling.map_rows import MapRows, read_maps
from ebm3d.pooling.scene import Scenes
from ebm3d.pooling.stacked_maps import StackedMaps
from ebm3d.pooling.twins import apply, gradients, sparse_matrix
from ebm3d.registry import register


@dataclass(frozen=True)
class BEVContext:
    """Maps to read, and where their cells lie."""

    maps: MapRows | StackedMaps
    geometry: BEVGeometry


@register
class BEVGridPool(nn.Module):
    r"""Read the map at ``across x along`` positions spread over the box.

    Positions are :math:`\mathrm{linspace}(-\frac12, \frac12)` times width and length (times
    ``extent``), rotated by the yaw; the outermost lie on the box's edges. Source: Gustafsson et al.
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
        check_positive("extent", extent)
        check_count("in_channels", in_channels)
        if projection is not None:
            check_count("projection", projection)
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
        """Project the maps, once for all boxes and steps.

        Args:
            scenes: maps ``(B, C, H, W)``.
            boxes: ``(N, 7)``, not used.
            scene_index: ``(N,)`` frame of each box.

        Raises:
            ValueError: if the map has another number of channels.
        """
        bev = scenes.bev
        if bev.shape[1] != self.in_channels:
            remedy = "set in_channels of the refinement head"
            raise shape_error("bev", f"(B, {self.in_channels}, H, W)", bev, remedy)
        return BEVContext(read_maps(bev, self.projection, scene_index), scenes.geometry)

    def evaluations_at_once(self, context: BEVContext) -> int:
        """See :class:`ebm3d.pooling.BoxPool`."""
        return context.maps.evaluations_at_once

    def forward(self, context: BEVContext, boxes: Tensor) -> Tensor:
        """Return ``(N, S, out_channels)`` of boxes ``(N, S, 7)``; velocities do not enter.

        Differentiable in boxes, map and projection, twice.
        """
        maps = context.maps
        scale, origin = context.geometry.meters_to_map(maps.scale, maps.shift, self.center_offset)
        return maps.read(grid_positions(boxes[..., :7], self.template.to(boxes), scale, origin))


def grid_positions(boxes: Tensor, template: Tensor, scale: Pair, origin: Pair) -> Tensor:
    """Positions of a grid that moves with a box, in the coordinates of a map.

    Args:
        boxes: ``(N, S, 7)``.
        template: ``(G, 3)`` along and across in lengths and widths of the box, and one.
        scale: units of the map per meter, in x and in y.
        origin: the map's coordinates of (0, 0).

    Returns:
        ``(N, S, G, 2)``, all NaN if any number of the box is not finite; differentiable in boxes,
        twice.
    """
    positions: Tensor = apply(_GridPositions, boxes.flatten(0, 1), template, scale, origin)
    return positions.view(*boxes.shape[:2], len(template), 2)


# The sines of these plus the yaw are the axes of the box: along (x, y), then across (x, y).
_ANGLES = (math.pi / 2, 0.0, math.pi, math.pi / 2)


def _positions_by_torch(
    boxes: Tensor, template: Tensor, scale: Pair, origin: Pair
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions ``(E, G, 2)``; angles, their sines, and sizes in units of the map ``(E, 4)``."""
    columns = torch.addmm(
        constant((*_ANGLES, *(0.0,) * 4), boxes), boxes, constant(_to_columns(*scale), boxes)
    )
    angles, sizes = columns.split(4, dim=1)
    sines = torch.sin(angles)
    # Not by the product: under TF32, which users may allow, it would round 70 m to 3 cm.
    center = torch.addcmul(constant(origin, boxes), boxes[:, :2], constant(scale, boxes))
    offsets = template[:, :2].expand(len(boxes), -1, -1)
    axes = (sines * sizes).view(-1, 2, 2)
    return torch.baddbmm(center[:, None], offsets, axes), angles, sines, sizes


class _GridPositions(torch.autograd.Function):
    """:func:`_positions_by_torch` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, template: Tensor, scale: Pair, origin: Pair) -> Tensor:
        positions, *parts = _positions_by_torch(boxes, template, scale, origin)
        ctx.save_for_backward(boxes, template, *parts)
        ctx.scale, ctx.origin = scale, origin
        return positions

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        boxes, template, angles, sines, sizes = ctx.saved_tensors
        if torch.is_grad_enabled():
            positions = _positions_by_torch(boxes, template, ctx.scale, ctx.origin)[0]
            return gradients(positions, (boxes,), grad, ctx.needs_input_grad)[0], None, None, None
        moments = (template.mT.expand(len(boxes), -1, -1) @ grad).flatten(1)
        grad_axes, grad_center = moments.split((4, 2), dim=1)
        grad_angles = grad_axes * sizes * torch.cos(angles)
        by_parameter = torch.cat((grad_center, grad_axes * sines, grad_angles), dim=1)
        return by_parameter @ constant(_to_boxes(*ctx.scale), boxes), None, None, None


def _to_columns(x: float, y: float) -> Matrix:
    """From boxes to four yaws and four sizes in units of the map, ``(7, 8)``."""
    sizes = {(3, 4): x, (3, 5): y, (4, 6): x, (4, 7): y}
    return sparse_matrix(7, 8, {(6, c): 1.0 for c in range(4)} | sizes)


def _to_boxes(x: float, y: float) -> Matrix:
    """From gradients of center (2), sizes (4) and angles (4) to that of boxes, ``(10, 7)``."""
    center, sizes = {(0, 0): x, (1, 1): y}, {(2, 3): x, (3, 3): y, (4, 4): x, (5, 4): y}
    return sparse_matrix(10, 7, center | sizes | {(r, 6): 1.0 for r in range(6, 10)})
