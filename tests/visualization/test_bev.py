from __future__ import annotations

import dataclasses

import numpy as np
import torch
from PIL import Image

from ebm3d.boxes import bev_corners
from ebm3d.visualization import bev_figure, write_bev_picture
from ebm3d.visualization.frame import GROUND_TRUTH, INITIAL, REFINED
from tests.visualization.frames import made_up_frame


def outlines(axes, style):
    """Closed outlines of one kind of box, as (5, 2) arrays."""
    lines = [line for line in axes.get_lines() if line.get_color() == style.color]
    return [line.get_xydata() for line in lines if len(line.get_xydata()) == 5]


def test_every_box_of_every_kind_is_drawn_where_its_corners_are():
    frame = made_up_frame()
    axes = bev_figure(frame).axes[0]
    for boxes, style in (
        (frame.initial, INITIAL),
        (frame.refined, REFINED),
        (frame.ground_truth, GROUND_TRUTH),
    ):
        drawn = np.stack(outlines(axes, style))
        np.testing.assert_allclose(drawn[:, :4], bev_corners(torch.tensor(boxes)).numpy())


def test_the_legend_names_the_kinds_that_are_there():
    labels = [t.get_text() for t in bev_figure(made_up_frame()).legends[0].get_texts()]
    assert labels == ["ground truth", "detected", "refined"]
    without = bev_figure(made_up_frame(with_truth=False)).legends[0]
    assert [t.get_text() for t in without.get_texts()] == ["detected", "refined"]


def test_a_close_up_says_what_refinement_did():
    figure = bev_figure(made_up_frame())
    assert len(figure.axes) == 3  # the whole frame, and the two refined boxes
    title = figure.axes[1].get_title()
    assert "moved 0.50 m" in title
    assert "f \N{MINUS SIGN}5.2 → \N{MINUS SIGN}0.8" in title
    assert "3D IoU" in title


def test_axes_are_in_meters():
    for axes in bev_figure(made_up_frame()).axes:
        assert axes.get_xlabel().endswith("(m)")
        assert axes.get_ylabel().endswith("(m)")


def test_detections_below_the_score_are_left_out(tmp_path):
    write_bev_picture(tmp_path / "a.png", made_up_frame(), min_score=0.95)
    write_bev_picture(tmp_path / "b.png", made_up_frame(), min_score=0.1)
    first, second = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in "ab")
    blue = np.array([0x00, 0x72, 0xB2, 0xFF])
    assert (second == blue).all(axis=-1).sum() > (first == blue).all(axis=-1).sum()


def test_a_frame_without_boxes_or_points_is_drawn(tmp_path):
    empty = made_up_frame(with_truth=False).above(2.0)
    empty = dataclasses.replace(empty, points=np.zeros((0, 4)))
    write_bev_picture(tmp_path / "empty.png", empty)
    assert (tmp_path / "empty.png").stat().st_size > 0
