"""A window on frames: keys go from frame to frame and show or hide the kinds of boxes.

:class:`FrameBrowser` knows what is shown and holds no window; :func:`show_frames` draws it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebm3d.visualization.camera import FIELD_OF_VIEW
from ebm3d.visualization.frame import (
    GROUND_TRUTH,
    INITIAL,
    MIN_SCORE,
    REFINED,
    BoxStyle,
    RefinedFrame,
)
from ebm3d.visualization.motion import lag_colors
from ebm3d.visualization.perspective import front_camera
from ebm3d.visualization.rendering import LIBRARIES, RenderingError, add_scene
from ebm3d.visualization.scene import scene_of_frame

_TOGGLES = {"t": GROUND_TRUTH, "d": INITIAL, "r": REFINED}
_HELP = (
    "n, right   next frame",
    "p, left    previous frame",
    "t, d, r    show or hide boxes",
    "c          show or hide class names",
    "v          view from behind the sensor",
    "h          hide or show this help",
    "q          close",
    "mouse      left turns, wheel zooms, Ctrl + left moves",
)
_SIZE = (1440, 810)
_HIDDEN = "#8A8A8A"


@dataclass
class FrameBrowser:
    """Which frame is shown, and which kinds of boxes.

    Args:
        frame_ids: all frames in order, at least one.
        load: from an id to the frame.
        min_score: detections below are left out.
        index: the frame shown first.
    """

    frame_ids: Sequence[str]
    load: Callable[[str], RefinedFrame]
    min_score: float = MIN_SCORE
    index: int = 0
    shows_help: bool = True
    shows_names: bool = False
    hidden: set[str] = field(default_factory=set)
    frame: RefinedFrame = field(init=False)

    def __post_init__(self) -> None:
        """Load the first frame."""
        self._go_to(self.index)

    def press(self, key: str) -> str:
        """Do what a key says; return what changed: frame, boxes, names, view, help, close or ""."""
        if key in ("n", "right"):
            return self._go_to(self.index + 1)
        if key in ("p", "left"):
            return self._go_to(self.index - 1)
        if key in _TOGGLES:
            self.hidden ^= {_TOGGLES[key].label}
            return "boxes"
        if key == "h":
            self.shows_help = not self.shows_help
            return "help"
        if key == "c":
            self.shows_names = not self.shows_names
            return "names"
        return {"v": "view", "q": "close"}.get(key, "")

    def legend(self) -> list[tuple[str, str]]:
        """Return lines and their colors: frame, kinds of boxes, mean IoUs, time, keys."""
        place = f"{self.index + 1} of {len(self.frame_ids)}"
        lines = [(f"Frame {self.frame.frame_id} ({place})", "#000000")]
        counts = {style.label: len(boxes) for boxes, style in self.frame.kinds()}
        ious = self.frame.ious()
        means = dict(zip((INITIAL.label, REFINED.label), ious or (), strict=False))
        for key, style in _TOGGLES.items():
            lines.append(self._legend_line(key, style, counts.get(style.label), means))
        lines.append((f"score from {self.min_score:g}", "#000000"))
        if longest := self.frame.longest_lag:
            colors = lag_colors(np.linspace(0.0, longest, 3), longest)
            text = f"points: dark in the key frame, light {longest:.2f} s before"
            lines.append((text, f"#{colors[1].tobytes().hex()}"))
        return lines + [(line, "#444444") for line in (_HELP if self.shows_help else _HELP[5:6])]

    def _legend_line(
        self, key: str, style: BoxStyle, count: int | None, means: dict[str, Any]
    ) -> tuple[str, str]:
        """Key, kind, number of boxes and their mean IoU with the truth."""
        text = f"[{key}]  {style.label}: " + ("not known" if count is None else f"{count}")
        if count and style.label in means:
            text += f", mean IoU {means[style.label].mean():.2f}"
        is_hidden = style.label in self.hidden
        return (f"{text} (hidden)", _HIDDEN) if is_hidden else (text, style.color)

    def _go_to(self, index: int) -> str:
        """Show another frame; nothing changes beyond the first and the last."""
        if not 0 <= index < len(self.frame_ids):
            return ""
        self.frame = self.load(self.frame_ids[index]).above(self.min_score)
        self.index = index
        return "frame"


def show_frames(browser: FrameBrowser) -> None:
    """Open a window and return when it is closed.

    Raises:
        RenderingError: if there is no display (X server) or no Open3D.
    """
    _check_display()
    try:
        from open3d.visualization import gui
    except ImportError as error:
        raise RenderingError(f"Open3D cannot be imported ({error}); {LIBRARIES}.") from error
    app = gui.Application.instance
    app.initialize()
    _Window(browser, gui, app)
    app.run()


def _check_display() -> None:
    """Raise a ``RenderingError`` without an X server, at which Open3D would end or wait forever."""
    if sys.platform != "linux":
        return
    name = os.environ.get("DISPLAY")
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        opens = bool(name)  # cannot be tried
    else:
        x11.XOpenDisplay.restype = ctypes.c_void_p
        if opens := bool(name) and (display := x11.XOpenDisplay(None)) is not None:
            x11.XCloseDisplay(ctypes.c_void_p(display))
    if not opens:
        found = f"no X server answers at DISPLAY={name}" if name else "DISPLAY is not set"
        raise RenderingError(
            f"There is no display to open a window on ({found}); leave out --interactive, "
            "start one with xvfb-run, or open the PLY file in a viewer elsewhere."
        )


class _Window:
    """Draws a browser with Open3D, and hands its keys on."""

    def __init__(self, browser: FrameBrowser, gui: Any, app: Any) -> None:
        from open3d.visualization.rendering import Open3DScene

        self.browser, self.gui = browser, gui
        self.window = app.create_window("ebm3d", *_SIZE)
        self.view = gui.SceneWidget()
        self.view.scene = Open3DScene(self.window.renderer)
        self.view.scene.set_background([1.0, 1.0, 1.0, 1.0])
        self.view.scene.view.set_post_processing(False)
        self.em = self.window.theme.font_size
        self.panel = gui.Vert(0.25 * self.em, gui.Margins(*4 * [0.5 * self.em]))
        self.panel.background_color = gui.Color(1.0, 1.0, 1.0, 0.9)
        self.lines = [gui.Label("") for _ in range(len(_HELP) + len(_TOGGLES) + 3)]
        self.names: list[Any] = []
        self.window.add_child(self.view)
        self.window.add_child(self.panel)
        for line in self.lines:
            self.panel.add_child(line)
        names = {int(getattr(gui.KeyName, name.upper())): name for name in ("left", "right")}
        self.keys = names | {ord(letter): letter for letter in "npvhcq" + "".join(_TOGGLES)}
        self.window.set_on_layout(self._lay_out)
        self.window.set_on_key(self._on_key)
        self.change("frame")
        self.change("view")

    def change(self, what: str) -> None:
        """Draw what changed."""
        browser, scene = self.browser, self.view.scene
        if what == "close":
            self.window.close()
            return
        if what == "frame":
            scene.clear_geometry()
            shown = scene_of_frame(browser.frame, min_score=browser.min_score)
            add_scene(scene, shown, point_size=2.5, line_width=2.5)
            self.window.title = f"ebm3d: frame {browser.frame.frame_id}"
        if what == "view":
            camera = front_camera(browser.frame, sensor=True)
            bounds = scene.bounding_box
            self.view.setup_camera(FIELD_OF_VIEW, bounds, camera.target)
            self.view.look_at(camera.target, camera.eye, np.array((0.0, 0.0, 1.0)))
        if what in ("frame", "names"):
            self._write_names()
        for style in _TOGGLES.values():
            scene.show_geometry(style.label, style.label not in browser.hidden)
        scene.show_geometry("faces", GROUND_TRUTH.label not in browser.hidden)
        legend = browser.legend()
        for index, line in enumerate(self.lines):
            line.visible = index < len(legend)
            if line.visible:
                line.text, color = legend[index]
                line.text_color = self.gui.Color(*(c / 255 for c in bytes.fromhex(color[1:])))
        self.window.set_needs_layout()
        self.view.force_redraw()
        self.window.post_redraw()  # of the legend

    def _write_names(self) -> None:
        """Class names above the refined boxes, if they are shown."""
        for label in self.names:
            self.view.remove_3d_label(label)
        frame, self.names = self.browser.frame, []
        if self.browser.shows_names:
            tops = frame.refined[:, :3] + frame.refined[:, 5:6] * (0.0, 0.0, 1.0)
            pairs = zip(tops.astype(np.float64), frame.names, strict=True)
            self.names = [self.view.add_3d_label(place, name) for place, name in pairs]

    def _lay_out(self, context: Any) -> None:
        """The view fills the window; the legend lies on its upper left corner."""
        area, gui = self.window.content_rect, self.gui
        self.view.frame = area
        size = self.panel.calc_preferred_size(context, gui.Widget.Constraints())
        self.panel.frame = gui.Rect(area.x, area.y, size.width, size.height)

    def _on_key(self, event: Any) -> bool:
        """Hand a pressed key on; whether it meant something."""
        key = self.keys.get(int(event.key))
        if key is None or event.type != self.gui.KeyEvent.DOWN:
            return False
        changed = self.browser.press(key)
        if changed:
            self.change(changed)
        return True
