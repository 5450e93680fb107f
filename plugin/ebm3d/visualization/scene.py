"""A frame as colored points and colored lines: what PLY files, renderings and windows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.datasets.atomic import write_atomically
from ebm3d.visualization.frame import (
    GROUND_TRUTH,
    MIN_SCORE,
    BoxStyle,
    FloatArray,
    RefinedFrame,
)

# Edges between the corners of ebm3d.boxes.corners_3d: bottom, top, uprights; and a stroke on the
# roof from its center to the middle of the front, which shows the heading.
_EDGES = np.array([
    (0, 1), (1, 2), (2, 3), (3, 0),
    (4, 5), (5, 6), (6, 7), (7, 4),
    (0, 4), (1, 5), (2, 6), (3, 7),
    (8, 9),
])  # fmt: skip
_NUM_VERTICES = 10
_FACES = np.array([
    (0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4),
    (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 0, 4), (3, 4, 7),
])  # fmt: skip
# A cloud from low to high: grays with a little blue, so that boxes stand out.
_LOW, _HIGH = np.array((196, 203, 208)), np.array((48, 62, 80))
_HEIGHT_SHARES = (0.02, 0.98)  # quantiles of z between which points are colored

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])
_EDGE = np.dtype([("ends", "<i4", 2), ("color", "u1", 3)])
_COLOR = "property uchar red\nproperty uchar green\nproperty uchar blue\n"


@dataclass(frozen=True)
class Scene:
    """Colored points and lines, meters, LiDAR frame.

    Args:
        points: ``(P, 3)`` float32.
        point_colors: ``(P, 3)`` uint8 RGB.
        vertices: ``(V, 3)`` float32, ends of lines.
        edges: ``(E, 2)`` int32, rows of ``vertices``.
        edge_colors: ``(E, 3)`` uint8 RGB.
        faces: ``(F, 3)`` int32, rows of ``vertices``: triangles of true boxes.
    """

    points: NDArray[np.float32]
    point_colors: NDArray[np.uint8]
    vertices: NDArray[np.float32]
    edges: NDArray[np.int32]
    edge_colors: NDArray[np.uint8]
    faces: NDArray[np.int32]


def scene_of_frame(frame: RefinedFrame, *, min_score: float = MIN_SCORE) -> Scene:
    """Points colored by height and boxes colored by kind, without detections below the score."""
    return scene_of_boxes(frame.points, frame.above(min_score).kinds())


def scene_of_boxes(points: FloatArray, kinds: Sequence[tuple[FloatArray, BoxStyle]]) -> Scene:
    """Points ``(P, >= 3)`` and boxes of each kind ``(N, 7)``; true boxes, if any, come first."""
    boxes = np.concatenate([boxes for boxes, _ in kinds])
    colors = np.concatenate([np.tile(style.rgb, (len(b) * len(_EDGES), 1)) for b, style in kinds])
    first = _NUM_VERTICES * np.arange(len(boxes))[:, None, None]
    num_true = sum(len(b) for b, style in kinds if style is GROUND_TRUTH)
    points = points[:, :3].astype(np.float32)
    return Scene(
        points,
        _height_colors(points[:, 2]),
        _vertices(boxes),
        (_EDGES + first).reshape(-1, 2).astype(np.int32),
        colors.astype(np.uint8),
        (_FACES + first[:num_true]).reshape(-1, 3).astype(np.int32),
    )


def write_ply(path: str | Path, scene: Scene) -> None:
    """Write points and box edges into one binary PLY file, meters.

    The vertices are the points, then the ends of the lines; the element ``edge`` holds the lines.
    """
    vertex = np.zeros(len(scene.points) + len(scene.vertices), dtype=_VERTEX)
    vertex["position"] = np.concatenate((scene.points, scene.vertices))
    vertex["color"][: len(scene.points)] = scene.point_colors
    vertex["color"][len(scene.points) + scene.edges] = scene.edge_colors[:, None]
    edge = np.zeros(len(scene.edges), dtype=_EDGE)
    edge["ends"], edge["color"] = scene.edges + len(scene.points), scene.edge_colors
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment x forward, y to the left, z up; meters\n"
        f"element vertex {len(vertex)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"{_COLOR}element edge {len(edge)}\nproperty int vertex1\nproperty int vertex2\n"
        f"{_COLOR}end_header\n"
    )
    write_atomically(path, header.encode("ascii") + vertex.tobytes() + edge.tobytes())


def _vertices(boxes: FloatArray) -> NDArray[np.float32]:
    """Vertices ``(10 N, 3)`` of ``(N, 7)`` boxes: corners, center and front of the roof."""
    corners = corners_3d(torch.as_tensor(boxes, dtype=torch.float64)).numpy()
    roof = corners[:, 4:].mean(axis=1, keepdims=True)
    front = corners[:, (4, 7)].mean(axis=1, keepdims=True)
    vertices = np.concatenate((corners, roof, front), axis=1)
    return vertices.reshape(-1, 3).astype(np.float32)


def _height_colors(height: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colors ``(P, 3)`` of points of height ``(P,)``."""
    low, high = np.quantile(height, _HEIGHT_SHARES) if len(height) else (0.0, 1.0)
    share = np.clip((height - low) / max(high - low, 1e-6), 0, 1)[:, None]
    colors: NDArray[np.uint8] = np.rint(_LOW + share * (_HIGH - _LOW)).astype(np.uint8)
    return colors
