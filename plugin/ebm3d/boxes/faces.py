"""Faces of boxes: how far other boxes reach beyond them, and boxes with faces moved.

N boxes, LiDAR frame; S other boxes of each; six faces in the order of :data:`FACES`. Meters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[np.float64]

FACES = ("rear", "front", "right", "left", "bottom", "top")
"""Where the box's own axes begin and end."""
_NUM_YAWS = 257  # of the search over the yaws of an ellipsoid, then refined once as finely


def face_excess(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """How far other boxes ``(N, S, 7)`` reach beyond the six faces of boxes, ``(N, S, 6)``.

    Negative where they end inside. No other box has a corner outside the box of ``boxes`` whose
    faces are moved outwards by this (:func:`with_margins`), and every face touches one.
    """
    offset, turn = _local(boxes, others)
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    length, width, height = np.moveaxis(others[..., 3:6], -1, 0)
    reach = np.stack([cos * length + sin * width, sin * length + cos * width], axis=-1) / 2
    half = boxes[:, None, 3:5] / 2
    above = offset[..., 2] + height - boxes[:, None, 5]
    low, high = reach - offset[..., :2] - half, reach + offset[..., :2] - half
    sides = [low[..., 0], high[..., 0], low[..., 1], high[..., 1], -offset[..., 2], above]
    return np.stack(sides, axis=-1)


def containment_scale(boxes: FloatArray, others: FloatArray, spread: FloatArray) -> FloatArray:
    r"""How far faces must move inwards until a box lies inside each other one, ``(N, S)``.

    .. math:: \min \{c \ge 0 : \text{with_margins}(b, -c\,\sigma) \subseteq y\}

    exactly: the reach of the shrunk box in a direction is linear in c as long as it is not empty,
    and an empty box lies in all.

    Args:
        boxes: ``(N, 7)``.
        others: ``(N, S, 7)``.
        spread: ``(N, 6)``, positive.
    """
    offset, turn = _local(boxes, others)
    spread = spread[:, None]
    cos, sin = np.cos(turn), np.sin(turn)
    scales = [offset[..., 2] / spread[..., 4]]
    above = boxes[:, None, 5] - offset[..., 2] - others[..., 5]
    scales.append(above / spread[..., 5])
    for sign in (-1.0, 1.0):
        for column, (u, v) in ((3, (sign * cos, sign * sin)), (4, (-sign * sin, sign * cos))):
            of_u = np.where(u > 0, spread[..., 1], spread[..., 0])
            of_v = np.where(v > 0, spread[..., 3], spread[..., 2])
            reach = (np.abs(u) * boxes[:, None, 3] + np.abs(v) * boxes[:, None, 4]) / 2
            limit = u * offset[..., 0] + v * offset[..., 1] + others[..., column] / 2
            scales.append((reach - limit) / (np.abs(u) * of_u + np.abs(v) * of_v))
    empty = (boxes[:, None, 3:6] / (spread[..., ::2] + spread[..., 1::2])).min(axis=-1)
    return np.minimum(np.max(scales, axis=0).clip(min=0.0), empty)


def with_margins(boxes: FloatArray, margins: FloatArray) -> FloatArray:
    """Move the six faces of boxes ``(N, 7)`` outwards by ``(N, 6)``, inwards where negative.

    Faces that meet leave a size of 0: an empty box. An infinite margin gives an infinite size.
    """
    check_boxes(boxes)
    if margins.shape != (len(boxes), 6):
        raise shape_error("margins", f"({len(boxes)}, 6), one per face", margins)
    low, high = margins[:, ::2], margins[:, 1::2]
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isinf(low) & np.isinf(high), 0.0, (high - low) / 2)
    sizes = (boxes[:, 3:6] + low + high).clip(min=0.0)
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    center = boxes[:, 2] + boxes[:, 5] / 2 + middle[:, 2]
    moved = boxes.copy()
    moved[:, 0] += cos * middle[:, 0] - sin * middle[:, 1]
    moved[:, 1] += sin * middle[:, 0] + cos * middle[:, 1]
    moved[:, 2] = center - sizes[:, 2] / 2
    moved[:, 3:6] = sizes
    return moved


def face_std(boxes: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations ``(N, 6)`` of the faces of boxes, at the less certain of their corners.

    To first order in the yaw. Correlations count: of a car seen from behind, the rear is certain
    though center and length are not.

    Args:
        boxes: ``(N, 7)``.
        covariance: ``(N, 7, 7)``, LiDAR axes, as ``BoxDistribution.covariance``; or standard
            deviations ``(N, 7)`` of independent dimensions.
    """
    check_boxes(boxes)
    if covariance.shape == boxes.shape:
        covariance = np.eye(7) * np.square(covariance)[:, None]
    if covariance.shape != (len(boxes), 7, 7):
        raise shape_error("covariance", f"({len(boxes)}, 7, 7) or ({len(boxes)}, 7)", covariance)
    sides = _corner_slopes(boxes)
    variance = np.einsum("nfci,nij,nfcj->nfc", sides, covariance, sides)
    return np.sqrt(variance.max(axis=2).clip(min=0.0))


def _local(boxes: FloatArray, others: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Offsets ``(N, S, 3)`` of other boxes' bottom centers in the axes of boxes, and turns."""
    check_boxes(boxes)
    if others.ndim != 3 or others.shape[::2] != boxes.shape:
        raise shape_error("others", f"({len(boxes)}, S, 7)", others)
    delta = others[..., :3] - boxes[:, None, :3]
    cos, sin = np.cos(boxes[:, None, 6]), np.sin(boxes[:, None, 6])
    along = cos * delta[..., 0] + sin * delta[..., 1]
    across = cos * delta[..., 1] - sin * delta[..., 0]
    offset = np.stack([along, across, delta[..., 2]], axis=-1)
    return offset, others[..., 6] - boxes[:, None, 6]


def _corner_slopes(boxes: FloatArray) -> FloatArray:
    """Derivatives ``(N, 6, 2, 7)`` of the excess at two corners of each face by the box."""
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    slopes = np.zeros((len(boxes), 6, 2, 7))
    slopes[:, 4, :, 2] = -1.0
    slopes[:, 5, :, 2] = slopes[:, 5, :, 5] = 1.0
    for corner, side in enumerate((-0.5, 0.5)):
        for end, sign in enumerate((-1.0, 1.0)):
            slopes[:, end, corner, 0], slopes[:, end, corner, 1] = sign * cos, sign * sin
            slopes[:, end, corner, 6] = side * boxes[:, 4]
            slopes[:, end, corner, 3] = 0.5
            slopes[:, 2 + end, corner, 0], slopes[:, 2 + end, corner, 1] = -sign * sin, sign * cos
            slopes[:, 2 + end, corner, 6] = side * boxes[:, 3]
            slopes[:, 2 + end, corner, 4] = 0.5
    return slopes
