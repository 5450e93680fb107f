"""Perspective views of scenes with Open3D, without a display.

Open3D ends the whole process when it cannot render, so views are made in a process of its own:
``python -m ebm3d.visualization.rendering VIEWS.npz IMAGES.npy``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.visualization.camera import FIELD_OF_VIEW, Camera
from ebm3d.visualization.frame import GROUND_TRUTH, STYLES
from ebm3d.visualization.scene import Scene

LIBRARIES = "install Open3D and the system libraries libegl1 and libgl1"
_TIMEOUT = 300.0  # seconds; a frame takes about 6 on an idle machine, mostly imports
_FACE_OPACITY = 0.22
_LIGHT = 150_000.0  # Open3D's 37,500 makes faces gray


class RenderingError(RuntimeError):
    """Open3D cannot render on this machine; the message says what to do."""


@dataclass(frozen=True)
class View:
    """A scene, its camera, and the sizes of points and width of lines in pixels."""

    scene: Scene
    camera: Camera
    point_size: float = 3.0
    line_width: float = 4.0


def render(views: Sequence[View], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Render V views of (width, height) pixels to RGB ``(V, height, width, 3)``, in a new process.

    Raises:
        RenderingError: if Open3D cannot be imported or cannot render here.
    """
    with tempfile.TemporaryDirectory(prefix="ebm3d-render-") as folder:
        source, target = Path(folder, "views.npz"), Path(folder, "images.npy")
        arrays: dict[str, Any] = {"size": np.array(size)}
        for index, view in enumerate(views):
            numbers = np.array((*view.camera.eye, *view.camera.target, *astuple(view)[2:]))
            arrays |= {f"{index}": numbers}
            arrays |= {f"{index}.{name}": array for name, array in vars(view.scene).items()}
        np.savez(source, **arrays)
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
            remedy = f"{LIBRARIES}, or open the PLY file in a viewer."
            raise RenderingError(f"Open3D cannot render on this machine ({reason}); {remedy}")
        images: NDArray[np.uint8] = np.load(target)
        return images


def add_scene(target: Any, scene: Scene, *, point_size: float, line_width: float) -> None:
    """Add a scene to an Open3D one, as geometries ``points``, a style's label, and ``faces``."""
    from open3d.geometry import LineSet, PointCloud, TriangleMesh
    from open3d.utility import Vector2iVector, Vector3dVector, Vector3iVector
    from open3d.visualization.rendering import MaterialRecord

    vertices = Vector3dVector(scene.vertices.astype(np.float64))
    if len(scene.points):
        cloud = PointCloud(Vector3dVector(scene.points.astype(np.float64)))
        cloud.colors = Vector3dVector(scene.point_colors / 255.0)
        material = MaterialRecord()
        material.shader, material.point_size = "defaultUnlit", point_size
        target.add_geometry("points", cloud, material)
    for style in STYLES:
        edges = scene.edges[(scene.edge_colors == style.rgb).all(axis=1)]
        if len(edges):
            lines = LineSet(vertices, Vector2iVector(edges))
            lines.paint_uniform_color(np.array(style.rgb) / 255.0)
            material = MaterialRecord()
            material.shader, material.line_width = "unlitLine", line_width
            target.add_geometry(style.label, lines, material)
    if len(scene.faces):
        material = MaterialRecord()
        material.shader = "defaultLitTransparency"
        material.base_roughness, material.base_reflectance = 1.0, 0.0
        material.base_color = (1.0, 1.0, 1.0, _FACE_OPACITY)
        mesh = TriangleMesh(vertices, Vector3iVector(scene.faces))
        mesh.compute_vertex_normals()  # the shader wants them
        mesh.paint_uniform_color(np.array(GROUND_TRUTH.rgb) / 255.0)
        target.add_geometry("faces", mesh, material)
        target.scene.set_indirect_light_intensity(_LIGHT)


def _render_file(source: str, target: str) -> None:
    """Render the views of a file without a window into an array file."""
    from open3d.visualization.rendering import OffscreenRenderer

    with np.load(source) as stored:
        arrays = dict(stored)
    renderer = OffscreenRenderer(*(int(n) for n in arrays.pop("size")))
    renderer.scene.set_background([1.0, 1.0, 1.0, 1.0])
    renderer.scene.view.set_post_processing(False)
    images = []
    for index in map(str, range(sum("." not in name for name in arrays))):
        scene = Scene(**{field.name: arrays[f"{index}.{field.name}"] for field in fields(Scene)})
        *camera, point_size, line_width = arrays[index]
        renderer.scene.clear_geometry()
        add_scene(renderer.scene, scene, point_size=point_size, line_width=line_width)
        renderer.setup_camera(FIELD_OF_VIEW, camera[3:], camera[:3], (0.0, 0.0, 1.0))
        images.append(np.array(renderer.render_to_image()))
    np.save(target, np.stack(images))


if __name__ == "__main__":
    _render_file(*sys.argv[1:])
