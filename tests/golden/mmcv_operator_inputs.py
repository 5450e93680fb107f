"""Inputs on which compiled operators of mmcv were recorded, the same bits on every machine.

Random numbers are integers divided by powers of two, exact in float32; every other number is the
float32 nearest to a decimal one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

THRESHOLDS = (0.0, 0.01, 0.1, 0.2, 0.5, 0.7, 1.0)
SCENE_SCALE = 128
"""Steps of 1 / 128 m, so that 16 bits hold a position of the simulated scene."""

_SECOND = ((0.05, 0.05, 0.1), (0.0, -40.0, -3.0, 70.4, 40.0, 1.0))
_PILLARS = ((0.16, 0.16, 4.0), (0.0, -39.68, -3.0, 69.12, 39.68, 1.0))
_COARSE = ((0.75, 0.5, 1.0), (-3.0, -4.0, -2.0, 12.0, 4.0, 2.0))  # 2.5 / 0.75 is no whole number
_HALF = ((0.4, 0.4, 0.4), (0.0, 0.0, 0.0, 1.0, 1.0, 1.0))  # 2.5 cells: rounded up


def exact_uniform(
    rng: np.random.Generator, low: list[float], high: list[float], num: int, bits: int = 12
) -> Array:
    """Numbers of ``bits`` binary places between the bounds, float32, shape (num, len(low))."""
    scale = 1 << bits
    bounds = [[round(value * scale) for value in bound] for bound in (low, high)]
    return (rng.integers(*bounds, size=(num, len(low))) / scale).astype(np.float32)


@dataclass(frozen=True)
class VoxelCase:
    """Points (P, C), size and range of voxels, T, V."""

    points: Array
    size: tuple[float, ...]
    bounds: tuple[float, ...]
    max_points: int
    max_voxels: int


def voxel_cases(scene: Array) -> dict[str, VoxelCase]:
    """Clouds by name; ``scene`` is a simulated one, (P, 3)."""
    rng = np.random.default_rng(7)
    wide = exact_uniform(rng, [-2, -42, -4, 0], [73, 42, 2, 1], 12_000)
    dense = exact_uniform(rng, [5, 5, -1, 0], [8, 8, 0, 1], 6_000)
    steps = np.arange(-2, 30, dtype=np.float32)
    grid = np.stack(np.meshgrid(steps, steps, np.arange(-2, 3, dtype=np.float32)), -1)
    borders = (grid.reshape(-1, 3) * np.float32([0.05, 0.05, 0.1])).astype(np.float32)
    borders += np.float32([0.0, -40.0, -3.0])
    above = np.nextafter(borders, np.float32(np.inf), dtype=np.float32)
    below = np.nextafter(borders, np.float32(-np.inf), dtype=np.float32)
    ends = np.float32([[0, -40, -3], [70.4, 40, 1], [0, -40, 1], [70.4, -40, -3]])
    odd = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -3e9, 0.0])
    not_finite = np.stack(np.meshgrid(odd, odd, odd), -1).reshape(-1, 3)
    half = exact_uniform(rng, [-0.2, -0.2, -0.2], [1.3, 1.3, 1.3], 500)
    edges = np.concatenate([borders, above, below, ends, np.nextafter(ends, np.float32(0))])
    scene = np.concatenate([scene, np.ones_like(scene[:, :1])], axis=1)
    return {
        "random": VoxelCase(wide, *_SECOND, 5, 16_000),
        "random, too many voxels": VoxelCase(wide, *_SECOND, 5, 300),
        "pillars": VoxelCase(wide, *_PILLARS, 32, 16_000),
        "full pillars": VoxelCase(dense, *_PILLARS, 10, 300),
        "one point a voxel": VoxelCase(dense, *_PILLARS, 1, 40),
        "borders": VoxelCase(edges, *_SECOND, 5, 16_000),
        "range of no whole number of voxels": VoxelCase(wide, *_COARSE, 3, 500),
        "half a voxel too many": VoxelCase(half, *_HALF, 3, 500),
        "not finite": VoxelCase(not_finite, *_SECOND, 5, 100),
        "float64": VoxelCase(edges.astype(np.float64), *_SECOND, 5, 16_000),
        "empty": VoxelCase(wide[:0], *_SECOND, 5, 100),
        "simulated, voxels": VoxelCase(scene, *_SECOND, 5, 16_000),
        "simulated, pillars": VoxelCase(scene, *_PILLARS, 32, 16_000),
    }


def degenerate_boxes() -> tuple[Array, Array]:
    """Pairs of boxes (x, y, w, h, angle) in every position that a clipper must survive."""
    base = [1.5, -2.0, 4.0, 2.0]
    relative = [  # x, y, w, h, angle beside the first box, whose angle is added
        (0.0, 0.0, 4.0, 2.0, 0.0),
        (0.0, 0.0, 4.0, 2.0, np.pi),
        (0.0, 0.0, 4.0, 2.0, np.pi / 2),
        (0.0, 0.0, 2.0, 4.0, np.pi / 2),
        (0.0, 0.0, 4.0, 2.0, 1e-6),
        (0.0, 0.0, 4.0, 2.0, 1e-3),
        (1e-4, 0.0, 4.0, 2.0, 0.0),
        (0.25, -0.25, 1.0, 0.5, 0.0),
        (0.25, -0.25, 1.0, 0.5, 0.5),
        (1.0, 0.0, 2.0, 1.0, 0.0),
        (1.5, 0.75, 1.0, 0.5, 0.0),
        (4.0, 0.0, 4.0, 2.0, 0.0),
        (4.0, 1.0, 4.0, 2.0, 0.0),
        (4.0, 2.0, 4.0, 2.0, 0.0),
        (2.0, 0.0, 1.0, 1.0, np.pi / 4),
        (1.0, 0.0, 4.0, 2.0, 0.0),
        (0.0, 0.0, 0.5, 8.0, 0.0),
        (9.0, 1.0, 4.0, 2.0, 0.25),
        (0.0, 0.0, 40.0, 1e-3, 1e-3),
        (1.0, 1.0, 80.0, 60.0, 0.75),
        (0.0, 0.0, 0.0, 2.0, 0.0),
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 1e-8, 1e-8, 0.0),
    ]
    first, second = [], []
    for yaw in (0.0, 0.5, -2.25):
        for x, y, w, h, angle in relative:
            cosine, sine = np.cos(yaw), np.sin(yaw)
            first.append([*base, yaw])
            center = (base[0] + cosine * x - sine * y, base[1] + sine * x + cosine * y)
            second.append([*center, w, h, yaw + angle])
    # To 20 binary places: the last bits of a sine differ between processors.
    return tuple(
        (np.round(np.array(b) * 2**20) / 2**20).astype(np.float32) for b in (first, second)
    )


def random_boxes(seed: int, num: int, num_objects: int, at: float = 0.0) -> Array:
    """Boxes (x, y, w, h, angle) of vehicles: some for each object, as a detector proposes them."""
    rng = np.random.default_rng(seed)
    objects = exact_uniform(rng, [0, -20, 3.5, 1.5, -3], [40, 20, 4.5, 2, 3], num_objects)
    boxes = objects[rng.integers(0, num_objects, num)]
    spread = exact_uniform(rng, [-0.5, -0.5, -0.2, -0.1, -0.2], [0.5, 0.5, 0.2, 0.1, 0.2], num)
    return (boxes + spread + np.float32([at, -at, 0, 0, 0])).astype(np.float32)


def iou_pairs() -> dict[str, tuple[Array, Array]]:
    """Two sets of as many boxes by name."""
    near, far = random_boxes(1, 40, 5), random_boxes(2, 40, 5, at=500.0)
    return {
        "degenerate": degenerate_boxes(),
        "random": (near, near[::-1].copy()),
        "far away": (far, far[::-1].copy()),
    }


def corners(boxes: Array) -> Array:
    """``(x1, y1, x2, y2)`` of boxes ``(x, y, w, h, angle)`` whose angle is left out."""
    half = boxes[:, 2:4] * np.float32(0.5)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


@dataclass(frozen=True)
class SuppressionCase:
    """Boxes (N, 5), scores (N,), labels (N,) or None."""

    boxes: Array
    scores: Array
    labels: Array | None = None


def suppression_cases() -> dict[str, SuppressionCase]:
    """Boxes by name."""
    rng = np.random.default_rng(8)
    num = 300
    boxes = random_boxes(9, num, 25)
    scores = (rng.permutation(4096)[:num] / 4096).astype(np.float32)
    coarse = np.floor(scores * 8) / np.float32(8)
    tiny = boxes[:60].copy()
    tiny[::3, 2] = 0.0
    labels = rng.integers(0, 3, num).astype(np.float32)
    return {
        "detections": SuppressionCase(boxes, scores),
        "far away": SuppressionCase(random_boxes(10, num, 25, at=500.0), scores),
        "tied scores": SuppressionCase(boxes, coarse),
        "equal scores": SuppressionCase(boxes, np.ones_like(scores)),
        "labels": SuppressionCase(boxes, scores, labels),
        "each box five times": SuppressionCase(np.repeat(boxes[:60], 5, axis=0), scores),
        "no width": SuppressionCase(tiny, scores[:60]),
        "one": SuppressionCase(boxes[:1], scores[:1]),
    }


def scene_points(record: dict[str, Array]) -> Array:
    """The recorded scene, (P, 3) meters, float32."""
    return (record["scene"] / SCENE_SCALE).astype(np.float32)


def points_and_boxes(scene: Array) -> dict[str, tuple[Array, Array]]:
    """Points (P, 3) and boxes (N, 7) by name."""
    rng = np.random.default_rng(11)
    low, high = [0, -20, -2, 3.5, 1.5, 1.4, -3], [40, 20, 0, 4.5, 2, 2, 3]
    boxes = exact_uniform(rng, low, high, 30)
    points = exact_uniform(rng, [0, -20, -2], [40, 20, 2], 3_000)
    unit = np.float32([[4, 2, -1, 4, 2, 1.5, 0]])
    faces = np.float32(np.stack(np.meshgrid([1.9, 2, 4, 6, 6.1], [1, 2, 3], [-1, 0, 0.5, 0.6]), -1))
    none = np.float32([[4, 2, -1, 0, 2, 1.5, 0], [4, 2, -1, 4, 2, 0, 0.5]])
    return {
        "random": (points, boxes),
        "faces": (faces.reshape(-1, 3), unit),
        "no size": (faces.reshape(-1, 3), none),
        "no boxes": (points[:50], boxes[:0]),
        "simulated": (scene, boxes),
    }


@dataclass(frozen=True)
class DeformCase:
    """A deformable convolution in float64: maps, offsets, kernels, gradient of the output."""

    maps: Array
    offsets: Array
    kernels: Array
    grad: Array
    stride: int
    padding: int
    dilation: int
    groups: int
    offset_groups: int


def deform_cases() -> dict[str, DeformCase]:
    """Convolutions by name; those of whole offsets read at the kinks of the interpolation."""
    rng = np.random.default_rng(12)

    def uniform(*shape: int, bits: int = 8, reach: int = 2) -> Array:
        scale = 1 << bits
        return rng.integers(-reach * scale, reach * scale + 1, shape) / scale

    cases = {}
    for name, channels, outputs, size, kernel, stride, padding, dilation, groups, sharing, bits in (
        ("plain", 4, 6, (9, 7), 3, 1, 1, 1, 1, 1, 8),
        ("groups and strides", 8, 4, (9, 7), 3, 2, 1, 2, 2, 2, 8),
        ("one by one", 4, 4, (5, 6), 1, 1, 0, 1, 1, 4, 8),
        ("whole offsets", 4, 4, (8, 8), 3, 1, 1, 1, 1, 2, 0),
    ):
        reach = dilation * (kernel - 1) + 1
        rows, columns = ((n + 2 * padding - reach) // stride + 1 for n in size)
        cases[name] = DeformCase(
            uniform(2, channels, *size),
            uniform(2, sharing * 2 * kernel**2, rows, columns, bits=bits, reach=3),
            uniform(outputs, channels // groups, kernel, kernel),
            uniform(2, outputs, rows, columns),
            *(stride, padding, dilation, groups, sharing),
        )
    return cases
