"""The operators, called as ``mmcv.ops`` calls them: with tensors to fill."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS

_DISPATCHING = (
    "box_iou_rotated",
    "dynamic_scatter",
    "dynamic_voxelize",
    "hard_voxelize",
    "nms",
    "nms_rotated",
)


def choose(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Let ``"numba"`` work on CPU tensors, as it does, or ``"torch"``, made for other devices."""
    if path == "torch":
        for name in _DISPATCHING:
            module = import_module(f"ebm3d.adapters.operators.{name}")
            monkeypatch.setattr(module, "kernels_serve", lambda *tensors: False)


def voxelize(
    points: Tensor,
    size: Sequence[float],
    bounds: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels (M, T, C), cells (M, 3), counts (M,)."""
    voxels = points.new_zeros(max_voxels, max_points, points.shape[1])
    cells = points.new_zeros(max_voxels, 3, dtype=torch.int)
    counts = points.new_zeros(max_voxels, dtype=torch.int)
    num = torch.zeros((), dtype=torch.long)
    OPERATORS["hard_voxelize_forward"](
        points,
        torch.tensor(size, dtype=torch.float),
        torch.tensor(bounds, dtype=torch.float),
        voxels,
        cells,
        counts,
        num,
        max_points=max_points,
        max_voxels=max_voxels,
        NDim=3,
        deterministic=True,
    )
    return voxels[:num], cells[:num], counts[:num]


def voxelize_dynamically(points: Tensor, size: Sequence[float], bounds: Sequence[float]) -> Tensor:
    """Cells (P, 3)."""
    cells = points.new_zeros(len(points), 3, dtype=torch.int)
    constants = (torch.tensor(size, dtype=torch.float), torch.tensor(bounds, dtype=torch.float))
    OPERATORS["dynamic_voxelize_forward"](points, *constants, cells, NDim=3)
    return cells


def rotated_iou(first: Tensor, second: Tensor, mode: str, aligned: bool) -> Tensor:
    """IoU or IoF, (N, M) or (N,)."""
    shape = (len(first),) if aligned else (len(first), len(second))
    ious = first.new_zeros(shape).view(-1)
    flag = {"iou": 0, "iof": 1}[mode]
    OPERATORS["box_iou_rotated"](first, second, ious, mode_flag=flag, aligned=aligned)
    return ious.view(shape)


def rotated_nms(
    boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None
) -> Tensor:
    """Rows that stay."""
    order = scores.sort(0, descending=True).indices
    rows = boxes if labels is None else torch.cat([boxes, labels[:, None]], dim=1)
    given = scores.new_empty(0, dtype=torch.int) if labels is None else labels
    return OPERATORS["nms_rotated"](
        rows, scores, order, rows[order], given, threshold, labels is not None
    )


def points_in_boxes(points: Tensor, boxes: Tensor, path: str) -> Tensor:
    """Whether point p (P, 3) lies in box n (N, 7), (P, N)."""
    if path == "numba":
        inside = points.new_zeros(len(boxes), len(points), dtype=torch.int)
        OPERATORS["points_in_boxes_cpu_forward"](boxes, points, inside)
        return inside.t()
    inside = points.new_zeros(1, len(points), len(boxes), dtype=torch.int)
    OPERATORS["points_in_boxes_all_forward"](boxes[None], points[None], inside)
    return inside[0]


class DeformConv(torch.autograd.Function):
    """The function that mmcv.ops makes of the three operators of deformable convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        offsets: Tensor,
        kernels: Tensor,
        stride: int,
        padding: int,
        dilation: int,
        groups: int,
        offset_groups: int,
    ) -> Tensor:
        """Maps (B, C, H, W), offsets (B, G K 2, h, w), kernels (O, C / groups, kH, kW)."""
        rows, columns = kernels.shape[2:]
        ctx.geometry = dict(zip(("kW", "kH"), (columns, rows), strict=True))
        ctx.geometry |= {"dW": stride, "dH": stride, "padW": padding, "padH": padding}
        ctx.geometry |= {"dilationW": dilation, "dilationH": dilation, "group": groups}
        ctx.geometry |= {"deformable_group": offset_groups, "im2col_step": 1}
        ctx.save_for_backward(maps, offsets, kernels)
        output = maps.new_empty(len(maps), len(kernels), *offsets.shape[2:])
        buffers = maps.new_empty(0), maps.new_empty(0)
        OPERATORS["deform_conv_forward"](maps, kernels, offsets, output, *buffers, **ctx.geometry)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of maps, offsets and kernels."""
        maps, offsets, kernels = ctx.saved_tensors
        grads = [torch.zeros_like(tensor) for tensor in (maps, offsets, kernels)]
        buffer = maps.new_empty(0)
        inputs = (maps, offsets, grad.contiguous())
        OPERATORS["deform_conv_backward_input"](
            *inputs, grads[0], grads[1], kernels, buffer, **ctx.geometry
        )
        OPERATORS["deform_conv_backward_parameters"](
            *inputs, grads[2], buffer, buffer, scale=1, **ctx.geometry
        )
        return (*grads, None, None, None, None, None)
