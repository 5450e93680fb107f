"""Perspective pictures of a scene with Open3D, with or without a display.

Open3D ends the whole process when it finds no way to render, so a picture is made in a process of
its own, whose death becomes an error that can be caught.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.visualization.palette import GROUND_TRUTH, INITIAL, REFINED
from ebm3d.visualization.scene import Scene

_LIBRARIES = "install Open3D and the system libraries libegl1 and libgl1"
_TIMEOUT = 300.0  # seconds; a frame takes about 6 on an idle machine, mostly imports


class RenderingError(RuntimeError):
    """Open3D cannot render on this machine; the message says what to do."""


def write_rendering(
    path: str | Path, scene: Scene, title: str, *, size: tuple[int, int] = (1400, 800)
) -> None:
    """Write a PNG of a scene seen from behind and above the sensor.

    Args:
        path: the file; its folder must exist.
        scene: what to draw.
        title: shown above the picture.
        size: width and height of the rendered part, pixels.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    image = render(scene, size)
    width, height = size[0] / 100, size[1] / 100
    figure = Figure(figsize=(width, height + 0.9), dpi=100)
    axes = figure.add_axes((0, 0.45 / (height + 0.9), 1, height / (height + 0.9)))
    axes.imshow(image)
    axes.axis("off")
    figure.suptitle(title, y=0.985)
    present = {tuple(color) for color in scene.edge_colors.tolist()}
    handles = [
        Line2D([], [], color=style.color, linewidth=3, label=style.label)
        for style in (GROUND_TRUTH, INITIAL, REFINED)
        if tuple(bytes.fromhex(style.color[1:])) in present
    ]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    figure.savefig(path)


def render(scene: Scene, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Render a scene in a process of its own.

    Args:
        scene: what to draw.
        size: width and height, pixels.

    Returns:
        ``(height, width, 3)`` RGB.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    with tempfile.TemporaryDirectory(prefix="ebm3d-render-") as folder:
        source, target = Path(folder, "scene.npz"), Path(folder, "image.npy")
        np.savez(source, size=np.array(size), **vars(scene))
        # Mesa renders without a display only if told so before Open3D starts.
        environment = {"EGL_PLATFORM": "surfaceless", **os.environ}
        command = [
            sys.executable,
            "-m",
            "ebm3d.visualization.open3d_child",
            str(source),
            str(target),
        ]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise RenderingError(f"Open3D rendered nothing in {_TIMEOUT:.0f} s.") from error
        if done.returncode or not target.is_file():
            reason = _last_line(done.stderr) or f"its process ended with code {done.returncode}"
            raise RenderingError(
                f"Open3D cannot render on this machine ({reason}); {_LIBRARIES}, "
                "or open the PLY file in a viewer."
            )
        image: NDArray[np.uint8] = np.load(target)
        return image


def show_scene(scene: Scene, title: str) -> None:
    """Open an interactive window and return when it is closed.

    Args:
        scene: what to show.
        title: of the window.

    Raises:
        RenderingError: if there is no display or no Open3D.
    """
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise RenderingError(
            "There is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set); "
            "leave out --interactive, or open the PLY file in a viewer elsewhere."
        )
    try:
        from open3d import visualization
    except ImportError as error:
        raise RenderingError(f"Open3D cannot be imported ({error}); {_LIBRARIES}.") from error
    visualization.draw(
        [
            {"name": name, "geometry": geometry, "material": material}
            for name, geometry, material in geometries(scene)
        ],
        title=title,
        bg_color=(1.0, 1.0, 1.0, 1.0),
        show_skybox=False,
    )


def geometries(scene: Scene) -> list[tuple[str, Any, Any]]:
    """Return name, Open3D geometry and Open3D material of the scene's points and boxes."""
    import open3d

    cloud = open3d.geometry.PointCloud(_vectors(open3d, scene.points))
    cloud.colors = _vectors(open3d, scene.point_colors / 255.0)
    points = open3d.visualization.rendering.MaterialRecord()
    points.shader, points.point_size = "defaultUnlit", 2.5
    parts = [("points", cloud, points)] if len(scene.points) else []
    if len(scene.edges):
        ends = open3d.utility.Vector2iVector(np.ascontiguousarray(scene.edges))
        lines = open3d.geometry.LineSet(_vectors(open3d, scene.vertices), ends)
        lines.colors = _vectors(open3d, scene.edge_colors / 255.0)
        material = open3d.visualization.rendering.MaterialRecord()
        material.shader, material.line_width = "unlitLine", 2.5
        parts.append(("boxes", lines, material))
    return parts


def _vectors(open3d: Any, rows: NDArray[Any]) -> Any:
    """Rows of three as Open3D wants them."""
    return open3d.utility.Vector3dVector(np.ascontiguousarray(rows, dtype=np.float64))


def _last_line(text: str) -> str:
    """The last line of an error output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
