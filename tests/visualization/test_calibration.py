from __future__ import annotations

import numpy as np
import pytest

from ebm3d.evaluation.calibration import LEVELS, report_calibration
from ebm3d.visualization import calibration_figure, write_calibration_picture
from tests.evaluation.test_calibration import STD, VELOCITY_STD, gaussian_pairs


def panels(figure):
    """Panels by title: reliability, and the histogram below it."""
    blocks = figure.subfigs
    return {
        above.get_title(loc="left"): (above, below)
        for block in blocks
        for above, below in zip(block.axes[:4], block.axes[4:], strict=True)
    }


def test_each_dimension_and_the_joint_distance_have_two_panels_that_show_the_figures(rng):
    report = report_calibration(gaussian_pairs(rng, 200, spread=0.5))
    figure = calibration_figure(report, "Car, moderate")
    shown = panels(figure)
    names = ["x / along", "y / across", "z / up", "length", "width", "height", "yaw", "joint (all)"]
    assert list(shown) == names
    for row, (above, below) in enumerate(shown.values()):
        curve = above.lines[-1]
        np.testing.assert_array_equal(curve.get_xdata(), LEVELS)
        np.testing.assert_array_equal(curve.get_ydata(), report.observed[row])
        assert above.get_title(loc="right").endswith(f"{report.calibration_error[row]:.3f}")
        heights = np.array([bar.get_height() for bar in below.patches if bar.get_width() < 0.5])
        np.testing.assert_allclose(heights, report.pit_counts[row] * 20 / 200)
    assert "200 pairs" in figure.get_suptitle()


def test_bars_that_are_cut_say_their_height(rng):
    report = report_calibration(gaussian_pairs(rng, 200, spread=0.1))
    _, below = panels(calibration_figure(report, "Car"))["yaw"]
    heights = report.pit_counts[6] / 10
    said = [text.get_text() for text in below.texts]
    assert said == [f"{height:.1f}" for height in heights if height > below.get_ylim()[1]]
    assert len(said) == 2


@pytest.mark.parametrize("num", [0, 1])
def test_a_picture_of_hardly_any_pairs_is_written(rng, tmp_path, num):
    report = report_calibration(gaussian_pairs(rng, num))
    write_calibration_picture(tmp_path / "new" / "c.png", report, "Car")
    assert (tmp_path / "new" / "c.png").stat().st_size > 10_000


def test_velocities_have_two_panels_more(rng):
    std = np.concatenate([STD, VELOCITY_STD])
    figure = calibration_figure(report_calibration(gaussian_pairs(rng, 50, 1.0, std)), "car")
    titles = [axes.get_title(loc="left") for block in figure.subfigs for axes in block.axes]
    assert [title for title in titles if title][-3:] == ["vx", "vy", "joint (all)"]
    assert len(titles) == 20
