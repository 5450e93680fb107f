"""Laws of every operator: numba, torch and all devices give the same, inputs are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import (
    OPERATORS,
    nms,
    voxelize,
)
from tests.adapters.operators import calls
from tests.adapters.operators.calls import ops

SIZE, RANGE = [0.5, 0.25, 1.0], [0.0, -4.0, -2.0, 10.0, 4.0, 2.0]


def rows(*shape: int, seed: int = 0) -> Tensor:
    """Random positions and sizes in the range, float64; some yaws."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 4.0, shape))


def with_gradients(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Also the gradients of the floating-point inputs."""

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in inputs]
        output = function(*leaves)
        floats = [leaf for leaf in leaves if leaf.requires_grad]
        return output.detach(), *torch.autograd.grad(output.square().sum(), floats)

    return call


def part_of(boxes: Tensor, points: Tensor) -> Tensor:
    """The first box of each point."""
    first = points.new_zeros(1, len(points), dtype=torch.int)
    OPERATORS["points_in_boxes_part_forward"](boxes[None], points[None], first)
    return first


SCATTERED = rows(300, 5), (4 * rows(300, 3, seed=1)).int() - 2
TARGET = rows(300, seed=2).long().clamp(max=3)
CALLS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "hard voxels": (lambda p: calls.voxelize(p, SIZE, RANGE, 3, 40), (rows(300, 4),)),
    "dynamic voxels": (lambda p: calls.voxelize_dynamically(p, SIZE, RANGE), (rows(300, 4),)),
    "IoU": (lambda a, b: ops.box_iou_rotated(a, b), (rows(30, 5), rows(20, 5))),
    "IoF": (lambda a: ops.box_iou_rotated(a, a.flip(0), "iof", True), (rows(30, 5),)),
    "rotated NMS": (lambda b: calls.rotated_nms(b, b[:, 0], 0.2), (rows(200, 5),)),
    "NMS": (lambda b: calls.nms(b, b[:, 0], 0.2), (rows(200, 4).cumsum(1),)),
    "points in boxes": (
        lambda p, b: calls.points_in_boxes(p, b, "torch"), (rows(300, 3), rows(20, 7)),
    ),
    "first box of points": (part_of, (rows(20, 7), rows(300, 3))),
    "mean": (with_gradients(lambda f, c: ops.dynamic_scatter(f, c, "mean")[0]), SCATTERED),
    "max": (with_gradients(lambda f, c: ops.dynamic_scatter(f, c, "max")[0]), SCATTERED),
    "focal loss": (
        with_gradients(lambda x, t: ops.sigmoid_focal_loss(x, t, 2.0, 0.3, x[0].detach(), "none")),
        (rows(300, 3), TARGET),
    ),
    "deformable convolution": (
        with_gradients(lambda *inputs: ops.deform_conv2d(*inputs, 1, 1)),
        (rows(2, 4, 6, 7), rows(2, 18, 6, 7), rows(6, 4, 3, 3)),
    ),
}  # fmt: skip
# What these return has a shape that the values decide; mmcv refuses targets on another device.
READ_VALUES = {"hard voxels", "rotated NMS", "NMS", "mean", "max", "focal loss"}
names = pytest.mark.parametrize("name", CALLS)


def results(name: str, change: Callable[[Tensor], Tensor] = torch.clone) -> tuple[Tensor, ...]:
    """What a call returns, its inputs changed first."""
    function, inputs = CALLS[name]
    output = function(*map(change, inputs))
    return output if isinstance(output, tuple) else (output,)


def same(outputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    """Equal to rounding in float64; CUDA adds some gradients in any order."""
    pairs = zip(outputs, others, strict=True)
    return all(torch.allclose(a.cpu(), b, rtol=0.0, atol=1e-9) for a, b in pairs)


@names
def test_numba_and_torch_agree_on_inputs_that_are_kept(name, path):
    before = [tensor.clone() for tensor in CALLS[name][1]]
    expected = results(name)
    assert any(tensor.any() for tensor in expected)
    assert same(results(name, lambda t: t), expected)
    assert all(map(torch.equal, CALLS[name][1], before))


@names
def test_cuda_agrees_with_the_cpu(name, cuda):
    assert same(results(name, lambda tensor: tensor.to(cuda)), results(name))


@names
@pytest.mark.usefixtures("path")
def test_inputs_that_require_gradients_change_nothing(name):
    outputs = results(name, lambda t: t.clone().requires_grad_(t.is_floating_point()))
    assert same(tuple(output.detach() for output in outputs), results(name))


@pytest.mark.parametrize("name", sorted(set(CALLS) - READ_VALUES))
def test_no_value_is_read_on_the_host(name):
    outputs = results(name, lambda tensor: tensor.to("meta"))
    assert [o.shape for o in outputs] == [o.shape for o in results(name)]


def test_parts_of_the_others_read_no_value_either():
    points, boxes = rows(50, 4).to("meta"), rows(7, 5).to("meta")
    shapes = ((9, 3, 4), torch.float), ((9, 3), torch.int), ((9,), torch.int)
    filled = [torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in shapes]
    cells = calls.voxelize_dynamically(points, SIZE, RANGE)
    assert voxelize.group_by_sorting(points, cells, [20, 32, 4], *filled).shape == ()
    assert nms.rotated_suppressions(boxes, 0.5).shape == (7, 7)
    assert nms.suppressions(boxes[:, :4], 0.5, 0).shape == (7, 7)
    rows_of = [torch.empty(n, dtype=torch.int, device="meta") for n in (50, 4)]
    for kind in ("sum", "mean", "max"):
        tensors = torch.empty_like(points), points[:4], points, points[:4], *rows_of
        OPERATORS["dynamic_point_to_voxel_backward"](*tensors, kind)


def test_removed_boxes_remove_nothing():
    """A chain: the first removes the second, which would have removed the third."""
    chain = torch.zeros(3, 3, dtype=torch.bool)
    chain[0, 1] = chain[1, 2] = True
    assert nms.kept_rows(chain).tolist() == [0, 2]
