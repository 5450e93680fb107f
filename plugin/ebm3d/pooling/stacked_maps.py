"""Maps read by torch's grid sampling, on any device.

B frames; N boxes with S variants of G positions each; C channels; H, W rows (y) and columns (x);
R rows of all frames, one above the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.devices import constant
from ebm3d.pooling.bilinear import gather_by_torch
from ebm3d.pooling.geometry import stack_maps
from ebm3d.pooling.twins import apply, gradients


class StackedMaps:
    """Projected maps of all frames as one, with a row of zeros before and after each of several.

    The twin of :class:`ebm3d.pooling.map_rows.MapRows`.

    Args:
        bev: ``(B, C, H, W)``.
        projection: of the channels; None leaves them as they are.
        scene_index: ``(N,)`` frame of each box.

    Attributes:
        scale, shift: from cells (column, row) to the coordinates :meth:`read` takes, which are
            those of ``torch.nn.functional.grid_sample`` in the first frame.
        evaluations_at_once: see :class:`ebm3d.pooling.BoxPool`; the pooled features are little.
    """

    evaluations_at_once = 2**16

    def __init__(self, bev: Tensor, projection: nn.Linear | None, scene_index: Tensor) -> None:
        frames, _, height, width = bev.shape
        if projection is not None:
            weight = projection.weight.expand(frames, -1, -1)
            bias = projection.bias[:, None].expand(frames, -1, 1)
            bev = torch.baddbmm(bias, weight, bev.flatten(2)).unflatten(2, (height, width))
        self._limits: tuple[Tensor, Tensor, Tensor] | None = None
        padding = 0
        if frames > 1:
            bev = nn.functional.pad(bev, (0, 0, 1, 1))
            bev = bev.transpose(0, 1).flatten(1, 2)[None]
            padding, step = 1, 2 / frames
            # A frame's rows of zeros end it: whatever lies beyond them reads them.
            first = (step * scene_index.to(bev.dtype))[:, None, None]
            lowest = first + 1 / bev.shape[2] - 1
            self._limits = first, lowest, lowest + step * (height + 1) / (height + 2)
        self._maps = bev
        rows = bev.shape[2]
        self.scale = 2 / width, 2 / rows
        self.shift = 1 / width - 1, (2 * padding + 1) / rows - 1

    def read(self, positions: Tensor) -> Tensor:
        """Return ``(N, S, C * G)`` at positions ``(N, S, G, 2)`` of :attr:`scale`.

        Zero outside, NaN where a column is not finite. Differentiable in positions, maps and
        projection, twice.
        """
        if self._limits is not None:
            first, lowest, highest = self._limits
            row = torch.clamp(positions[..., 1] + first, lowest, highest)
            positions = torch.stack((positions[..., 0], row), dim=-1)
        read: Tensor = apply(_SampleMaps, self._maps, positions.flatten(0, 1))
        return read.view(*positions.shape[:2], read.shape[1] * read.shape[2])


class _SampleMaps(torch.autograd.Function):
    """Read a map ``(1, C, R, W)`` at positions ``(E, G, 2)``: ``(E, C, G)``."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, positions: Tensor) -> Tensor:
        """One map for each of E boxes, none of which is a copy: the result is channel-major."""
        ctx.save_for_backward(maps, positions)
        each = maps.expand(len(positions), -1, -1, -1)
        read = torch.grid_sampler_2d(each, positions[:, :, None], 0, 0, False)[..., 0]
        # On CUDA grid sampling reads zero where a position is NaN.
        return read.add_(positions[:, None, :, 0], alpha=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the map, if wanted, and of the positions."""
        maps, positions = ctx.saved_tensors
        # The gradient of grid sampling is refused on a GPU where torch has to be deterministic.
        if torch.is_grad_enabled() or torch.are_deterministic_algorithms_enabled():
            with torch.enable_grad():
                read = _sample_by_torch(maps, positions)
                grads = gradients(read, (maps, positions), grad, ctx.needs_input_grad)
            return grads[0], grads[1]
        wanted = ctx.needs_input_grad[:2]
        if wanted[0]:
            # The gradient of a map for every box would be as many maps.
            grad = grad.transpose(0, 1).flatten(1)[None, :, :, None]
            at = positions.flatten(0, 1)[None, :, None]
        else:
            maps, at = maps.expand(len(positions), -1, -1, -1), positions[:, :, None]
            grad = grad[..., None]
        grad_maps, grad_positions = torch.ops.aten.grid_sampler_2d_backward(
            grad, maps, at, 0, 0, False, wanted
        )
        return (
            grad_maps if wanted[0] else None,
            grad_positions.view_as(positions) if wanted[1] else None,
        )


def _sample_by_torch(maps: Tensor, positions: Tensor) -> Tensor:
    """The same by operations that torch differentiates any number of times."""
    _, channels, rows, width = maps.shape
    size = constant((float(width), float(rows)), positions)
    cells = (((positions + 1) * size - 1) / 2).flatten(0, 1)
    scene = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    read = gather_by_torch(stack_maps(maps), (1, rows, width), cells, scene)
    return read.view(*positions.shape[:2], channels).transpose(1, 2)
