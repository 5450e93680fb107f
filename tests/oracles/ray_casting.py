"""Slow ray casting that shares nothing with the package: triangles, algebra, no culling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection

FloatArray = NDArray[np.float64]
MISS = (np.inf, -np.inf)


def polyhedron_corners(faces: FloatArray) -> FloatArray:
    """Corners of the polyhedron with rows ``n . x + e <= 0``, by scipy's duality."""
    norm = np.linalg.norm(faces[:, :3], axis=1)
    inner = linprog(
        [0, 0, 0, -1],
        A_ub=np.column_stack([faces[:, :3], norm]),
        b_ub=-faces[:, 3],
        bounds=[(None, None)] * 3 + [(0, None)],
    ).x[:3]
    return HalfspaceIntersection(faces, inner).intersections


def ray_polyhedron(corners: FloatArray, direction: FloatArray) -> tuple[float, float]:
    """First and last crossing of a ray from the origin with a convex hull; infinite if none."""
    crossings = []
    for a, b, c in corners[ConvexHull(corners).simplices]:
        matrix = np.stack([a - b, a - c, direction], axis=1)
        if abs(np.linalg.det(matrix)) < 1e-14:
            continue
        beta, gamma, t = np.linalg.solve(matrix, a)
        if beta >= -1e-12 and gamma >= -1e-12 and beta + gamma <= 1 + 1e-12:
            crossings.append(t)
    return (min(crossings), max(crossings)) if crossings else MISS


def ray_box(low: FloatArray, high: FloatArray, direction: FloatArray) -> tuple[float, float]:
    """Slabs of an axis-parallel box."""
    with np.errstate(divide="ignore"):
        first, second = np.asarray(low) / direction, np.asarray(high) / direction
    entry, leave = np.minimum(first, second).max(), np.maximum(first, second).min()
    return (entry, leave) if entry <= leave else MISS


def ray_ellipsoid(
    center: FloatArray, radii: FloatArray, direction: FloatArray
) -> tuple[float, float]:
    """Roots of ``|(t d - c) / r|^2 = 1`` by numpy's polynomial solver."""
    d, c = direction / radii, np.asarray(center) / radii
    return _real_roots([d @ d, -2 * d @ c, c @ c - 1])


def ray_cylinder(
    start: FloatArray, end: FloatArray, radius: float, direction: FloatArray
) -> tuple[float, float]:
    """Infinite cylinder by cross products with the axis, then its two caps."""
    axis = (end - start) / np.linalg.norm(end - start)
    across, offset = np.cross(direction, axis), np.cross(start, axis)
    entry, leave = _real_roots([across @ across, -2 * across @ offset, offset @ offset - radius**2])
    caps = sorted([(start @ axis) / (direction @ axis), (end @ axis) / (direction @ axis)])
    entry, leave = max(entry, caps[0]), min(leave, caps[1])
    return (entry, leave) if entry <= leave else MISS


def _real_roots(coefficients: list[float]) -> tuple[float, float]:
    """Smallest and largest root, infinite if they are complex."""
    roots = np.roots(coefficients)
    if np.abs(roots.imag).max() > 1e-12:
        return MISS
    return float(roots.real.min()), float(roots.real.max())
