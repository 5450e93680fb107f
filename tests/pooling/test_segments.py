from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebm3d.pooling.segments import (
    pool_backward_kernel,
    pool_by_torch,
    pool_kernel,
    pool_segments,
)

_OWNER = torch.tensor([3, 0, 0, 3, 1, 0, 3, 1, 1, 1])  # no row belongs to segments 2 and 4


def _inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.rand(10, 3, dtype=dtype), torch.rand(10, dtype=dtype)


def test_sums_and_maxima_of_each_segment_by_hand():
    values, weights = _inputs()
    pooled = pool_segments(values, weights, _OWNER, 5)
    for segment in range(5):
        rows = [weights[r] * values[r] for r in range(10) if _OWNER[r] == segment]
        rows = torch.stack(rows) if rows else torch.zeros(1, 3, dtype=torch.float64)
        expected = torch.cat((rows.sum(dim=0), rows.amax(dim=0)))
        torch.testing.assert_close(pooled[segment], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_its_twin_in_value_and_gradients(dtype: torch.dtype):
    grad, found = torch.randn(5, 6, dtype=dtype), []
    values, weights = _inputs(dtype)
    for pool in (pool_segments, pool_by_torch):
        inputs = values.clone().requires_grad_(), weights.clone().requires_grad_()
        out = pool(*inputs, _OWNER, 5)
        found.append((out.detach(), *torch.autograd.grad(out, inputs, grad)))
    for kernel, twin in zip(*found, strict=True):
        torch.testing.assert_close(kernel, twin)


def test_compiled_and_interpreted_kernels_agree():
    values, weights = _inputs()
    grad, found = torch.randn(5, 6, dtype=torch.float64), []
    for forward, backward in (
        (pool_kernel, pool_backward_kernel),
        (pool_kernel.py_func, pool_backward_kernel.py_func),
    ):
        pooled, largest = torch.zeros_like(grad), torch.full((5, 3), -1)
        outs = torch.empty_like(values), torch.empty_like(weights)
        arrays = [t.numpy() for t in (values, weights, _OWNER)]
        forward(*arrays, pooled.numpy(), largest.numpy())
        backward(*arrays, largest.numpy(), grad.numpy(), *(t.numpy() for t in outs))
        found.append((pooled, largest, *outs))
    for compiled, interpreted in zip(*found, strict=True):
        torch.testing.assert_close(compiled, interpreted)


def test_pooling_segments_is_differentiable_twice():
    values, weights = (t.requires_grad_() for t in _inputs())
    assert torch.autograd.gradcheck(lambda v, w: pool_segments(v, w, _OWNER, 5), (values, weights))
    assert torch.autograd.gradgradcheck(
        lambda v, w: pool_segments(v, w, _OWNER, 5), (values, weights)
    )


def test_two_rows_that_share_the_maximum_share_one_gradient():
    values = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    weights, owner = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    for pool in (pool_segments, pool_by_torch):
        (gradient,) = torch.autograd.grad(pool(values, weights, owner, 1)[0, 1], values)
        assert float(gradient.sum()) == 1.0


def test_value_that_is_not_a_number_is_not_hidden():
    values, weights = _inputs()
    values[1, 0] = torch.nan
    for pool in (pool_segments, pool_by_torch):
        assert torch.isnan(pool(values, weights, _OWNER, 5)[0]).tolist() == [
            True, False, False, True, False, False,
        ]  # fmt: skip


def test_no_rows_pool_to_zeros():
    empty = torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert torch.equal(pool_segments(*empty, 2), torch.zeros(2, 6))
