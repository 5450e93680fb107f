"""Intersect rays from the origin with the convex solids of ``solids``."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ebm3d.simulation.solids import CYLINDER, POLYHEDRON

FloatArray = NDArray[np.float64]
Intersection = tuple[float, float, int, int, float, float]
_MISS = (np.inf, -np.inf, 0, 0, 0.0, 0.0)


@njit(cache=True)
def intersect(kind: int, rows: FloatArray, direction: FloatArray) -> Intersection:
    """Intersect a ray of unit direction ``(3,)`` with a solid of rows ``(F, 4)``.

    Returns distances of entry and exit (entry beyond exit where the ray misses; entry negative
    where the origin lies inside), the rows through which it enters and leaves (0 for curved
    solids), and the cosines of incidence there.
    """
    if kind == POLYHEDRON:
        return _intersect_polyhedron(rows, direction)
    return _intersect_curved(kind, rows, direction)


@njit(cache=True)
def _intersect_polyhedron(rows: FloatArray, direction: FloatArray) -> Intersection:
    """Clip the ray by one face after the other."""
    entry, leave = -np.inf, np.inf
    face_in, face_out, cos_in, cos_out = 0, 0, 0.0, 0.0
    for i in range(len(rows)):
        rate = rows[i, 0] * direction[0] + rows[i, 1] * direction[1] + rows[i, 2] * direction[2]
        if rate == 0.0:
            if rows[i, 3] > 0.0:
                return _MISS
            continue
        t = -rows[i, 3] / rate
        if rate < 0.0:
            if t > entry:
                entry, face_in, cos_in = t, i, -rate
        elif t < leave:
            leave, face_out, cos_out = t, i, rate
        if entry > leave:
            return _MISS
    return entry, leave, face_in, face_out, cos_in, cos_out


@njit(cache=True)
def _intersect_curved(kind: int, rows: FloatArray, direction: FloatArray) -> Intersection:
    """Solve the quadratic equation in the frame of the unit sphere or unit cylinder."""
    ax = rows[0, 0] * direction[0] + rows[0, 1] * direction[1] + rows[0, 2] * direction[2]
    ay = rows[1, 0] * direction[0] + rows[1, 1] * direction[1] + rows[1, 2] * direction[2]
    az = rows[2, 0] * direction[0] + rows[2, 1] * direction[1] + rows[2, 2] * direction[2]
    bx, by, bz = rows[0, 3], rows[1, 3], rows[2, 3]
    a, b, c = ax * ax + ay * ay, ax * bx + ay * by, bx * bx + by * by - 1.0
    if kind != CYLINDER:
        a, b, c = a + az * az, b + az * bz, c + bz * bz
    entry, leave = -np.inf, np.inf
    root = b * b - a * c
    if a > 1e-18:
        if root <= 0.0:
            return _MISS
        root = np.sqrt(root)
        entry, leave = (-b - root) / a, (-b + root) / a
    elif c > 0.0:
        return _MISS
    cap_in, cap_out = False, False
    if kind == CYLINDER:
        if az != 0.0:
            near, far = (-1.0 - bz) / az, (1.0 - bz) / az
            if near > far:
                near, far = far, near
            if near > entry:
                entry, cap_in = near, True
            if far < leave:
                leave, cap_out = far, True
        elif abs(bz) > 1.0:
            return _MISS
        if entry > leave:
            return _MISS
    cos_in = _curved_incidence(kind, rows, direction, entry, cap_in)
    cos_out = _curved_incidence(kind, rows, direction, leave, cap_out)
    return entry, leave, 0, 0, cos_in, cos_out


@njit(cache=True)
def _curved_incidence(
    kind: int, rows: FloatArray, direction: FloatArray, t: float, cap: bool
) -> float:
    """Cosine of incidence on a curved solid: the normal is the gradient of its equation."""
    nx, ny, nz = 0.0, 0.0, 0.0
    for k in range(3):
        along = rows[k, 0] * direction[0] + rows[k, 1] * direction[1] + rows[k, 2] * direction[2]
        weight = along * t + rows[k, 3]
        if kind == CYLINDER and (k == 2) != cap:
            weight = 0.0
        elif cap:
            weight = 1.0
        nx += weight * rows[k, 0]
        ny += weight * rows[k, 1]
        nz += weight * rows[k, 2]
    norm = np.sqrt(nx * nx + ny * ny + nz * nz)
    along = abs(nx * direction[0] + ny * direction[1] + nz * direction[2])
    return along / norm if norm > 0.0 else 0.0
