from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ebm3d.pooling import bilinear_gather
from ebm3d.pooling.map_rows import MapRows, claim_kernel

_BEV = (2, 6, 9, 11)  # B, C, H, W


def _given() -> tuple[Tensor, Tensor, Tensor]:
    bev = torch.randn(_BEV, dtype=torch.float64)
    cells = torch.rand(30, 2, dtype=torch.float64) * 14 - 2
    return bev, cells, torch.randint(2, (30,))


@pytest.mark.parametrize("projected", [False, True])
def test_rows_filled_where_they_are_read_read_as_rows_filled_everywhere(projected: bool):
    bev, cells, scene = _given()
    projection = nn.Linear(6, 3).double() if projected else None
    everywhere = MapRows(bev, projection, scene)
    with torch.no_grad():
        lazy = MapRows(bev, projection, scene)
    for turn in range(3):  # positions move, as boxes do
        at = cells + 0.7 * turn
        found = bilinear_gather(lazy.around(at, scene), lazy.shape, at, scene)
        expected = bilinear_gather(everywhere.around(at, scene), everywhere.shape, at, scene)
        torch.testing.assert_close(found, expected.detach())
    assert everywhere.channels == lazy.channels == (3 if projected else 6)


def test_rows_with_gradients_reach_map_and_projection():
    bev, cells, scene = _given()
    bev.requires_grad_()
    projection = nn.Linear(6, 3).double()
    rows = MapRows(bev, projection, scene).around(cells, scene)
    rows.square().sum().backward()
    assert float(bev.grad.abs().sum()) > 0
    assert all(float(p.grad.abs().sum()) > 0 for p in projection.parameters())


def test_each_row_is_claimed_once_and_only_where_a_position_reads():
    _, cells, scene = _given()
    known = np.zeros(2 * 9 * 11, dtype=np.bool_)
    first = claim_kernel(cells.numpy(), scene.numpy(), 9, 11, known)
    expected = {
        (int(b) * 9 + r) * 11 + c
        for (x, y), b in zip(np.floor(cells.numpy()).astype(int), scene, strict=True)
        for r in (y, y + 1)
        for c in (x, x + 1)
        if 0 <= r < 9 and 0 <= c < 11
    }
    assert len(set(first.tolist())) == len(first)
    assert set(first.tolist()) == expected == set(np.flatnonzero(known).tolist())
    assert len(claim_kernel(cells.numpy(), scene.numpy(), 9, 11, known)) == 0


def test_compiled_and_interpreted_kernels_agree():
    _, cells, scene = _given()
    cells[0] = torch.nan
    found = [
        kernel(cells.numpy(), scene.numpy(), 9, 11, np.zeros(198, dtype=np.bool_))
        for kernel in (claim_kernel, claim_kernel.py_func)
    ]
    np.testing.assert_array_equal(*found)


def test_map_of_another_type_is_filled_everywhere():
    with torch.no_grad():
        rows = MapRows(torch.ones(_BEV, dtype=torch.bfloat16), None, torch.zeros(1).long())
    table = rows.around(torch.zeros(1, 2, dtype=torch.bfloat16), torch.zeros(1).long())
    assert torch.equal(table, torch.ones(198, 6, dtype=torch.bfloat16))
