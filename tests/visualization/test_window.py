from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ebm3d.visualization import FrameBrowser
from ebm3d.visualization.camera import camera_axes, direction_of, fit_camera, project
from ebm3d.visualization.perspective import front_camera
from tests.visualization.frames import made_up_frame


def browser(**options):
    def load(source):
        return dataclasses.replace(made_up_frame(), frame_id=source)

    return FrameBrowser(["a", "b", "c"], load, **options)


def test_keys_go_to_the_next_and_previous_frame_and_stop_at_the_ends():
    shown = browser(index=1)
    seen = [shown.press(key) and shown.frame.frame_id for key in ("n", "right", "p", "left", "p")]
    assert seen == ["c", "", "b", "a", ""]


@pytest.mark.parametrize(
    ("key", "label"), [("t", "ground truth"), ("d", "detected"), ("r", "refined")]
)
def test_a_key_hides_one_kind_of_box_and_shows_it_again(key, label):
    shown = browser()
    assert shown.press(key) == "boxes"
    assert shown.hidden == {label}
    hidden = [text for text, _ in shown.legend() if "(hidden)" in text]
    assert [text.split(":")[0] for text in hidden] == [f"[{key}]  {label}"]
    shown.press("n")
    assert shown.hidden == {label}  # in the next frame too
    shown.press(key)
    assert shown.hidden == set()


def test_the_legend_names_frame_kinds_threshold_and_all_keys():
    shown = browser(min_score=0.5)
    text = "\n".join(line for line, _ in shown.legend())
    for part in ("Frame a (1 of 3)", "ground truth: 2", "detected: 2", "refined: 2, mean IoU 0.9"):
        assert part in text
    assert "score from 0.5" in text
    assert all(f"\n{key}" in text for key in ("n, right", "p, left", "t, d, r", "v", "h", "q"))
    assert shown.press("h") == "help"
    short = "\n".join(line for line, _ in shown.legend())
    assert "next frame" not in short
    assert "\nh " in short


def test_what_other_keys_do():
    assert [browser().press(key) for key in ("v", "q", "x", "")] == ["view", "close", "", ""]


def test_a_frame_without_truth_says_so():
    lines = FrameBrowser(["a"], lambda _: made_up_frame(with_truth=False)).legend()
    assert ("[t]  ground truth: not known", "#009E73") in lines


@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9])
@pytest.mark.parametrize("azimuth", [0.0, 2.0])
def test_the_fitted_camera_shows_all_content_and_two_borders_are_touched(aspect, azimuth):
    content = np.random.default_rng(0).uniform((5, -20, -2), (50, 10, 3), size=(50, 3))
    camera = fit_camera(content, direction_of(azimuth, 0.4), aspect)
    place = project(content, camera, (1000 * aspect, 1000)) / (1000 * aspect, 1000)
    assert place.min() > -1e-9
    assert place.max() < 1 + 1e-9
    touched = np.isclose(place.min(axis=0), 0) & np.isclose(place.max(axis=0), 1)
    assert touched.any()  # both ends of the width or of the height


def test_camera_axes_are_right_up_forward():
    axes = camera_axes(direction_of(0.0, 0.3))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[0], (0, -1, 0), atol=1e-12)
    assert axes[1, 2] > 0


@pytest.mark.parametrize("empty", ["nothing", "boxes", "points"])
def test_the_window_starts_behind_the_sensor_looking_forward_and_down(empty):
    frame = made_up_frame()
    if empty in ("boxes", "nothing"):
        frame = dataclasses.replace(frame.above(2.0), ground_truth=None)
    if empty in ("points", "nothing"):
        frame = dataclasses.replace(frame, points=np.zeros((0, 4)))
    camera = front_camera(frame, sensor=True)
    forward = camera.target - camera.eye
    assert camera.eye[0] < 0 < camera.eye[2]
    assert forward[0] > 0.8
    assert -0.6 < forward[2] < 0
