"""Shapes as unions of convex solids, in the one row form that ray casting reads.

Shape glossary: P solids of a shape; R rows of all its solids. A row ``(n, e)`` of four numbers is
the affine function ``n . x + e`` of a position x in meters:

* polyhedron: one row per face, inside where all rows are at most zero, ``n`` of unit length;
* ellipsoid: three rows ``u(x)``, inside where ``|u| <= 1``;
* cylinder: three rows ``u(x)``, inside where ``u_0^2 + u_1^2 <= 1`` and ``|u_2| <= 1``.

An affine map ``x' = M x + t`` turns every row ``(n, e)`` into ``(n M^-1, e - n M^-1 t)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, sin

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ebm3d.errors import input_error
from ebm3d.simulation.materials import Material

FloatArray = NDArray[np.float64]
Size = Sequence[float] | FloatArray  # length, width, height, meters
POLYHEDRON, ELLIPSOID, CYLINDER = 0, 1, 2
_TOLERANCE = 1e-9  # m; a corner this far outside a face still belongs to the polyhedron


@dataclass(frozen=True, eq=False)
class Shape:
    """A union of convex solids.

    Args:
        kinds: POLYHEDRON, ELLIPSOID or CYLINDER, shape ``(P,)``.
        starts: rows of solid i are ``starts[i]:starts[i + 1]``, shape ``(P + 1,)``.
        rows: see the module, shape ``(R, 4)``.
        materials: ``Material`` of each row, shape ``(R,)``.
        bounds: lowest and highest corner of every solid's bounding box, in the frame in which the
            shape was built, shape ``(P, 2, 3)``.
    """

    kinds: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: FloatArray
    materials: NDArray[np.int64]
    bounds: FloatArray

    @property
    def extent(self) -> FloatArray:
        """Lowest and highest corner of the bounding box of the union, shape ``(2, 3)``."""
        return np.stack([self.bounds[:, 0].min(axis=0), self.bounds[:, 1].max(axis=0)])


def polyhedron(faces: ArrayLike, materials: Material | Sequence[Material]) -> Shape:
    """Build a convex polyhedron from faces ``(F, 4)``, rows with ``n`` of any length.

    Raises:
        ValueError: if the faces bound no volume, or an unbounded one.
    """
    rows = np.array(faces, dtype=np.float64)
    rows /= np.sqrt((rows[:, :3] ** 2).sum(axis=1))[:, None]
    bounds = polyhedron_bounds(rows)
    if not (np.isfinite(bounds).all() and (bounds[1] > bounds[0]).all()):
        raise input_error("faces", "the faces of a polyhedron with a finite volume", rows.tolist())
    chosen = [materials] * len(rows) if isinstance(materials, Material) else materials
    return _single(POLYHEDRON, rows, np.array(chosen, dtype=np.int64), bounds)


def box(low: Sequence[float], high: Sequence[float], material: Material) -> Shape:
    """Build an axis-parallel box between two corners, meters."""
    faces = np.zeros((6, 4))
    for axis in range(3):
        faces[2 * axis, [axis, 3]] = -1.0, low[axis]
        faces[2 * axis + 1, [axis, 3]] = 1.0, -high[axis]
    bounds = np.array([low, high], dtype=np.float64)
    return _single(POLYHEDRON, faces, np.full(6, material, dtype=np.int64), bounds)


def ellipsoid(center: Sequence[float], radii: Sequence[float], material: Material) -> Shape:
    """Build an axis-parallel ellipsoid, meters."""
    return _curved(ELLIPSOID, np.diag(np.asarray(radii, dtype=np.float64)), center, material)


def cylinder(
    start: Sequence[float], end: Sequence[float], radius: float, material: Material
) -> Shape:
    """Build a circular cylinder between the centers of its two end faces, meters."""
    half = (np.asarray(end, dtype=np.float64) - np.asarray(start, dtype=np.float64)) / 2
    length = float(np.sqrt((half**2).sum()))
    axis = half / length
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = helper - axis * axis[np.argmin(np.abs(axis))]
    first /= np.sqrt((first**2).sum())
    columns = np.stack([first * radius, np.cross(axis, first) * radius, half], axis=1)
    return _curved(CYLINDER, columns, np.asarray(start, dtype=np.float64) + half, material)


def union(shapes: Sequence[Shape]) -> Shape:
    """Join shapes into one, in order."""
    offsets = np.cumsum([0, *(len(s.rows) for s in shapes)])
    starts = [s.starts[:-1] + offset for s, offset in zip(shapes, offsets, strict=False)]
    return Shape(
        kinds=np.concatenate([s.kinds for s in shapes]),
        starts=np.concatenate([*starts, offsets[-1:]]),
        rows=np.concatenate([s.rows for s in shapes]),
        materials=np.concatenate([s.materials for s in shapes]),
        bounds=np.concatenate([s.bounds for s in shapes]),
    )


def fit_to_box(shape: Shape, size: Size) -> Shape:
    """Stretch a shape to a bounding box of this length, width, height, bottom center at 0."""
    low, high = shape.extent
    scale = np.asarray(size, dtype=np.float64) / (high - low)
    shift = -scale * [*(low + high)[:2] / 2, low[2]]
    mapped = _transform(shape, np.diag(1 / scale), shift)
    return replace(mapped, bounds=shape.bounds * scale + shift)


def place(shape: Shape, x: float, y: float, z: float, yaw: float) -> Shape:
    """Rotate a shape about the vertical and move it; ``bounds`` stay as they are."""
    inverse = np.array([[cos(yaw), sin(yaw), 0], [-sin(yaw), cos(yaw), 0], [0, 0, 1.0]])
    return _transform(shape, inverse, np.array([x, y, z]))


def move_rectangles(corners: FloatArray, position: FloatArray, yaw: FloatArray) -> FloatArray:
    """Rotate corners ``(N, K, 2)`` by ``(N,)`` radians, then move them by ``(N, 2)``."""
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = corners[..., 0], corners[..., 1]
    moved = [x * c - y * s + position[:, :1], x * s + y * c + position[:, 1:]]
    return np.stack(moved, axis=2)


def _transform(shape: Shape, inverse: FloatArray, shift: FloatArray) -> Shape:
    """Apply ``x' = M x + shift`` to the rows, from the inverse of M; keep face normals unit."""
    rows = np.empty_like(shape.rows)
    rows[:, :3] = shape.rows[:, :3] @ inverse
    rows[:, 3] = shape.rows[:, 3] - rows[:, :3] @ shift
    face = np.repeat(shape.kinds == POLYHEDRON, np.diff(shape.starts))
    rows[face] /= np.sqrt((rows[face, :3] ** 2).sum(axis=1))[:, None]
    return replace(shape, rows=rows)


def _curved(
    kind: int, columns: FloatArray, center: Sequence[float] | FloatArray, material: Material
) -> Shape:
    """Solid whose unit shape is mapped by ``x = columns u + center``; columns are orthogonal."""
    inverse = columns.T / (columns**2).sum(axis=0)[:, None]
    middle = np.asarray(center, dtype=np.float64)
    rows = np.concatenate([inverse, -(inverse * middle).sum(axis=1, keepdims=True)], axis=1)
    if kind == ELLIPSOID:
        half = np.sqrt((columns**2).sum(axis=1))
    else:
        half = np.sqrt((columns[:, :2] ** 2).sum(axis=1)) + np.abs(columns[:, 2])
    bounds = np.stack([middle - half, middle + half])
    return _single(kind, rows, np.full(3, material, dtype=np.int64), bounds)


def _single(kind: int, rows: FloatArray, materials: NDArray[np.int64], bounds: FloatArray) -> Shape:
    """Shape of one solid."""
    return Shape(np.array([kind]), np.array([0, len(rows)]), rows, materials, bounds[None])


@njit(cache=True)
def polyhedron_bounds(faces: FloatArray) -> FloatArray:
    """Bounding box ``(2, 3)`` of a convex polyhedron of faces ``(F, 4)``, infinite if it is empty.

    Its corners are the points where three faces meet, inside all others.
    """
    num = len(faces)
    low, high, corner = np.full(3, np.inf), np.full(3, -np.inf), np.empty(3)
    for i in range(num):
        for j in range(i + 1, num):
            cx = faces[i, 1] * faces[j, 2] - faces[i, 2] * faces[j, 1]
            cy = faces[i, 2] * faces[j, 0] - faces[i, 0] * faces[j, 2]
            cz = faces[i, 0] * faces[j, 1] - faces[i, 1] * faces[j, 0]
            for k in range(j + 1, num):
                a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
                determinant = cx * a + cy * b + cz * c
                if abs(determinant) < 1e-12:
                    continue
                # x = -(e_i (n_j x n_k) + e_j (n_k x n_i) + e_k (n_i x n_j)) / det
                ei, ej, ek = faces[i, 3], faces[j, 3], faces[k, 3]
                corner[0] = ek * cx + ei * (faces[j, 1] * c - faces[j, 2] * b)
                corner[1] = ek * cy + ei * (faces[j, 2] * a - faces[j, 0] * c)
                corner[2] = ek * cz + ei * (faces[j, 0] * b - faces[j, 1] * a)
                corner[0] += ej * (b * faces[i, 2] - c * faces[i, 1])
                corner[1] += ej * (c * faces[i, 0] - a * faces[i, 2])
                corner[2] += ej * (a * faces[i, 1] - b * faces[i, 0])
                corner /= -determinant
                for m in range(num):
                    value = faces[m, 3]
                    for axis in range(3):
                        value += faces[m, axis] * corner[axis]
                    if value > _TOLERANCE:
                        break
                else:
                    low, high = np.minimum(low, corner), np.maximum(high, corner)
    return np.stack((low, high))
