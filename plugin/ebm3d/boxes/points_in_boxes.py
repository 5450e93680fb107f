"""Which points lie in which box."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import check_boxes, shape_error


def points_in_boxes(points: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for every point and every box whether the point lies in the box, ``(P, N)``.

    The faces belong to the box. Computed in float64; time O(P N).

    Args:
        points: ``(P, >= 3)``, x, y, z in meters, LiDAR frame.
        boxes: ``(N, 7)``.

    Raises:
        ValueError: for another shape.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise shape_error("points", "(P, 3) with columns (x, y, z), or more columns", points)
    check_boxes(boxes)
    # One row of memory per box, so that the points of a box are counted and picked fast.
    inside = np.zeros((len(boxes), len(points)), dtype=np.bool_)
    position = np.array(points[:, :3].T, dtype=np.float64, order="C")
    for row, (x, y, z, dx, dy, dz, yaw) in enumerate(np.asarray(boxes, dtype=np.float64)):
        # Only points in the square that holds the box at any yaw are rotated.
        reach = np.hypot(dx, dy) / 2
        near = np.flatnonzero(
            (np.abs(position[0] - x) <= reach) & (np.abs(position[1] - y) <= reach)
        )
        offset = position[:, near] - np.array([[x], [y], [z]])
        cosine, sine = np.cos(yaw), np.sin(yaw)
        along = np.abs(cosine * offset[0] + sine * offset[1])
        across = np.abs(cosine * offset[1] - sine * offset[0])
        height = offset[2]
        within = (along <= dx / 2) & (across <= dy / 2) & (height >= 0) & (height <= dz)
        inside[row, near[within]] = True
    return inside.T
