from __future__ import annotations

import pytest
import torch

from ebm3d.pooling import BEVGeometry, Scenes, stack_maps

_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)


def test_geometry_of_the_stock_map_has_cells_of_forty_centimeters():
    geometry = BEVGeometry.from_range(_RANGE, height=200, width=176)
    assert geometry.origin == (0.0, -40.0)
    assert geometry.cell_size == pytest.approx((0.4, 0.4))


def test_whole_numbers_are_cell_centers():
    geometry = BEVGeometry((0.0, -40.0), (0.4, 0.5))
    positions = torch.tensor([[0.2, -39.75], [0.6, -39.75], [0.2, -39.25]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    factor, offset = geometry.meters_to_map()
    cells = positions * torch.tensor(factor, dtype=torch.float64) + torch.tensor(
        offset, dtype=torch.float64
    )
    torch.testing.assert_close(cells, expected)


def test_center_offset_zero_puts_whole_numbers_at_cell_edges():
    geometry = BEVGeometry((0.0, -40.0), (0.4, 0.5))
    edge = torch.tensor([[0.4, -40.0]], dtype=torch.float64)
    factor, offset = geometry.meters_to_map(center_offset=0.0)
    cells = edge * torch.tensor(factor, dtype=torch.float64) + torch.tensor(
        offset, dtype=torch.float64
    )
    torch.testing.assert_close(cells, torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_stacked_rows_are_frame_then_y_then_x():
    bev = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    rows = stack_maps(bev)
    assert rows.shape == (40, 3)
    assert torch.equal(rows[(1 * 4 + 2) * 5 + 3], bev[1, :, 2, 3])


@pytest.mark.parametrize(
    ("given", "message"),
    [((0, 0, 1, 1), "x_min, y_min, z_min"), ((0, 0, 0, 0, 1, 1), "increasing in x and y")],
)
def test_senseless_range_is_refused(given: tuple[float, ...], message: str):
    with pytest.raises(ValueError, match=message):
        BEVGeometry.from_range(given, 4, 4)


def test_map_without_frames_axis_is_refused():
    with pytest.raises(ValueError, match=r"bev must have shape \(B, C, H, W\)"):
        Scenes.from_range(torch.zeros(3, 4, 5), _RANGE)


def test_clouds_must_be_as_many_as_maps_or_none():
    bev = torch.zeros(2, 3, 4, 5)
    assert Scenes.from_range(bev, _RANGE).points == ()
    with pytest.raises(ValueError, match=r"one cloud per frame \(2\), but got 1 clouds"):
        Scenes.from_range(bev, _RANGE, [torch.zeros(5, 4)])


@pytest.mark.parametrize(("height", "width"), [(0, 8), (8, 0)])
def test_a_map_without_cells_is_refused(height: int, width: int):
    with pytest.raises(ValueError, match=r"(height|width) must be at least 1.*got 0"):
        Scenes.from_range(torch.zeros(1, 2, height, width), (0, -20, -3, 40, 20, 1))
