"""Faces of boxes: how far other boxes reach beyond them, and boxes with faces moved.

N boxes, LiDAR frame; S other boxes of each; six faces in the order of :data:`FACES`. Meters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import check_boxes, shape_error

FloatArray = NDArray[np.float64]

FACES = ("rear", "front", "right", "left", "bottom", "top")
"""Where length, width and height begin and end."""


def face_excess(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """How far other boxes ``(N, S, 7)`` reach beyond the faces of boxes ``(N, 7)``, ``(N, S, 6)``.

    Negative where they end inside. ``with_margins(boxes, excess)`` is the smallest box of the same
    heading that holds the other.
    """
    offset, turn = _offsets(boxes, others)
    reach = np.einsum("nski,nsk->nsi", np.abs(_axes(turn)), others[..., 3:6]) / 2
    ends = reach - boxes[:, None, 3:6] / 2
    return _by_face(ends - offset, ends + offset)


def containment_scale(boxes: FloatArray, others: FloatArray, spread: FloatArray) -> FloatArray:
    r"""How far the faces of boxes must move inwards to lie in other boxes, ``(N, S)``.

    .. math:: \min \{c \ge 0 : \text{with\_margins}(b, -c\,\sigma) \subseteq y\}

    exactly: how far the shrunk box reaches is linear in c until it is empty, and lies in every box.

    Args:
        boxes: b, ``(N, 7)``.
        others: y, ``(N, S, 7)``.
        spread: sigma of the faces ``(N, 6)``, positive.
    """
    lack, pace = _lack(boxes, others, spread)
    scale = (lack / pace).max(axis=-1, initial=0.0)
    empty = (boxes[:, 3:6] / (spread[:, ::2] + spread[:, 1::2])).min(axis=1)  # two faces meet
    return np.minimum(scale, empty[:, None])


def with_margins(boxes: FloatArray, margins: FloatArray) -> FloatArray:
    """Move the faces of boxes ``(N, 7)`` outwards by ``(N, 6)``, inwards where negative.

    Faces that meet leave a size of 0: an empty box. Infinite margins of two opposite faces leave
    their middle.
    """
    check_boxes(boxes)
    if margins.shape != (len(boxes), 6):
        raise shape_error("margins", f"({len(boxes)}, 6), one per face", margins)
    low, high = margins[:, ::2], margins[:, 1::2]
    sizes = (boxes[:, 3:6] + low + high).clip(min=0.0)
    with np.errstate(invalid="ignore"):
        shift = np.where(low == high, 0.0, (high - low) / 2)
    shift = np.einsum("nki,nk->ni", _axes(boxes[:, 6]), shift)
    shift[:, 2] += (boxes[:, 5] - sizes[:, 2]) / 2
    return np.concatenate([boxes[:, :3] + shift, sizes, boxes[:, 6:]], axis=1)


def face_std(boxes: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations ``(N, 6)`` of the faces of boxes, each at its less certain corners.

    To first order in the yaw. Correlations count: of a car that is seen from behind, the rear is
    certain, though center and length are not.

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
    normals = _axes(boxes[:, 6]).repeat(2, axis=1) * np.tile([-1.0, 1.0], 3)[:, None]
    of_sizes = np.eye(3).repeat(2, axis=0) / 2 + normals * (0.0, 0.0, 0.5)  # dz lifts the center
    slopes = np.concatenate([normals, of_sizes], axis=-1)
    lever = np.repeat(boxes[:, [4, 3, 5]] * (0.5, 0.5, 0.0), 2, axis=1)
    variance = ((slopes @ covariance[:, :6, :6]) * slopes).sum(axis=-1).clip(min=0.0)
    variance += np.square(lever) * covariance[:, 6, 6, None]
    variance += 2 * lever * np.abs(np.einsum("nfi,ni->nf", slopes, covariance[:, :6, 6]))
    return np.sqrt(variance)


def _axes(yaw: FloatArray) -> FloatArray:
    """Unit vectors ``(..., 3, 3)`` along length, width and height of boxes of yaws ``(...)``."""
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    rows = [cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1]
    return np.stack(rows, axis=-1).reshape(*yaw.shape, 3, 3)


def _by_face(low: FloatArray, high: FloatArray) -> FloatArray:
    """Values ``(..., 3)`` of the faces at both ends of the axes in the order of ``FACES``."""
    return np.stack([low, high], axis=-1).reshape(*low.shape[:-1], 6)


def _offsets(boxes: FloatArray, others: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Offsets ``(N, S, 3)`` of other boxes' centers in the axes of boxes, and their turns."""
    check_boxes(boxes)
    if others.ndim != 3 or others.shape[::2] != boxes.shape:
        raise shape_error("others", f"({len(boxes)}, S, 7)", others)
    delta = others[..., :3] - boxes[:, None, :3]
    delta[..., 2] += (others[..., 5] - boxes[:, None, 5]) / 2
    offset = np.einsum("nki,nsi->nsk", _axes(boxes[:, 6]), delta)
    return offset, others[..., 6] - boxes[:, None, 6]


def _lack(
    boxes: FloatArray, others: FloatArray, spread: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """How far boxes reach beyond each face of others, and by how much less for a unit of scale."""
    offset, turn = _offsets(boxes, others)
    axes = _axes(turn)
    along = np.einsum("nski,nsi->nsk", axes, offset)
    reach = np.einsum("nski,ni->nsk", np.abs(axes), boxes[:, 3:6]) / 2 - others[..., 3:6] / 2
    ends = np.stack([spread[:, ::2], spread[:, 1::2]], axis=-1)
    forwards, backwards = (np.clip(sign * axes, 0, None) @ ends[:, None] for sign in (1, -1))
    low, high = forwards[..., 0] + backwards[..., 1], forwards[..., 1] + backwards[..., 0]
    return _by_face(reach + along, reach - along), _by_face(low, high)
