from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebm3d.pooling import BEVGeometry, Scenes, stack_maps

_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)


def _cells(geometry: BEVGeometry, positions: list[list[float]], **options: float) -> Tensor:
    factor, offset = (torch.tensor(pair) for pair in geometry.meters_to_map(**options))
    return torch.tensor(positions) * factor + offset


@pytest.mark.usefixtures("float64")
def test_whole_numbers_are_cell_centers_or_edges():
    geometry = BEVGeometry.from_range(_RANGE, height=160, width=176)
    assert geometry.origin == (0.0, -40.0)
    assert geometry.cell_size == pytest.approx((0.4, 0.5))
    cells = _cells(geometry, [[0.2, -39.75], [0.6, -39.75], [0.2, -39.25]])
    torch.testing.assert_close(cells, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    cells = _cells(geometry, [[0.4, -40.0]], center_offset=0.0)
    torch.testing.assert_close(cells, torch.tensor([[1.0, 0.0]]))


def test_stacked_rows_are_frame_then_y_then_x():
    bev = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    rows = stack_maps(bev)
    assert rows.shape == (40, 3)
    assert torch.equal(rows[(1 * 4 + 2) * 5 + 3], bev[1, :, 2, 3])


@pytest.mark.parametrize(
    ("bev", "point_cloud_range", "clouds", "message"),
    [
        ((2, 3, 4, 4), (0, 0, 1, 1), 0, "point_cloud_range"),
        ((2, 3, 4, 4), (0, 0, 0, 0, 1, 1), 0, "point_cloud_range must be increasing"),
        ((3, 4, 5), _RANGE, 0, "bev must have shape"),
        ((2, 3, 4, 5), _RANGE, 1, r"points must be one cloud per frame \(2\)"),
        ((1, 2, 0, 8), _RANGE, 0, "height must be at least 1"),
        ((1, 2, 8, 0), _RANGE, 0, "width must be at least 1"),
    ],
)
def test_scenes_that_make_no_sense_are_refused(
    bev: tuple[int, ...], point_cloud_range: tuple[float, ...], clouds: int, message: str
):
    with pytest.raises(ValueError, match=message):
        Scenes.from_range(torch.zeros(bev), point_cloud_range, [torch.zeros(5, 4)] * clouds)
