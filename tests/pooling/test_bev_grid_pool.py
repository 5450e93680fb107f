from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes import bev_corners
from ebm3d.pooling import BEVGridPool, Scenes

_RANGE = (-12.0, -12.0, -3.0, 12.0, 12.0, 1.0)
_CELL = 0.5  # m, of a map of 48 x 48


def _boxes(count: int = 10) -> Tensor:
    """Boxes wholly inside the map, of every heading, float64."""
    boxes = torch.rand(count, 7, dtype=torch.float64)
    low = torch.tensor([-7.0, -7, -2, 1, 1, 1, -3])
    return low + boxes * torch.tensor([14.0, 14, 1, 3, 1, 1, 6])


def _bev(channels: int = 3, frames: int = 1) -> Tensor:
    return torch.randn(frames, channels, 48, 48, dtype=torch.float64)


def _pool_of(bev: Tensor, **options: Any) -> BEVGridPool:
    options = {"projection": None, **options}
    return BEVGridPool(bev.shape[1], **options).double()


def _pooled(pool: BEVGridPool, bev: Tensor, boxes: Tensor, scene: Tensor | None = None) -> Tensor:
    scene = torch.zeros(len(boxes), dtype=torch.int64) if scene is None else scene
    context = pool.prepare(Scenes.from_range(bev, _RANGE), boxes, scene)
    return pool(context, boxes[:, None])[:, 0]


def _position_map() -> Tensor:
    """A map whose two channels are x and y of the cell centers, meters."""
    center = -12 + (torch.arange(48, dtype=torch.float64) + 0.5) * _CELL
    y, x = torch.meshgrid(center, center, indexing="ij")
    return torch.stack((x, y))[None]


def test_map_of_positions_gives_back_the_positions_of_the_grid():
    # Pins the convention: the center of cell i lies at (i + 0.5) cell sizes.
    boxes, bev = _boxes(), _position_map()
    read = _pooled(_pool_of(bev), bev, boxes).view(10, 2, 4, 7)
    along = torch.linspace(-0.5, 0.5, 7, dtype=torch.float64) * boxes[:, 3:4]
    across = torch.linspace(-0.5, 0.5, 4, dtype=torch.float64) * boxes[:, 4:5]
    cos, sin = torch.cos(boxes[:, 6]), torch.sin(boxes[:, 6])
    for i in range(4):
        for j in range(7):
            x = boxes[:, 0] + cos * along[:, j] - sin * across[:, i]
            y = boxes[:, 1] + sin * along[:, j] + cos * across[:, i]
            # The offsets of the grid are stored in float32.
            torch.testing.assert_close(read[:, 0, i, j], x, atol=1e-6, rtol=0)
            torch.testing.assert_close(read[:, 1, i, j], y, atol=1e-6, rtol=0)


def test_paper_convention_reads_half_a_cell_further():
    boxes, bev = _boxes(), _position_map()
    ours = _pooled(_pool_of(bev), bev, boxes)
    paper = _pooled(_pool_of(bev, center_offset=0.0), bev, boxes)
    torch.testing.assert_close(paper - ours, torch.full_like(ours, 0.5 * _CELL))


def test_outermost_points_are_the_corners():
    boxes, bev = _boxes(), _position_map()
    read = _pooled(_pool_of(bev), bev, boxes).view(10, 2, 4, 7)
    # front left, rear left, rear right, front right
    found = torch.stack((read[:, :, 3, 6], read[:, :, 3, 0], read[:, :, 0, 0], read[:, :, 0, 6]), 1)
    torch.testing.assert_close(found, bev_corners(boxes), atol=1e-6, rtol=0)


def test_extent_stretches_the_grid_about_the_center():
    boxes, bev = _boxes(), _position_map()
    larger = boxes.clone()
    larger[:, 3:5] *= 1.5
    wide = _pooled(_pool_of(bev, extent=1.5), bev, boxes)
    torch.testing.assert_close(wide, _pooled(_pool_of(bev), bev, larger), atol=1e-6, rtol=0)


def test_pooling_commutes_with_a_quarter_turn_of_map_and_boxes():
    boxes, bev = _boxes(), _bev()
    turned = boxes.clone()
    turned[:, 0], turned[:, 1] = -boxes[:, 1], boxes[:, 0]
    turned[:, 6] += math.pi / 2
    # The turned map at (x, y) is the map at (y, -x).
    turned_bev = bev.flip(2).transpose(2, 3)
    pool = _pool_of(bev)
    torch.testing.assert_close(_pooled(pool, turned_bev, turned), _pooled(pool, bev, boxes))


@pytest.mark.parametrize("shift", [(3, 0), (0, -4), (2, 5)])
def test_pooling_commutes_with_shifts_by_whole_cells(shift: tuple[int, int]):
    boxes, bev = _boxes(), _bev()
    boxes[:, :2] *= 0.5
    moved = boxes.clone()
    moved[:, 0] += shift[0] * _CELL
    moved[:, 1] += shift[1] * _CELL
    moved_bev = torch.roll(bev, (shift[1], shift[0]), dims=(2, 3))
    pool = _pool_of(bev)
    torch.testing.assert_close(_pooled(pool, moved_bev, moved), _pooled(pool, bev, boxes))


def test_reading_after_the_projection_is_projecting_what_was_read():
    boxes, bev = _boxes(), _bev(6)
    pool = _pool_of(bev, projection=2)
    read = _pooled(_pool_of(bev), bev, boxes).view(10, 6, 28)
    expected = torch.einsum("oc,ncp->nop", pool.projection.weight, read)
    expected = expected + pool.projection.bias[:, None]
    torch.testing.assert_close(_pooled(pool, bev, boxes), expected.flatten(1))


def test_each_box_reads_its_own_frame():
    boxes, bev = _boxes(), _bev(frames=3)
    scene = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2, 0])
    pool = _pool_of(bev, projection=4)
    together = _pooled(pool, bev, boxes, scene)
    for index in range(3):
        alone = _pooled(pool, bev[index : index + 1], boxes[scene == index])
        torch.testing.assert_close(together[scene == index], alone)


def test_order_of_boxes_does_not_matter():
    boxes, bev = _boxes(), _bev()
    pool, order = _pool_of(bev), torch.randperm(10)
    torch.testing.assert_close(_pooled(pool, bev, boxes[order]), _pooled(pool, bev, boxes)[order])


def test_variants_are_pooled_as_boxes_of_their_own():
    bev, boxes = _bev(), _boxes()
    variants = boxes[:, None] + 0.1 * torch.randn(10, 5, 7, dtype=torch.float64)
    pool = _pool_of(bev)
    context = pool.prepare(
        Scenes.from_range(bev, _RANGE), boxes, torch.zeros(10, dtype=torch.int64)
    )
    together = pool(context, variants)
    assert together.shape == (10, 5, pool.out_channels)
    for s in range(5):
        torch.testing.assert_close(together[:, s], _pooled(pool, bev, variants[:, s]))


def test_box_outside_the_map_reads_zeros():
    boxes, bev = _boxes(2), _bev()
    boxes[:, 0] = 500.0
    assert float(_pooled(_pool_of(bev), bev, boxes).detach().abs().max()) == 0.0


def test_pooling_is_differentiable_in_boxes_and_map():
    boxes, bev = _boxes(2).requires_grad_(), _bev(2).requires_grad_()
    pool = _pool_of(bev, grid=(2, 2))
    assert torch.autograd.gradcheck(lambda b: _pooled(pool, bev.detach(), b), boxes)
    (gradient,) = torch.autograd.grad(_pooled(pool, bev, boxes).sum(), bev)
    # Bilinear weights of a position sum to one: 2 boxes, 4 positions, 2 channels.
    assert float(gradient.sum()) == pytest.approx(16.0)


@pytest.mark.parametrize("projection", [None, 2])
def test_pooling_is_differentiable_twice_in_boxes_and_map(projection: int | None):
    boxes, bev = _boxes(1) / torch.tensor([10.0, 10, 1, 1, 1, 1, 1]), _bev(1)[..., :6, :6]
    pool, scene = _pool_of(bev, grid=(2, 2), projection=projection), torch.tensor([0])

    def pooled(boxes: Tensor, bev: Tensor) -> Tensor:
        context = pool.prepare(Scenes.from_range(bev, (-3, -3, -3, 3, 3, 1)), boxes, scene)
        return pool(context, boxes[:, None])

    inputs = boxes.requires_grad_(), bev.contiguous().requires_grad_()
    assert float(pooled(*inputs).detach().abs().min()) > 0
    assert torch.autograd.gradgradcheck(pooled, inputs)


def test_height_and_elevation_do_not_matter_to_the_map():
    boxes, bev = _boxes().requires_grad_(), _bev()
    (gradient,) = torch.autograd.grad(_pooled(_pool_of(bev), bev, boxes).sum(), boxes)
    assert torch.equal(gradient[:, [2, 5]], torch.zeros(10, 2, dtype=torch.float64))
    assert bool((gradient[:, [0, 1, 3, 4, 6]].abs().sum(dim=0) > 0).all())


def test_no_boxes_pool_to_no_features(random_boxes: NDArray[np.float64]):
    bev = _bev()
    boxes = torch.from_numpy(random_boxes[:0])
    assert _pooled(_pool_of(bev), bev, boxes).shape == (0, 84)


def test_map_of_other_channels_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\).*set in_channels"):
        _pooled(_pool_of(_bev(3)), _bev(4), _boxes())


@pytest.mark.parametrize("grid", [(1, 7), (4, 7, 2)])
def test_grid_of_less_than_two_points_is_refused(grid: tuple[int, ...]):
    with pytest.raises(ValueError, match="two numbers of at least 2"):
        BEVGridPool(3, grid=grid)
