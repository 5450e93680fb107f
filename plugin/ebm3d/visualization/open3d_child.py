"""The process that renders: ``python -m ebm3d.visualization.open3d_child SCENE.npz IMAGE.npy``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.visualization.rendering import geometries
from ebm3d.visualization.scene import Scene

_FIELD_OF_VIEW = 36.0  # degrees, vertical
_EYE_BACK, _EYE_UP = 14.0, 11.0  # where the camera is from the sensor, meters
_LOOK_AHEAD = 17.0


def main(source: str, target: str) -> None:
    """Render the scene of ``source`` into the array ``target``."""
    with np.load(source) as stored:
        arrays = {name: stored[name] for name in stored.files}
    width, height = (int(n) for n in arrays.pop("size"))
    np.save(Path(target), _render(Scene(**arrays), width, height))


def _render(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """Render with Open3D's renderer that needs no window."""
    from open3d.visualization import rendering

    renderer = rendering.OffscreenRenderer(width, height)
    renderer.scene.set_background([1.0, 1.0, 1.0, 1.0])
    renderer.scene.view.set_post_processing(False)
    for name, geometry, material in geometries(scene):
        renderer.scene.add_geometry(name, geometry, material)
    renderer.setup_camera(
        _FIELD_OF_VIEW, [_LOOK_AHEAD, 0.0, -1.0], [-_EYE_BACK, 0.0, _EYE_UP], [0.0, 0.0, 1.0]
    )
    image: NDArray[np.uint8] = np.asarray(renderer.render_to_image()).copy()
    return image


if __name__ == "__main__":
    main(*sys.argv[1:])
