from __future__ import annotations

import dataclasses

import numpy as np

from ebm3d.visualization import scene_of_frame, write_ply
from ebm3d.visualization.frame import GROUND_TRUTH, INITIAL, REFINED, rgb
from tests.visualization.frames import made_up_frame


def edges_of(scene, style):
    """Vectors along the edges of one kind of box."""
    mine = (scene.edge_colors == rgb(style.color)).all(axis=1)
    ends = scene.vertices[scene.edges[mine]]
    return ends[:, 1] - ends[:, 0]


def test_a_box_has_four_edges_of_each_size():
    frame = made_up_frame()
    lengths = np.linalg.norm(edges_of(scene_of_frame(frame, min_score=0.8), INITIAL), axis=1)
    expected = sorted([*(4 * [*frame.initial[0, 3:6]]), frame.initial[0, 3] / 2])
    np.testing.assert_allclose(sorted(lengths), expected, rtol=1e-5)


def test_the_stroke_on_the_roof_points_along_the_heading():
    frame = made_up_frame()
    stroke = edges_of(scene_of_frame(frame, min_score=0.8), REFINED)[12]
    yaw = frame.refined[0, 6]
    np.testing.assert_allclose(
        stroke / np.linalg.norm(stroke), [np.cos(yaw), np.sin(yaw), 0], atol=1e-5
    )


def test_every_kind_of_box_has_its_color():
    scene = scene_of_frame(made_up_frame(), min_score=0.0)
    assert [len(edges_of(scene, s)) for s in (GROUND_TRUTH, INITIAL, REFINED)] == [26, 39, 39]


def test_ply_holds_points_and_boxes_as_an_independent_reader_sees_them(tmp_path):
    from plyfile import PlyData

    scene = scene_of_frame(made_up_frame())
    write_ply(tmp_path / "frame.ply", scene)
    read = PlyData.read(tmp_path / "frame.ply")
    vertex, edge = read["vertex"], read["edge"]
    position = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(position[: len(scene.points)], scene.points)
    color = np.stack([vertex[name] for name in ("red", "green", "blue")], axis=1)
    np.testing.assert_array_equal(color[: len(scene.points)], scene.point_colors)
    ends = np.stack([edge["vertex1"], edge["vertex2"]], axis=1)
    np.testing.assert_array_equal(position[ends], scene.vertices[scene.edges])
    color = np.stack([edge[name] for name in ("red", "green", "blue")], axis=1)
    np.testing.assert_array_equal(color, scene.edge_colors)


def test_a_scene_without_anything_is_a_valid_ply(tmp_path):
    from plyfile import PlyData

    empty = dataclasses.replace(made_up_frame(with_truth=False), points=np.zeros((0, 4)))
    write_ply(tmp_path / "empty.ply", scene_of_frame(empty, min_score=2.0))
    assert len(PlyData.read(tmp_path / "empty.ply")["vertex"]) == 0
