"""A frame as colored points and colored lines: what PLY files, renderings and windows show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import corners_3d
from ebm3d.visualization.frame import FloatArray, RefinedFrame
from ebm3d.visualization.palette import GROUND_TRUTH, INITIAL, REFINED, height_color, rgb

# Edges of a box whose corners are numbered as in ebm3d.boxes.corners_3d: bottom, top, uprights.
_BOX_EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
# A stroke on the roof from its center to the middle of the front shows the heading.
_HEADING_EDGE = (8, 9)
_NUM_VERTICES = 10
_HEIGHT_SHARES = (0.02, 0.98)  # quantiles of z between which points are colored


@dataclass(frozen=True)
class Scene:
    """Colored points and lines, meters, LiDAR frame.

    Attributes:
        points: ``(P, 3)`` float32.
        point_colors: ``(P, 3)`` uint8 RGB.
        vertices: ``(V, 3)`` float32, ends of lines.
        edges: ``(E, 2)`` int32, rows of ``vertices``.
        edge_colors: ``(E, 3)`` uint8 RGB.
    """

    points: NDArray[np.float32]
    point_colors: NDArray[np.uint8]
    vertices: NDArray[np.float32]
    edges: NDArray[np.int32]
    edge_colors: NDArray[np.uint8]


def scene_of_frame(frame: RefinedFrame, *, min_score: float = 0.3) -> Scene:
    """Turn a frame into points colored by height and boxes colored by kind.

    Args:
        frame: what to show.
        min_score: detections below are left out.

    Returns:
        The scene; colors as in the legend of the pictures from above.
    """
    frame = frame.above(min_score)
    kinds = [(frame.initial, INITIAL), (frame.refined, REFINED)]
    if frame.ground_truth is not None:
        kinds.insert(0, (frame.ground_truth, GROUND_TRUTH))
    vertices, edges, colors = [], [], []
    start = 0
    for boxes, style in kinds:
        corners, lines = _box_lines(boxes)
        vertices.append(corners)
        edges.append(lines + start)
        colors.append(np.tile(np.array(rgb(style.color), dtype=np.uint8), (len(lines), 1)))
        start += len(corners)
    points = frame.points[:, :3].astype(np.float32)
    return Scene(
        points,
        _height_colors(points[:, 2]),
        np.concatenate(vertices),
        np.concatenate(edges),
        np.concatenate(colors),
    )


def _box_lines(boxes: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices ``(10 N, 3)`` and edges ``(13 N, 2)`` of ``(N, 7)`` boxes."""
    corners = corners_3d(torch.as_tensor(boxes, dtype=torch.float64)).numpy()
    roof = corners[:, 4:].mean(axis=1, keepdims=True)
    front = corners[:, (4, 7)].mean(axis=1, keepdims=True)
    vertices = np.concatenate((corners, roof, front), axis=1).reshape(-1, 3).astype(np.float32)
    one = np.array((*_BOX_EDGES, _HEADING_EDGE), dtype=np.int32)
    first = _NUM_VERTICES * np.arange(len(boxes), dtype=np.int32)
    return vertices, (one + first[:, None, None]).reshape(-1, 2)


def _height_colors(height: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colors ``(P, 3)`` of points of height ``(P,)``."""
    if not len(height):
        return np.zeros((0, 3), dtype=np.uint8)
    low, high = np.quantile(height, _HEIGHT_SHARES)
    share = np.clip((height - low) / max(high - low, 1e-6), 0, 1)
    table = np.array([height_color(step / 255) for step in range(256)], dtype=np.uint8)
    colors: NDArray[np.uint8] = table[np.rint(share * 255).astype(np.intp)]
    return colors
