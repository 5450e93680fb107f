from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes import bev_corners
from ebm3d.pooling import BEVGridPool, Scenes

pytestmark = pytest.mark.usefixtures("float64")

_RANGE = (-12.0, -12.0, -3.0, 12.0, 12.0, 1.0)
_CELL = 0.5  # m, of a map of 48 x 48


def _boxes(count: int = 10) -> Tensor:
    """Boxes wholly inside the map, of every heading."""
    low = torch.tensor([-7.0, -7, -2, 1, 1, 1, -3])
    return low + torch.rand(count, 7) * torch.tensor([14.0, 14, 1, 3, 1, 1, 6])


def _bev(channels: int = 3, frames: int = 1) -> Tensor:
    return torch.randn(frames, channels, 48, 48)


def _pool_of(bev: Tensor, **options: Any) -> BEVGridPool:
    return BEVGridPool(bev.shape[1], **{"projection": None, **options})


def _pooled(pool: BEVGridPool, bev: Tensor, boxes: Tensor, scene: Tensor | None = None) -> Tensor:
    """Features of boxes ``(N, 7)``, or of variants ``(N, S, 7)``."""
    variants = boxes if boxes.ndim == 3 else boxes[:, None]
    scene = torch.zeros(len(boxes), dtype=torch.int64) if scene is None else scene
    context = pool.prepare(Scenes.from_range(bev, _RANGE), variants[:, 0], scene)
    return pool(context, variants) if boxes.ndim == 3 else pool(context, variants)[:, 0]


def _position_map() -> Tensor:
    """A map whose two channels are x and y of the cell centers, meters."""
    center = -12 + (torch.arange(48.0) + 0.5) * _CELL
    y, x = torch.meshgrid(center, center, indexing="ij")
    return torch.stack((x, y))[None]


def test_map_of_positions_gives_back_the_positions_of_the_grid():
    # Pins the convention: the center of cell i lies at (i + 0.5) cell sizes.
    boxes, bev = _boxes(), _position_map()
    read = _pooled(_pool_of(bev), bev, boxes).view(10, 2, 4, 7)
    along = torch.linspace(-0.5, 0.5, 7) * boxes[:, 3, None, None]
    across = torch.linspace(-0.5, 0.5, 4)[:, None] * boxes[:, 4, None, None]
    x, y, yaw = (boxes[:, column, None, None] for column in (0, 1, 6))
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    torch.testing.assert_close(read[:, 0], x + cos * along - sin * across)
    torch.testing.assert_close(read[:, 1], y + sin * along + cos * across)
    # The outermost are the corners: front left, rear left, rear right, front right.
    outermost = torch.stack([read[:, :, i, j] for i, j in ((3, 6), (3, 0), (0, 0), (0, 6))], 1)
    torch.testing.assert_close(outermost, bev_corners(boxes))


def test_paper_convention_reads_half_a_cell_further_and_extent_stretches():
    boxes, bev = _boxes(), _position_map()
    ours = _pooled(_pool_of(bev), bev, boxes)
    paper = _pooled(_pool_of(bev, center_offset=0.0), bev, boxes)
    torch.testing.assert_close(paper - ours, torch.full_like(ours, 0.5 * _CELL))
    wide = _pooled(_pool_of(bev, extent=1.5), bev, boxes)
    boxes[:, 3:5] *= 1.5
    torch.testing.assert_close(wide, _pooled(_pool_of(bev), bev, boxes))


def test_pooling_commutes_with_a_quarter_turn_of_map_and_boxes():
    boxes, bev = _boxes(), _bev()
    turned = boxes.clone()
    turned[:, 0], turned[:, 1] = -boxes[:, 1], boxes[:, 0]
    turned[:, 6] += math.pi / 2
    # The turned map at (x, y) is the map at (y, -x).
    turned_bev, pool = bev.flip(2).transpose(2, 3), _pool_of(bev)
    torch.testing.assert_close(_pooled(pool, turned_bev, turned), _pooled(pool, bev, boxes))


@pytest.mark.parametrize("shift", [(3, 0), (0, -4), (2, 5)])
def test_pooling_commutes_with_shifts_by_whole_cells(shift: tuple[int, int]):
    boxes, bev = _boxes(), _bev()
    boxes[:, :2] *= 0.5
    moved, pool = boxes.clone(), _pool_of(bev)
    moved[:, :2] += _CELL * torch.tensor(shift)
    moved_bev = torch.roll(bev, (shift[1], shift[0]), dims=(2, 3))
    torch.testing.assert_close(_pooled(pool, moved_bev, moved), _pooled(pool, bev, boxes))


def test_reading_after_the_projection_is_projecting_what_was_read():
    boxes, bev = _boxes(), _bev(6)
    pool = _pool_of(bev, projection=2)
    read = _pooled(_pool_of(bev), bev, boxes).view(10, 6, 28)
    expected = pool.projection(read.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(_pooled(pool, bev, boxes), expected.flatten(1))


def test_boxes_variants_and_frames_do_not_see_each_other():
    boxes, bev = _boxes()[:, None] + 0.1 * torch.randn(10, 5, 7), _bev(frames=3)
    scene, pool = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2, 0]), _pool_of(bev, projection=4)
    together = _pooled(pool, bev, boxes, scene)
    assert together.shape == (10, 5, pool.out_channels)
    for n, s in ((0, 0), (3, 2), (7, 4)):
        frame = int(scene[n])
        alone = _pooled(pool, bev[frame : frame + 1], boxes[n, s][None])
        torch.testing.assert_close(together[n, s], alone[0])


def test_box_outside_the_map_reads_zeros_and_no_boxes_nothing():
    boxes, bev = _boxes(2), _bev()
    boxes[:, 0] = 500.0
    assert float(_pooled(_pool_of(bev), bev, boxes).abs().max()) == 0.0
    assert _pooled(_pool_of(bev), bev, boxes[:0]).shape == (0, 84)


def test_gradients_reach_the_footprint_of_the_boxes_and_the_map():
    boxes, bev = _boxes().requires_grad_(), _bev(2).requires_grad_()
    by_boxes, by_map = torch.autograd.grad(_pooled(_pool_of(bev), bev, boxes).sum(), (boxes, bev))
    assert torch.equal(by_boxes[:, [2, 5]], torch.zeros(10, 2))
    assert bool((by_boxes[:, [0, 1, 3, 4, 6]].abs().sum(dim=0) > 0).all())
    # Bilinear weights of a position sum to one: 10 boxes, 28 positions, 2 channels.
    assert float(by_map.sum()) == pytest.approx(560.0)


@pytest.mark.parametrize("projection", [None, 2])
def test_pooling_is_differentiable_twice_in_boxes_and_map(projection: int | None):
    boxes, bev = _boxes(1) / torch.tensor([10.0, 10, 1, 1, 1, 1, 1]), _bev(1)[..., :6, :6]
    pool, scene = _pool_of(bev, grid=(2, 2), projection=projection), torch.tensor([0])

    def pooled(boxes: Tensor, bev: Tensor) -> Tensor:
        context = pool.prepare(Scenes.from_range(bev, (-3, -2, -3, 3, 2, 1)), boxes, scene)
        return pool(context, boxes[:, None])

    inputs = boxes.requires_grad_(), bev.contiguous().requires_grad_()
    assert float(pooled(*inputs).detach().abs().min()) > 0
    assert torch.autograd.gradcheck(pooled, inputs)
    assert torch.autograd.gradgradcheck(pooled, inputs)


def test_map_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"bev must have shape.*set in_channels"):
        _pooled(_pool_of(_bev(3)), _bev(4), _boxes())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"grid": (1, 7)}, "grid"),
        ({"grid": (4, 7, 2)}, "grid"),
        ({"extent": 0.0}, "extent"),
        ({"projection": 0}, "projection"),
        ({"in_channels": 0}, "in_channels"),
    ],
)
def test_constants_out_of_range_are_refused(options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=f"{name} must be"):
        BEVGridPool(**{"in_channels": 3, **options})
