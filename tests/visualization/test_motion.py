"""Laws of pictures of frames in motion: arrows, colors of time, the axis ahead, ten classes."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ebm3d.boxes import local_offsets
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.visualization import FrameBrowser, energy_figure, energy_landscape, scene_of_frame
from ebm3d.visualization.bev import bev_figure
from ebm3d.visualization.camera import project
from ebm3d.visualization.frame import CLASS_MARKS, STYLES
from ebm3d.visualization.motion import lag_colors, velocity_arrows, without_repeats
from ebm3d.visualization.perspective import _write_names, front_camera
from ebm3d.visualization.scene import write_ply
from tests.visualization.frames import frame_in_motion, made_up_frame, turn_left


def expected_arrows(boxes):
    """Front centers at the top, and where they are in a second, box by box."""
    arrows = []
    for x, y, z, dx, _, dz, yaw, vx, vy in boxes:
        if np.hypot(vx, vy) >= 0.2:
            front = np.array((x + dx / 2 * np.cos(yaw), y + dx / 2 * np.sin(yaw), z + dz))
            arrows.append((front, front + (vx, vy, 0.0)))
    return np.reshape(arrows, (-1, 2, 3))


def test_an_arrow_leads_from_the_front_to_where_it_is_in_a_second_and_only_from_moving_boxes():
    for boxes, _ in frame_in_motion().kinds():
        np.testing.assert_allclose(velocity_arrows(boxes), expected_arrows(boxes), atol=1e-12)
    assert len(velocity_arrows(frame_in_motion().ground_truth)) == 1  # of two: one is not known
    assert velocity_arrows(made_up_frame().initial).shape == (0, 2, 3)


def test_scenes_and_pictures_from_above_hold_the_arrows_of_each_kind_in_its_color():
    frame = frame_in_motion()
    scene, axes = scene_of_frame(frame, min_score=0.0), bev_figure(frame).axes[0]
    quivers = [c for c in axes.collections if hasattr(c, "U")]
    for (boxes, style), quiver in zip(frame.kinds(), quivers, strict=True):
        arrows = expected_arrows(boxes)
        ends = scene.vertices[scene.edges[(scene.edge_colors == style.rgb).all(axis=1)]]
        shafts = ends[13 * len(boxes) :: 3]
        np.testing.assert_allclose(shafts, arrows, atol=1e-5)
        np.testing.assert_allclose(
            np.stack((quiver.U, quiver.V), 1), np.diff(arrows, axis=1)[:, 0, :2]
        )
        drawn = bytes(np.rint(255 * quiver.get_facecolor()[0, :3]).astype(np.uint8))
        assert f"#{drawn.hex().upper()}" == style.color


@pytest.mark.parametrize("longest", [0.05, 0.5])
def test_points_grow_lighter_with_their_lag(longest):
    colors = lag_colors(np.linspace(0.0, longest, 20), longest)
    lightness = colors @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > 0).all()
    assert min(np.abs(colors.astype(int) - style.rgb).max(1).min() for style in STYLES) > 60


def test_of_points_in_one_cube_the_latest_is_drawn_and_later_ones_over_older_ones():
    rng = np.random.default_rng(3)
    points, lags = rng.uniform(-1, 1, (3000, 3)), rng.choice((0.0, 0.05, 0.1), 3000)
    rows = without_repeats(points, lags)
    assert (np.diff(lags[rows]) <= 0).all()
    latest = {}
    for place, lag in zip(points, lags, strict=True):
        cube = tuple(np.floor(place / 0.1))
        latest[cube] = min(lag, latest.get(cube, np.inf))
    shown = {tuple(np.floor(points[row] / 0.1)): lags[row] for row in rows}
    assert len(rows) == len(shown)
    assert shown == latest


def test_points_of_one_sweep_are_colored_as_without_lags():
    frame = made_up_frame()
    one = dataclasses.replace(frame, lags=np.zeros(500))
    scenes = scene_of_frame(frame), scene_of_frame(one)
    np.testing.assert_array_equal(*(scene.point_colors for scene in scenes))


@pytest.mark.parametrize("sensor", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_a_frame_turned_to_y_forward_is_seen_as_it_was(sensor, empty):
    kitti, turned = made_up_frame(), frame_in_motion()
    if empty:
        kitti, turned = (
            dataclasses.replace(f.above(2.0), ground_truth=None) for f in (kitti, turned)
        )
        kitti, turned = (
            dataclasses.replace(f, points=f.points[:0], lags=None) for f in (kitti, turned)
        )
    cameras = (front_camera(frame, sensor=sensor) for frame in (kitti, turned))
    places = np.random.default_rng(0).uniform((5, -10, -2), (40, 10, 1), size=(50, 3))
    seen = [
        project(p, c, (1600, 900))
        for p, c in zip((places, turn_left(places)), cameras, strict=True)
    ]
    np.testing.assert_allclose(*seen, rtol=1e-9)


def test_ahead_is_up_from_above_and_the_axes_say_so(tmp_path):
    axes = bev_figure(frame_in_motion()).axes[0]
    near, far = axes.transData.transform([(0.0, 5.0), (0.0, 30.0)])
    assert far[1] > near[1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x, to the right (m)", "y, forward (m)")
    write_ply(tmp_path / "a.ply", scene_of_frame(frame_in_motion()), "y")
    assert b"comment x to the right, y forward, z up" in (tmp_path / "a.ply").read_bytes()[:200]


def test_classes_are_counted_by_form_and_color_and_each_has_its_own():
    assert tuple(CLASS_MARKS) == CLASSES
    assert len(set(CLASS_MARKS.values())) == len(CLASSES)
    legend = bev_figure(frame_in_motion()).axes[0].get_legend()
    counted = [text.get_text() for text in legend.get_texts()]
    assert counted == ["car (1)", "construction_vehicle (1)", "pedestrian (1)"]
    assert bev_figure(made_up_frame()).axes[0].get_legend() is None


def test_names_of_boxes_cover_no_other_name():
    rng = np.random.default_rng(1)
    boxes, names = np.tile(frame_in_motion().initial[:1], (60, 1)), rng.choice(CLASSES, 60)
    values = {name: np.zeros(60) for name in ("f_initial", "f_refined", "scores")}
    frame = dataclasses.replace(
        frame_in_motion(), initial=boxes, refined=boxes, names=tuple(names), **values
    )
    figure = Figure(figsize=(16, 9), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1600), ylim=(900, 0))
    _write_names(axes, frame, rng.uniform((100, 50), (1500, 850), (60, 2)), np.zeros((0, 2)))
    extents = [text.get_window_extent() for text in axes.texts]
    assert len(extents) > 20
    assert not any(a.overlaps(b) for a, b in combinations(extents, 2))


@pytest.mark.parametrize(
    ("field", "value"),
    [("lags", np.zeros(3)), ("ground_truth", np.zeros((2, 7))), ("initial", np.zeros((3, 8)))],
)
def test_shapes_that_do_not_fit_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} must have shape"):
        dataclasses.replace(frame_in_motion(), **{field: value})


def test_an_axis_ahead_that_is_none_is_refused():
    with pytest.raises(ValueError, match="forward must be"):
        dataclasses.replace(made_up_frame(), forward="z")


def test_f_over_the_velocity_is_drawn_in_the_axes_of_the_box():
    frame = frame_in_motion()
    box = torch.tensor(frame.refined[0])
    weight = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 10.0, 1.0], dtype=box.dtype)

    def f(boxes):
        return local_offsets(box.expand_as(boxes), boxes) @ weight

    landscape = energy_landscape(f, box, num_nodes=5)
    along, across, plane = landscape.velocity_plane
    yaw = float(box[6])
    axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    shift = np.linspace(-1.5, 1.5, 5)
    np.testing.assert_allclose((along, across), (axes @ box[7:].numpy())[:, None] + shift)
    np.testing.assert_allclose(plane, 10 * shift[None, :] + shift[:, None], atol=1e-9)
    assert landscape.slices.shape == (9, 61)
    titles = [axes.get_title() for axes in energy_figure(landscape, frame, 0).axes]
    assert {"over the position", "over the velocity", "velocity along"} <= set(titles)


def test_the_window_says_what_colors_mean_and_shows_class_names_when_asked():
    shown = FrameBrowser(["a"], lambda _: frame_in_motion())
    assert any("light 0.20 s before" in text for text, _ in shown.legend())
    assert (shown.press("c"), shown.shows_names) == ("names", True)
