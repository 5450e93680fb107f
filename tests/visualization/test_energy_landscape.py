from __future__ import annotations

import numpy as np
import pytest
import torch

from ebm3d.boxes import local_offsets
from ebm3d.visualization import energy_figure, energy_landscape, write_energy_picture
from tests.visualization.frames import made_up_frame

BOX = torch.tensor([12.0, -3.0, -1.6, 4.0, 1.7, 1.5, 0.4], dtype=torch.float64)
CURVATURE = torch.tensor([3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0], dtype=torch.float64)


def quadratic(boxes):
    """f with its maximum at BOX."""
    return -0.5 * (CURVATURE * local_offsets(BOX.expand_as(boxes), boxes) ** 2).sum(-1)


def test_rows_of_the_plane_are_y_and_columns_x_around_the_box():
    landscape = energy_landscape(lambda b: 10 * b[:, 0] + b[:, 1], BOX, reach=0.8, num_nodes=5)
    np.testing.assert_allclose(landscape.x, 12.0 + np.linspace(-0.8, 0.8, 5))
    np.testing.assert_allclose(landscape.y, -3.0 + np.linspace(-0.8, 0.8, 5))
    expected = 10 * landscape.x[None, :] + landscape.y[:, None]
    np.testing.assert_allclose(landscape.plane, expected)


def test_a_slice_changes_one_dimension_in_the_axes_of_the_box():
    box = BOX.clone()
    landscape = energy_landscape(quadratic, box, num_slice_nodes=7)
    assert torch.equal(box, BOX)
    expected = -0.5 * CURVATURE.numpy()[:, None] * landscape.offsets**2
    np.testing.assert_allclose(landscape.slices, expected, atol=1e-12)


def test_slices_leave_sizes_positive():
    reach = (1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 1.0)
    seen = []

    def f(boxes):
        seen.append(boxes)
        return boxes[:, 0]

    energy_landscape(f, BOX, slice_reach=reach)
    assert (torch.cat(seen)[:, 3:6] > 0).all()


@pytest.mark.parametrize(
    "wrong",
    [{"num_nodes": 1}, {"num_slice_nodes": 1}, {"reach": 0.0}, {"slice_reach": (1.0,) * 6}],
)
def test_impossible_grids_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        energy_landscape(quadratic, BOX, **wrong)


@pytest.mark.parametrize("curvature", [0.0, 1.0])
def test_the_picture_has_a_panel_per_dimension_with_units(tmp_path, curvature):
    frame = made_up_frame()
    box = torch.tensor(frame.refined[1])
    landscape = energy_landscape(lambda b: -curvature * ((b - box) ** 2).sum(-1), box, num_nodes=9)
    figure = energy_figure(landscape, frame, 1)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[1:] == [
        "along the heading", "across, to the left", "up", "yaw", "length", "width", "height",
    ]  # fmt: skip
    labels = {axes.get_xlabel() for axes in figure.axes if axes.get_title()}
    assert labels == {"x of the center (m)", "offset (m)", "offset (degrees)"}
    write_energy_picture(tmp_path / "f.png", landscape, frame, 1)
    assert (tmp_path / "f.png").stat().st_size > 0
