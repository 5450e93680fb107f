"""Deformable convolution: each weight of a kernel reads the map at a place of its own.

Source: ``cpu/deform_conv.cpp`` of mmcv 2.1.0; "Deformable Convolutional Networks", Eq. (2) to (4).
A place between cells reads their bilinear interpolation; cells outside the map are 0.

Glossary: B maps of C channels, H rows and W columns; outputs of O channels, h rows and w columns,
L = h * w; K weights of a kernel; G groups of channels that share offsets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class Geometry(NamedTuple):
    """How a kernel lies on the map, by mmcv's names: sizes, strides, zeros around, dilations."""

    kW: int
    kH: int
    dW: int
    dH: int
    padW: int
    padH: int
    dilationW: int
    dilationH: int
    group: int
    """Groups of channels that a kernel sees alone."""
    deformable_group: int
    """G."""
    im2col_step: int
    """Maps that mmcv takes at once; here it is one, so that memory is a few times C * K * L."""


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Write the convolution.

    Args:
        input: maps, floating point, shape ``(B, C, H, W)``.
        weight: kernels, shape ``(O, C / group, kH, kW)``.
        offset: rows and columns to move by, in turn for each weight, in cells, shape
            ``(B, G * K * 2, h, w)``.
        output: filled, shape ``(B, O, h, w)``.
        columns: a buffer of mmcv's, not used.
        ones: likewise.
        **geometry: the fields of ``Geometry``, all of them.
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
    """Write the gradients of the maps and of the offsets, from that of the output.

    At a whole cell, where the interpolation has a kink, the gradient of an offset is that towards
    the next cell, as in mmcv. On CUDA the gradient of the maps is added with atomics, as in mmcv,
    unless torch is told to be deterministic. Shapes are those of ``deform_conv_forward``.
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
    """Add ``scale`` times the gradient of the kernels, from that of the output.

    Shapes are those of ``deform_conv_forward``.
    """
    layout = Geometry(**geometry)
    for b in range(len(input)):
        read = _read(input[b].detach(), offset[b].detach(), layout)
        grad_output = gradOutput[b].detach().reshape(layout.group, -1, read.shape[2])
        gradWeight.add_((grad_output @ read.transpose(1, 2)).view_as(gradWeight), alpha=scale)


def _read(image: Tensor, offset: Tensor, layout: Geometry) -> Tensor:
    """What the weights read of one map, ``(group, C / group * K, L)``; differentiable in both."""
    channels, height, width = image.shape
    groups, num_outputs = layout.deformable_group, offset.shape[1] * offset.shape[2]
    row, column = _places(offset, layout)
    row_cells, row_shares = _neighbors(row, height)
    column_cells, column_shares = _neighbors(column, width)
    cells = row_cells[..., :, None] * width + column_cells[..., None, :]
    cells += torch.arange(groups, device=image.device)[:, None, None, None] * (height * width)
    shares = row_shares[..., :, None] * column_shares[..., None, :]
    # The channels of a cell are read together: rows of a table, four for each place.
    table = image.view(groups, -1, height * width).transpose(1, 2).reshape(-1, channels // groups)
    read = embedding_bag(
        cells.view(-1, 4), table, mode="sum", per_sample_weights=shares.view(-1, 4)
    )
    read = read.view(groups, num_outputs, -1, channels // groups).permute(0, 3, 2, 1)
    return read.reshape(layout.group, -1, num_outputs)


def _neighbors(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two cells around each place along one axis, and their shares, shape ``(G, L * K, 2)``.

    A cell outside has none; beyond the cells around the map there is nothing, not even a slope.
    """
    low = place.detach().floor()
    part = place - low
    cells = torch.stack([low, low + 1], dim=-1)
    near = (place > -1) & (place < size)
    exists = near[..., None] & (cells >= 0) & (cells < size)
    shares = torch.where(exists, torch.stack([1 - part, part], dim=-1), 0)
    return cells.clamp(0, size - 1).long(), shares


def _places(offset: Tensor, layout: Geometry) -> tuple[Tensor, Tensor]:
    """Row and column that each weight reads for each output, shape ``(G, L * K)``."""
    height, width = offset.shape[1:]
    moves = offset.view(layout.deformable_group, layout.kH, layout.kW, 2, height, width)

    def positions(weights: int, dilation: int, outputs: int, stride: int, padding: int) -> Tensor:
        along = torch.arange(weights, device=offset.device)[:, None] * dilation - padding
        return along + torch.arange(outputs, device=offset.device) * stride

    rows = positions(layout.kH, layout.dilationH, height, layout.dH, layout.padH)
    columns = positions(layout.kW, layout.dilationW, width, layout.dW, layout.padW)
    row = moves[:, :, :, 0] + rows[:, None, :, None]
    column = moves[:, :, :, 1] + columns[None, :, None, :]
    return row.permute(0, 3, 4, 1, 2).flatten(1), column.permute(0, 3, 4, 1, 2).flatten(1)
