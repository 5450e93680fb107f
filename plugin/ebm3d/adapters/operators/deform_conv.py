"""Deformable convolution: each weight of a kernel reads the map at a learned offset.

Source: ``cpu/deform_conv.cpp`` of mmcv 2.1.0; "Deformable Convolutional Networks", Eq. (2) to (4).
Maps are interpolated bilinearly and are 0 outside.

Glossary: B maps of C channels, H rows and W columns; outputs of O channels, h rows and w columns,
L = h * w; K weights of a kernel; G groups of channels that share offsets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
]


class Geometry(NamedTuple):
    """mmcv's kernel size, stride, padding, dilation and groups; ``im2col_step`` is not used."""

    kW: int
    kH: int
    dW: int
    dH: int
    padW: int
    padH: int
    dilationW: int
    dilationH: int
    group: int  # of the convolution
    deformable_group: int  # G
    im2col_step: int


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Write the convolution; memory is a few times C * K * L.

    Args:
        input: maps, floating point, shape ``(B, C, H, W)``.
        weight: kernels, shape ``(O, C / group, kH, kW)``.
        offset: rows and columns to move by, in turn for each weight, in cells, shape
            ``(B, G * K * 2, h, w)``.
        output: filled, shape ``(B, O, h, w)``.
        columns: not used, like ``ones``.
        ones: not used.
        **geometry: all fields of ``Geometry``.
    """
    layout = Geometry(**geometry)
    kernels = weight.detach().reshape(layout.group, len(weight) // layout.group, -1)
    for b in range(len(input)):
        read = _read(input[b].detach(), offset[b].detach(), layout)
        output[b] = (kernels @ read).view_as(output[b])


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Write the gradients of the maps and of the offsets; shapes as for the forward pass.

    At a whole cell, a kink of the interpolation, the gradient of an offset is that towards the
    next cell, as in mmcv. CUDA adds with atomics unless torch is told to be deterministic.
    """
    layout = Geometry(**geometry)
    kernels = weight.detach().reshape(layout.group, len(weight) // layout.group, -1)
    for b in range(len(input)):
        with torch.enable_grad():
            leaves = [tensor[b].detach().requires_grad_() for tensor in (input, offset)]
            read = _read(leaves[0], leaves[1], layout)
        grad_output = gradOutput[b].detach().reshape(layout.group, kernels.shape[1], -1)
        grad_read = kernels.transpose(1, 2) @ grad_output
        gradInput[b], gradOffset[b] = torch.autograd.grad(read, leaves, grad_read)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """Add ``scale`` times the gradient of the kernels, from that of the output."""
    layout = Geometry(**geometry)
    for b in range(len(input)):
        read = _read(input[b].detach(), offset[b].detach(), layout)
        grad_output = gradOutput[b].detach().reshape(layout.group, -1, read.shape[2])
        gradWeight.add_((grad_output @ read.transpose(1, 2)).view_as(gradWeight), alpha=scale)


def _read(image: Tensor, offset: Tensor, layout: Geometry) -> Tensor:
    """What the weights read of one map, ``(group, C / group * K, L)``; differentiable in both."""
    channels, height, width = image.shape
    groups, num_outputs = layout.deformable_group, offset.shape[1] * offset.shape[2]
    row, column = _positions(offset, layout)
    row_cells, row_weights = _neighbors(row, height)
    column_cells, column_weights = _neighbors(column, width)
    cells = row_cells[..., :, None] * width + column_cells[..., None, :]
    cells += torch.arange(groups, device=image.device)[:, None, None, None] * (height * width)
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    # The channels of a cell are read together: rows of a table, four for each position.
    table = image.view(groups, -1, height * width).transpose(1, 2).reshape(-1, channels // groups)
    read = embedding_bag(
        cells.view(-1, 4), table, mode="sum", per_sample_weights=weights.view(-1, 4)
    )
    read = read.view(groups, num_outputs, -1, channels // groups).permute(0, 3, 2, 1)
    return read.reshape(layout.group, -1, num_outputs)


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two cells around each position along one axis and their weights, 0 outside."""
    low = position.detach().floor()
    part = position - low
    cells = torch.stack([low, low + 1], dim=-1)
    near = (position > -1) & (position < size)
    exists = near[..., None] & (cells >= 0) & (cells < size)
    weights = torch.where(exists, torch.stack([1 - part, part], dim=-1), 0)
    return cells.clamp(0, size - 1).long(), weights


def _positions(offset: Tensor, layout: Geometry) -> tuple[Tensor, Tensor]:
    """Row and column that each weight reads for each output, shape ``(G, L * K)``."""
    height, width = offset.shape[1:]
    moves = offset.view(layout.deformable_group, layout.kH, layout.kW, 2, height, width)

    def grid(weights: int, dilation: int, outputs: int, stride: int, padding: int) -> Tensor:
        along = torch.arange(weights, device=offset.device)[:, None] * dilation - padding
        return along + torch.arange(outputs, device=offset.device) * stride

    rows = grid(layout.kH, layout.dilationH, height, layout.dH, layout.padH)
    columns = grid(layout.kW, layout.dilationW, width, layout.dW, layout.padW)
    row = moves[:, :, :, 0] + rows[:, None, :, None]
    column = moves[:, :, :, 1] + columns[None, :, None, :]
    return row.permute(0, 3, 4, 1, 2).flatten(1), column.permute(0, 3, 4, 1, 2).flatten(1)
