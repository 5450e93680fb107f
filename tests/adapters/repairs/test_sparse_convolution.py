"""Sparse convolution on a CPU against a dense one, with and without the repairs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.oracles.subprocesses import run_python

pytestmark = pytest.mark.mmdet3d

SHAPE = (11, 96, 96)  # z, y, x
NUM_VOXELS = 20_000  # a batch of two frames of the CPU-sized SECOND has 20,000 to 30,000
CHANNELS = 16
REPEATS = 40

# Runs in a fresh process, where no repair is in place; prints what the defects do.
WITHOUT = """
import json, time, torch, spconv.pytorch as sparse
torch.set_num_threads(2)
torch.manual_seed(0)
chosen = torch.randperm(2 * 11 * 96 * 96)[:20_000]
indices = torch.stack(torch.unravel_index(chosen, (2, 11, 96, 96)), dim=1).int()
layer = sparse.SubMConv3d(16, 16, 3, padding=1, bias=False)
features = torch.randn(20_000, 16)

def forward(index):
    return layer(sparse.SparseConvTensor(features, index, (11, 96, 96), 2)).features

with torch.no_grad():
    torch.set_num_threads(1)
    expected = forward(indices)
    same = torch.allclose(expected, forward(indices.t().contiguous().t()))
    torch.set_num_threads(2)
    start, cpu, wrong = time.monotonic(), time.process_time(), 0
    while not wrong and time.monotonic() - start < 25:
        wrong = int(((forward(indices) - expected).abs() > 1e-3).any(dim=1).sum())
    cores = (time.process_time() - cpu) / (time.monotonic() - start)
features.requires_grad_()
try:
    forward(indices).sum().backward()
    error = ""
except Exception as raised:
    error = str(raised)
defects = {"wrong": wrong, "cores": cores, "transposed is the same": same, "backward": error}
print(json.dumps(defects))
"""


@pytest.fixture
def repaired(registered: None) -> Iterator[None]:
    """The repairs in place and two threads, for one test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def random_voxels(generator: torch.Generator) -> Tensor:
    """(N, 4) distinct coordinates b, z, y, x of two frames; int32, contiguous."""
    chosen = torch.randperm(2 * SHAPE[0] * SHAPE[1] * SHAPE[2], generator=generator)[:NUM_VOXELS]
    return torch.stack(torch.unravel_index(chosen, (2, *SHAPE)), dim=1).int()


def volume_of(features: Tensor, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(2, C, D, H, W) volume with the features at their cells and zero elsewhere."""
    empty = features.new_zeros((2, *shape, features.shape[1]))
    return empty.index_put(tuple(indices.long().unbind(1)), features).permute(0, 4, 1, 2, 3)


def rows_of(volume: Tensor, indices: Tensor) -> Tensor:
    """(N, C) features of a volume at N cells."""
    b, z, y, x = indices.long().unbind(1)
    return volume[b, :, z, y, x]


@pytest.mark.parametrize("stride", [1, 2], ids=["submanifold", "strided"])
def test_sparse_convolution_equals_a_dense_one_in_every_repeat(repaired, generator, stride):
    """Forward, gradient of the features and of the filters, float32 against float64."""
    from spconv.pytorch import SparseConv3d, SparseConvTensor, SubMConv3d

    indices = random_voxels(generator)
    features = torch.randn(NUM_VOXELS, CHANNELS, generator=generator)
    kind = SubMConv3d if stride == 1 else SparseConv3d
    layer = kind(CHANNELS, CHANNELS, 3, stride=stride, padding=1, bias=False)

    def sparse_pass(weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        layer.zero_grad()
        leaf = features.clone().requires_grad_()
        out = layer(SparseConvTensor(leaf, indices, list(SHAPE), 2))
        weight = torch.ones_like(out.features) if weight is None else weight
        (out.features * weight).sum().backward()
        return out.features.detach(), out.indices, leaf.grad, layer.weight.grad.clone()

    rows, cells, _, _ = sparse_pass(None)
    weight = torch.randn(rows.shape, generator=generator)
    leaf = features.double().requires_grad_()
    filters = layer.weight.detach().double().requires_grad_()
    dense = nn.functional.conv3d(
        volume_of(leaf, indices, SHAPE), filters.permute(0, 4, 1, 2, 3), stride=stride, padding=1
    )
    expected = rows_of(dense, cells)
    (expected * weight).sum().backward()
    for _ in range(REPEATS):
        rows, again, features_gradient, filters_gradient = sparse_pass(weight)
        assert torch.equal(again, cells)
        pairs = (rows, expected), (features_gradient, leaf.grad), (filters_gradient, filters.grad)
        for values, exact in pairs:
            assert (values - exact.detach()).abs().max() < 5e-5 * exact.abs().max()


def test_without_the_repairs_the_defects_show():
    """A CUDA stream is asked for, strides are ignored, two threads give other rows than one."""
    defects = json.loads(run_python(WITHOUT, OMP_NUM_THREADS="2").splitlines()[-1])
    assert torch.cuda.is_available() or "cuda" in defects["backward"].lower()
    assert not defects["transposed is the same"]
    if not defects["wrong"] and defects["cores"] < 1.2:
        pytest.skip("the two threads hardly ever ran at the same time on this busy machine")
    assert defects["wrong"] > 0


def test_a_transposed_index_tensor_gives_the_same_result(repaired, generator):
    """Coordinates with the memory layout of ``nonzero().int()``."""
    from spconv.pytorch import SparseConvTensor, SubMConv3d

    indices = random_voxels(generator)
    transposed = indices.t().contiguous().t()
    layer = SubMConv3d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    values = torch.randn(NUM_VOXELS, CHANNELS, generator=generator)
    plain, other = (
        layer(SparseConvTensor(values, index, list(SHAPE), 2)).features
        for index in (indices, transposed)
    )
    assert torch.equal(plain, other)


def test_scatter_add_equals_a_loop_in_float64(rng):
    """Jitted and plain Python against numpy's unbuffered addition, with repeated indices."""
    from ebm3d.adapters.repairs.sparse_convolution import scatter_add_rows

    source = rng.normal(size=(50, 7))
    where = rng.integers(0, 9, size=40).astype(np.int32)
    expected = np.ones((9, 7))
    np.add.at(expected, where, source[:40])
    for function in (scatter_add_rows, scatter_add_rows.py_func):
        target = np.ones((9, 7))
        function(target, source, where)
        np.testing.assert_allclose(target, expected, rtol=1e-15)


def test_dense_puts_every_row_at_its_cell(repaired, generator):
    """The repaired scatter against the volume written cell by cell; no warning."""
    from spconv.pytorch import SparseConvTensor

    indices = random_voxels(generator)[:500]
    values = torch.randn(500, 3, generator=generator)
    dense = SparseConvTensor(values, indices, list(SHAPE), 2).dense()
    assert torch.equal(dense, volume_of(values, indices, SHAPE))
