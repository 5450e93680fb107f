"""Perspective pictures of a scene with Open3D, with or without a display.

Open3D ends the whole process when it cannot render, so a picture is made in a process of its own:
``python -m ebm3d.visualization.rendering SCENE.npz IMAGE.npy``.
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

from ebm3d.datasets.atomic import replacing
from ebm3d.visualization.frame import GROUND_TRUTH, INITIAL, REFINED
from ebm3d.visualization.scene import Scene

_LIBRARIES = "install Open3D and the system libraries libegl1 and libgl1"
_TIMEOUT = 300.0  # seconds; a frame takes about 6 on an idle machine, mostly imports
_FIELD_OF_VIEW = 36.0  # degrees, vertical
_EYE, _TARGET = (-14.0, 0.0, 11.0), (17.0, 0.0, -1.0)  # of the camera, LiDAR frame, meters


class RenderingError(RuntimeError):
    """Open3D cannot render on this machine; the message says what to do."""


def write_rendering(
    path: str | Path, scene: Scene, title: str, *, size: tuple[int, int] = (1400, 800)
) -> None:
    """Write a PNG of a scene from behind and above the sensor, of ``size`` pixels and a title.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    from matplotlib.figure import Figure

    image = render(scene, size)
    width, height = size[0] / 100, size[1] / 100
    figure = Figure(figsize=(width, height + 0.9), dpi=100)
    axes = figure.add_axes((0, 0.45 / (height + 0.9), 1, height / (height + 0.9)))
    axes.imshow(image)
    axes.axis("off")
    figure.suptitle(title, y=0.985)
    present = {tuple(color) for color in scene.edge_colors.tolist()}
    styles = [style for style in (GROUND_TRUTH, INITIAL, REFINED) if style.rgb in present]
    if styles:
        handles = [style.legend_line(linestyle="-", linewidth=3) for style in styles]
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial)


def render(scene: Scene, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Render a scene of (width, height) pixels to RGB ``(height, width, 3)``, in a new process.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    with tempfile.TemporaryDirectory(prefix="ebm3d-render-") as folder:
        source, target = Path(folder, "scene.npz"), Path(folder, "image.npy")
        np.savez(source, size=np.array(size), **vars(scene))
        # Mesa renders without a display only if told so before Open3D starts.
        environment = {"EGL_PLATFORM": "surfaceless", **os.environ}
        command = [sys.executable, "-W", "ignore", "-m", __name__, str(source), str(target)]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise RenderingError(f"Open3D rendered nothing in {_TIMEOUT:.0f} s.") from error
        if done.returncode or not target.is_file():
            said = done.stderr.strip().splitlines()
            reason = said[-1] if said else f"its process ended with code {done.returncode}"
            remedy = f"{_LIBRARIES}, or open the PLY file in a viewer."
            raise RenderingError(f"Open3D cannot render on this machine ({reason}); {remedy}")
        image: NDArray[np.uint8] = np.load(target)
        return image


def show_scene(scene: Scene, title: str) -> None:
    """Open an interactive window and return when it is closed.

    Raises:
        RenderingError: if there is no display or no Open3D.
    """
    displays = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not displays:
        raise RenderingError(
            "There is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set); "
            "leave out --interactive, or open the PLY file in a viewer elsewhere."
        )
    try:
        from open3d import visualization
    except ImportError as error:
        raise RenderingError(f"Open3D cannot be imported ({error}); {_LIBRARIES}.") from error
    keys = ("name", "geometry", "material")
    parts = [dict(zip(keys, part, strict=True)) for part in _geometries(scene)]
    visualization.draw(parts, title=title, bg_color=(1.0, 1.0, 1.0, 1.0), show_skybox=False)


def _geometries(scene: Scene) -> list[tuple[str, Any, Any]]:
    """Name, Open3D geometry and material of the points and of the boxes."""
    from open3d.geometry import LineSet, PointCloud
    from open3d.utility import Vector2iVector, Vector3dVector
    from open3d.visualization.rendering import MaterialRecord

    parts = []
    if len(scene.points):
        cloud = PointCloud(Vector3dVector(scene.points.astype(np.float64)))
        cloud.colors = Vector3dVector(scene.point_colors / 255.0)
        material = MaterialRecord()
        material.shader, material.point_size = "defaultUnlit", 2.5
        parts.append(("points", cloud, material))
    if len(scene.edges):
        vertices = Vector3dVector(scene.vertices.astype(np.float64))
        lines = LineSet(vertices, Vector2iVector(scene.edges))
        lines.colors = Vector3dVector(scene.edge_colors / 255.0)
        material = MaterialRecord()
        material.shader, material.line_width = "unlitLine", 2.5
        parts.append(("boxes", lines, material))
    return parts


def _render_file(source: str, target: str) -> None:
    """Render the scene of a file without a window into an array file."""
    from open3d.visualization.rendering import OffscreenRenderer

    with np.load(source) as stored:
        arrays = dict(stored)
    renderer = OffscreenRenderer(*(int(n) for n in arrays.pop("size")))
    renderer.scene.set_background([1.0, 1.0, 1.0, 1.0])
    renderer.scene.view.set_post_processing(False)
    for name, geometry, material in _geometries(Scene(**arrays)):
        renderer.scene.add_geometry(name, geometry, material)
    renderer.setup_camera(_FIELD_OF_VIEW, _TARGET, _EYE, (0.0, 0.0, 1.0))
    np.save(target, np.asarray(renderer.render_to_image()))


if __name__ == "__main__":
    _render_file(*sys.argv[1:])
