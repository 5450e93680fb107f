"""Deformable convolution against four nested loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import OPERATORS
from tests.adapters.operators.calls import ops


def tensors(
    rng: np.random.Generator, groups: int = 1, sharing: int = 1, size: tuple[int, int] = (4, 5)
) -> list[Tensor]:
    """Maps (2, 4, H, W), offsets for kernels of 3 x 3 and stride 1, kernels, float64."""
    shapes = (2, 4, *size), (2, sharing * 18, *size), (6, 4 // groups, 3, 3)
    return [torch.from_numpy(rng.normal(size=shape)) for shape in shapes]


def interpolate(image: Tensor, row: float, column: float) -> float:
    """The map (H, W) between its cells, 0 outside."""
    total = 0.0
    for y in (math.floor(row), math.floor(row) + 1):
        for x in (math.floor(column), math.floor(column) + 1):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                total += (1 - abs(row - y)) * (1 - abs(column - x)) * float(image[y, x])
    return total


@pytest.mark.parametrize(("groups", "sharing"), [(1, 1), (2, 1), (1, 2), (2, 4)])
def test_outputs_are_sums_of_interpolated_cells(rng, groups, sharing):
    maps, offsets, kernels = tensors(rng, groups, sharing)
    output = ops.deform_conv2d(maps, offsets, kernels, 1, 1, 1, groups, sharing)
    for _ in range(40):
        b, o, y, x = (int(rng.integers(n)) for n in output.shape)
        expected = 0.0
        for c in range(4 // groups):
            channel = o // (6 // groups) * (4 // groups) + c
            moves = offsets[b].view(sharing, 9, 2, 4, 5)[channel // (4 // sharing), :, :, y, x]
            for k in range(9):
                row, column = y - 1 + k // 3 + moves[k, 0], x - 1 + k % 3 + moves[k, 1]
                read = interpolate(maps[b, channel], float(row), float(column))
                expected += float(kernels[o, c].flatten()[k]) * read
        assert output[b, o, y, x].item() == pytest.approx(expected, abs=1e-12)


def test_gradients_are_those_of_finite_differences(rng):
    """Random offsets: none of them near a whole cell, where there is a kink."""
    leaves = [tensor.requires_grad_() for tensor in tensors(rng, 2, 2, size=(3, 3))]
    assert (leaves[1] - leaves[1].round()).abs().min() > 1e-5

    def convolve(*inputs: Tensor) -> Tensor:
        return ops.deform_conv2d(*inputs, 1, 1, 1, 2, 2)

    assert torch.autograd.gradcheck(convolve, leaves, eps=1e-7, atol=1e-5)


def test_an_unknown_name_is_refused(rng):
    maps, offsets, kernels = tensors(rng)
    with pytest.raises(TypeError, match="strideW"):
        OPERATORS["deform_conv_forward"](maps, kernels, offsets, maps, maps, maps, strideW=1)
