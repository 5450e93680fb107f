"""PLY files of a scene, for MeshLab, CloudCompare, Blender or Open3D; no library needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebm3d.visualization.scene import Scene

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_EDGE = np.dtype([("ends", "<i4", 2), ("color", "u1", 3)])
_COLOR = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


def write_ply(path: str | Path, scene: Scene) -> None:
    """Write points and box edges into one binary PLY file.

    The vertices are the points, followed by the ends of the lines in their line's color; the
    element ``edge`` holds the lines, with colors of their own.

    Args:
        path: the file; its folder must exist.
        scene: what to write, meters.
    """
    vertex = np.zeros(len(scene.points) + len(scene.vertices), dtype=_VERTEX)
    vertex["position"] = np.concatenate((scene.points, scene.vertices))
    vertex["color"][: len(scene.points)] = scene.point_colors
    vertex["color"][len(scene.points) + scene.edges] = scene.edge_colors[:, None]
    edge = np.zeros(len(scene.edges), dtype=_EDGE)
    edge["ends"] = scene.edges + len(scene.points)
    edge["color"] = scene.edge_colors
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"comment x forward, y to the left, z up; meters\n"
        f"element vertex {len(vertex)}\n"
        "property float x\nproperty float y\nproperty float z\n" + _COLOR
        + f"element edge {len(edge)}\nproperty int vertex1\nproperty int vertex2\n" + _COLOR
        + "end_header\n"
    )  # fmt: skip
    Path(path).write_bytes(header.encode("ascii") + vertex.tobytes() + edge.tobytes())
