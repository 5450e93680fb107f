from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ebm3d.visualization import (
    FrameBrowser,
    RenderingError,
    scene_of_frame,
    show_frames,
    write_rendering,
)
from ebm3d.visualization.frame import REFINED
from ebm3d.visualization.perspective import front_camera
from ebm3d.visualization.rendering import View, render
from tests.visualization.frames import made_up_frame


def test_importing_the_package_imports_no_plotting_library():
    loaded = "sorted({'matplotlib', 'open3d'} & set(sys.modules))"
    code = f"import sys, ebm3d.visualization; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_scene_is_rendered_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    write_rendering(tmp_path / "frame.png", made_up_frame())
    picture = np.asarray(Image.open(tmp_path / "frame.png"))[..., :3].astype(int)
    near = np.abs(picture - REFINED.rgb).max(axis=-1) < 40
    assert near.sum() > 5000  # boxes, frames of close-ups and legend
    red, green, blue = (picture[..., i] for i in range(3))
    assert ((green - red > 15) & (blue - red > 8) & (red > 170)).sum() > 2000  # faces of truth
    drawn = picture[60:-60].min(axis=-1) < 250  # without title and legend
    assert drawn[:, :20].any()  # the whole scene reaches both sides
    assert drawn[:, -20:].any()


def test_where_rendering_is_impossible_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RenderingError, match=r"ended with code 1.*libegl1.*PLY"):
        render([View(scene_of_frame(made_up_frame()), front_camera(made_up_frame()))], (64, 48))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a display")
def test_a_window_without_a_display_is_refused_in_words(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "DISPLAY" not in os.environ
    with pytest.raises(RenderingError, match="no display"):
        show_frames(FrameBrowser(["a"], lambda _: made_up_frame()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a display")
@pytest.mark.parametrize("name", [":12345", "nonsense", "host.invalid:0"])
def test_a_window_on_a_display_that_does_not_answer_is_refused_in_words(monkeypatch, name):
    pytest.importorskip("open3d")
    monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(RenderingError, match=f"DISPLAY={name}"):
        show_frames(FrameBrowser(["a"], lambda _: made_up_frame()))
