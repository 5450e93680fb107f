"""The functions of ``mmcv.ops``, which call the operators with tensors to fill."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from ebm3d.adapters.operators import OPERATORS, OperatorsLoader

ops = pytest.importorskip("mmcv.ops")
if not isinstance(find_spec("mmcv._ext").loader, OperatorsLoader):
    pytest.skip("a compiled mmcv is installed, and is used", allow_module_level=True)


def voxelize(points, size, bounds, max_points, max_voxels):
    """Voxels (M, T, C), cells (M, 3), counts (M,)."""
    return ops.voxelization(points, size, bounds, max_points, max_voxels)


def voxelize_dynamically(points, size, bounds):
    """Cells (P, 3)."""
    return ops.voxelization(points, size, bounds, -1, -1)


def nms(boxes, scores, threshold, offset=0):
    """Kept rows of boxes (x1, y1, x2, y2)."""
    return ops.nms(boxes, scores, threshold, offset)[1]


def rotated_nms(boxes, scores, threshold, labels=None):
    """Kept rows of boxes (x, y, w, h, angle)."""
    return ops.nms_rotated(boxes, scores, threshold, labels)[1]


def points_in_boxes(points, boxes, path):
    """Whether point p (P, 3) lies in box n (N, 7), (P, N); the operator for any device in torch."""
    if path == "numba":
        return ops.points_in_boxes_cpu(points[None], boxes[None])[0]
    inside = points.new_zeros(1, len(points), len(boxes), dtype=torch.int)
    OPERATORS["points_in_boxes_all_forward"](boxes[None], points[None], inside)
    return inside[0]
