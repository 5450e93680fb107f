"""The operators, called as ``mmcv.ops`` calls them: with tensors to fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS


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
    constants = torch.tensor(size, dtype=torch.float), torch.tensor(bounds, dtype=torch.float)
    OPERATORS["hard_voxelize_forward"](
        *(points, *constants, voxels, cells, counts, num),
        **{"max_points": max_points, "max_voxels": max_voxels, "NDim": 3, "deterministic": True},
    )
    return voxels[:num], cells[:num], counts[:num]


def voxelize_dynamically(points: Tensor, size: Sequence[float], bounds: Sequence[float]) -> Tensor:
    """Cells (P, 3)."""
    cells = points.new_zeros(len(points), 3, dtype=torch.int)
    constants = torch.tensor(size, dtype=torch.float), torch.tensor(bounds, dtype=torch.float)
    OPERATORS["dynamic_voxelize_forward"](points, *constants, cells, NDim=3)
    return cells


def rotated_iou(first: Tensor, second: Tensor, mode: str, aligned: bool) -> Tensor:
    """IoU or IoF, (N, M) or (N,)."""
    shape = (len(first),) if aligned else (len(first), len(second))
    ious = first.new_zeros(shape).view(-1)
    flag = {"iou": 0, "iof": 1}[mode]
    OPERATORS["box_iou_rotated"](first, second, ious, mode_flag=flag, aligned=aligned)
    return ious.view(shape)


def nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int = 0) -> Tensor:
    """Kept rows of boxes (x1, y1, x2, y2)."""
    return OPERATORS["nms"](boxes, scores, iou_threshold=threshold, offset=offset)


def rotated_nms(
    boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None = None
) -> Tensor:
    """Kept rows of boxes (x, y, w, h, angle)."""
    order = scores.sort(0, descending=True).indices
    rows = boxes if labels is None else torch.cat([boxes, labels[:, None]], dim=1)
    classes = scores.new_empty(0, dtype=torch.int) if labels is None else labels
    arguments = (rows, scores, order, rows[order], classes, threshold, labels is not None)
    return OPERATORS["nms_rotated"](*arguments)


def points_in_boxes(points: Tensor, boxes: Tensor, path: str) -> Tensor:
    """Whether point p (P, 3) lies in box n (N, 7), (P, N)."""
    if path == "numba":
        inside = points.new_zeros(len(boxes), len(points), dtype=torch.int)
        OPERATORS["points_in_boxes_cpu_forward"](boxes, points, inside)
        return inside.t()
    inside = points.new_zeros(1, len(points), len(boxes), dtype=torch.int)
    OPERATORS["points_in_boxes_all_forward"](boxes[None], points[None], inside)
    return inside[0]


class Scatter(torch.autograd.Function):
    """The function that mmcv.ops makes of the two operators of dynamic scatter."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, cells: Tensor, kind: str) -> Tensor:
        """Features of the voxels (M, C)."""
        voxels, _, *rows = OPERATORS["dynamic_point_to_voxel_forward"](feats, cells, kind)
        ctx.kind = kind
        ctx.save_for_backward(feats, voxels, *rows)
        return voxels

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the features (P, C)."""
        grad_feats = torch.zeros_like(ctx.saved_tensors[0])
        arguments = (grad_feats, grad.contiguous(), *ctx.saved_tensors, ctx.kind)
        OPERATORS["dynamic_point_to_voxel_backward"](*arguments)
        return grad_feats, None, None


class FocalLoss(torch.autograd.Function):
    """The function that mmcv.ops makes of the two operators of the focal loss."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
    ) -> Tensor:
        """Loss of each logit."""
        ctx.constants = {"gamma": gamma, "alpha": alpha}
        ctx.save_for_backward(logits, target, weight)
        losses = torch.zeros_like(logits)
        OPERATORS["sigmoid_focal_loss_forward"](logits, target, weight, losses, **ctx.constants)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Gradient of the logits."""
        slopes = torch.zeros_like(grad)
        OPERATORS["sigmoid_focal_loss_backward"](*ctx.saved_tensors, slopes, **ctx.constants)
        return slopes * grad, None, None, None, None


class DeformConv(torch.autograd.Function):
    """The function that mmcv.ops makes of the three operators of deformable convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        offsets: Tensor,
        kernels: Tensor,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        offset_groups: int = 1,
    ) -> Tensor:
        """Maps (B, C, H, W), offsets (B, G K 2, h, w), kernels (O, C / groups, kH, kW)."""
        ctx.geometry = {"kW": kernels.shape[3], "kH": kernels.shape[2]}
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
        inputs, buffer = (maps, offsets, grad.contiguous()), maps.new_empty(0)
        arguments = (*inputs, grads[0], grads[1], kernels, buffer)
        OPERATORS["deform_conv_backward_input"](*arguments, **ctx.geometry)
        arguments = (*inputs, grads[2], buffer, buffer)
        OPERATORS["deform_conv_backward_parameters"](*arguments, scale=1, **ctx.geometry)
        return (*grads, None, None, None, None, None)
