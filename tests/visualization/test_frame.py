from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from ebm3d.boxes import bev_corners
from ebm3d.visualization import (
    MIN_SCORE,
    bev_figure,
    fitting_min_score,
    most_convincing,
    scene_of_frame,
    write_bev_picture,
    write_ply,
)
from ebm3d.visualization.frame import GROUND_TRUTH, INITIAL, REFINED
from tests.visualization.frames import made_up_frame


def test_the_most_moved_box_comes_first_and_unrefined_ones_never():
    frame = made_up_frame()
    np.testing.assert_allclose(frame.corner_shift(), [0.1, 0.5, 0.0], atol=1e-12)
    assert frame.most_changed(3) == [1, 0]
    assert frame.most_changed(1) == [1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("refined", np.zeros((2, 7))),
        ("f_initial", np.zeros((3, 1))),
        ("names", ("Car",)),
        ("points", np.zeros(3)),
    ],
)
def test_shapes_that_do_not_fit_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} must have shape"):
        dataclasses.replace(made_up_frame(), **{field: value})


def test_every_box_of_every_kind_is_drawn_at_its_corners_and_named_in_the_legend():
    frame = made_up_frame()
    figure = bev_figure(frame)
    lines = figure.axes[0].get_lines()
    for boxes, style in frame.kinds():
        drawn = [line.get_xydata() for line in lines if line.get_color() == style.color]
        outlines = np.stack([line for line in drawn if len(line) == 5])
        np.testing.assert_allclose(outlines[:, :4], bev_corners(torch.tensor(boxes)).numpy())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ground truth", "detected", "refined"]


def test_a_close_up_says_what_refinement_did():
    figure = bev_figure(made_up_frame())
    assert len(figure.axes) == 3  # the whole frame, and the two refined boxes
    title = figure.axes[1].get_title()
    assert "moved 0.50 m" in title
    assert "f \N{MINUS SIGN}5.2 → \N{MINUS SIGN}0.8" in title
    assert "3D IoU" in title


def test_detections_below_the_score_are_left_out(tmp_path):
    blue = []
    for score in (0.95, 0.1):
        write_bev_picture(tmp_path / "a.png", made_up_frame(), min_score=score)
        picture = np.asarray(Image.open(tmp_path / "a.png"))[..., :3]
        blue.append((picture == REFINED.rgb).all(axis=-1).sum())
    assert blue[1] > blue[0]


def edges_of(scene, style):
    """Vectors along the edges of one kind of box."""
    ends = scene.vertices[scene.edges[(scene.edge_colors == style.rgb).all(axis=1)]]
    return ends[:, 1] - ends[:, 0]


def test_a_box_has_four_edges_of_each_size_and_a_stroke_along_its_heading():
    frame = made_up_frame()
    edges = edges_of(scene_of_frame(frame, min_score=0.8), INITIAL)
    _, _, _, dx, dy, dz, yaw = frame.initial[0]
    lengths = np.linalg.norm(edges, axis=1)
    np.testing.assert_allclose(sorted(lengths), sorted([*4 * [dx, dy, dz], dx / 2]), rtol=1e-5)
    stroke = np.array([np.cos(yaw), np.sin(yaw), 0]) * dx / 2
    np.testing.assert_allclose(edges[12], stroke, atol=1e-5)
    scene = scene_of_frame(frame, min_score=0.0)
    assert [len(edges_of(scene, s)) for s in (GROUND_TRUTH, INITIAL, REFINED)] == [26, 39, 39]


def test_ply_holds_points_and_boxes_as_an_independent_reader_sees_them(tmp_path):
    scene = scene_of_frame(made_up_frame())
    write_ply(tmp_path / "frame.ply", scene)
    read = PlyData.read(tmp_path / "frame.ply")
    vertex, edge = read["vertex"], read["edge"]
    colors = ("red", "green", "blue")
    position = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(position[: len(scene.points)], scene.points)
    color = np.stack([vertex[name] for name in colors], axis=1)
    np.testing.assert_array_equal(color[: len(scene.points)], scene.point_colors)
    ends = np.stack([edge["vertex1"], edge["vertex2"]], axis=1)
    np.testing.assert_array_equal(position[ends], scene.vertices[scene.edges])
    np.testing.assert_array_equal(np.stack([edge[c] for c in colors], axis=1), scene.edge_colors)


def test_a_frame_without_boxes_or_points_is_drawn_and_written(tmp_path):
    empty = dataclasses.replace(made_up_frame(with_truth=False).above(2.0), points=np.zeros((0, 4)))
    write_bev_picture(tmp_path / "empty.png", empty)
    assert (tmp_path / "empty.png").stat().st_size > 0
    write_ply(tmp_path / "empty.ply", scene_of_frame(empty))
    assert len(PlyData.read(tmp_path / "empty.ply")["vertex"]) == 0


def test_the_gain_is_that_of_the_iou_or_without_truth_the_shift():
    frame = made_up_frame()
    truth = np.stack([frame.refined[0], frame.initial[1]])
    gain = dataclasses.replace(frame, ground_truth=truth).gain()
    assert gain[0] > 0 > gain[1]
    assert gain[2] == 0
    for unknown in (None, np.zeros((0, 7))):
        bare = dataclasses.replace(frame, ground_truth=unknown)
        np.testing.assert_array_equal(bare.gain(), frame.corner_shift())


@pytest.mark.parametrize(
    ("scores", "num_frames", "expected"),
    [
        ([[0.9, 0.8, 0.4]], 1, MIN_SCORE),
        ([[0.9, 0.8, 0.257]], 1, 0.25),
        ([[0.9, 0.8, 0.4], [0.2, 0.29, 0.28], [0.1]], 2, 0.2),
        ([[0.9, 0.8, 0.4], [0.1]], 2, 0.0),
        ([[]], 1, 0.0),
        ([], 1, MIN_SCORE),
    ],
)
def test_the_threshold_is_lowered_only_where_fewer_than_three_boxes_reach_it(
    scores, num_frames, expected
):
    arrays = [np.array(values) for values in scores]
    assert fitting_min_score(arrays, num_frames) == pytest.approx(expected)


def test_frames_with_several_boxes_and_the_largest_gain_come_first():
    several = dataclasses.replace(made_up_frame(), scores=np.array([0.9, 0.6, 0.4]))
    more = dataclasses.replace(several, ground_truth=several.refined)
    rows, min_score = most_convincing([made_up_frame(), several, more], 2)
    assert (rows, min_score) == ([2, 1], MIN_SCORE)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "Frame 000042: 3 detections"),
        (0.3, "Frame 000042: 2 detections (score \N{GREATER-THAN OR EQUAL TO} 0.3)"),
        (0.25, "0.25, threshold lowered from 0.3)"),
        (0.7, "Frame 000042: 1 detection (score"),
    ],
)
def test_the_title_says_the_threshold_and_that_it_was_lowered(score, text):
    assert text in made_up_frame().above(score).title
