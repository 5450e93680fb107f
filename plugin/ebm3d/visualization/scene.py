"""A frame as colored points and colored lines: what PLY files, renderings and windows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.datasets.atomic import write_atomically
from ebm3d.visualization.frame import (
    AXES,
    GROUND_TRUTH,
    MIN_SCORE,
    BoxStyle,
    FloatArray,
    RefinedFrame,
)
from ebm3d.visualization.motion import lag_colors, velocity_arrows, without_repeats

# Edges between the corners of ebm3d.boxes.corners_3d: bottom, top, uprights; and a stroke on the
# roof from its center to the middle of the front, which shows the heading.
_EDGES = np.array([
    (0, 1), (1, 2), (2, 3), (3, 0),
    (4, 5), (5, 6), (6, 7), (7, 4),
    (0, 4), (1, 5), (2, 6), (3, 7),
    (8, 9),
])  # fmt: skip
_NUM_VERTICES = 10
# A shaft and two barbs between start, end and barbs of an arrow.
_ARROW_EDGES = np.array([(0, 1), (2, 1), (3, 1)])
_BARB = 0.22  # length of a barb along and across the arrow, shares of its length
_LONGEST_BARB = 0.8  # meters
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
    """Points and boxes colored by kind, without detections below the score.

    Points are colored by height; those of several sweeps by time lag, without the older ones
    where a newer one is near.
    """
    points, lags, longest = frame.points, frame.lags, frame.longest_lag
    if lags is None or not longest:
        return scene_of_boxes(points, frame.above(min_score).kinds())
    rows = without_repeats(points, lags)
    scene = scene_of_boxes(points[rows], frame.above(min_score).kinds())
    return replace(scene, point_colors=lag_colors(lags[rows], longest))


def scene_of_boxes(points: FloatArray, kinds: Sequence[tuple[FloatArray, BoxStyle]]) -> Scene:
    """Points ``(P, >= 3)`` and boxes of each kind ``(N, 7)`` or ``(N, 9)``; true boxes come first.

    Moving boxes have an arrow, see :func:`ebm3d.visualization.motion.velocity_arrows`.
    """
    boxes = np.concatenate([boxes[:, :7] for boxes, _ in kinds])
    arrows = [velocity_arrows(boxes) for boxes, _ in kinds]
    vertices = np.concatenate((_vertices(boxes), _arrow_vertices(np.concatenate(arrows))))
    first = _NUM_VERTICES * np.arange(len(boxes))[:, None, None]
    tails = _NUM_VERTICES * len(boxes) + 4 * np.arange(sum(map(len, arrows)))[:, None, None]
    edges = np.concatenate(((_EDGES + first).reshape(-1, 2), (_ARROW_EDGES + tails).reshape(-1, 2)))
    counts = [len(b) * len(_EDGES) for b, _ in kinds] + [len(a) * len(_ARROW_EDGES) for a in arrows]
    colors = np.repeat([style.rgb for _, style in 2 * list(kinds)], counts, axis=0)
    num_true = sum(len(b) for b, style in kinds if style is GROUND_TRUTH)
    points = points[:, :3].astype(np.float32)
    return Scene(
        points,
        _height_colors(points[:, 2]),
        vertices,
        edges.astype(np.int32),
        colors.astype(np.uint8),
        (_FACES + first[:num_true]).reshape(-1, 3).astype(np.int32),
    )


def write_ply(path: str | Path, scene: Scene, forward: str = "x") -> None:
    """Write points and box edges into one binary PLY file, meters.

    The vertices are the points, then the ends of the lines; the element ``edge`` holds the lines.
    A comment names the axes, see ``forward`` of :class:`ebm3d.visualization.RefinedFrame`.
    """
    x, y = AXES[forward]
    vertex = np.zeros(len(scene.points) + len(scene.vertices), dtype=_VERTEX)
    vertex["position"] = np.concatenate((scene.points, scene.vertices))
    vertex["color"][: len(scene.points)] = scene.point_colors
    vertex["color"][len(scene.points) + scene.edges] = scene.edge_colors[:, None]
    edge = np.zeros(len(scene.edges), dtype=_EDGE)
    edge["ends"], edge["color"] = scene.edges + len(scene.points), scene.edge_colors
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment x {x}, y {y}, z up; meters\n"
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


def _arrow_vertices(arrows: FloatArray) -> NDArray[np.float32]:
    """Start, end and the two barbs' ends ``(4 K, 3)`` of arrows ``(K, 2, 3)``."""
    start, end = arrows[:, 0], arrows[:, 1]
    back = start - end
    length = np.linalg.norm(back, axis=1, keepdims=True)
    back *= np.minimum(_BARB, _LONGEST_BARB / length)
    aside = 0.5 * np.stack((-back[:, 1], back[:, 0], back[:, 2]), axis=1)
    vertices = np.stack((start, end, end + back + aside, end + back - aside), axis=1)
    return vertices.reshape(-1, 3).astype(np.float32)


def _height_colors(height: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colors ``(P, 3)`` of points of height ``(P,)``."""
    low, high = np.quantile(height, _HEIGHT_SHARES) if len(height) else (0.0, 1.0)
    share = np.clip((height - low) / max(high - low, 1e-6), 0, 1)[:, None]
    colors: NDArray[np.uint8] = np.rint(_LOW + share * (_HIGH - _LOW)).astype(np.uint8)
    return colors
