"""Rotated IoU in rational arithmetic: slow, and exact but for sine and cosine to 40 digits.

Clips one polygon by the half planes of the other (Sutherland and Hodgman) with Python fractions.
Nothing is shared with the package, which integrates edges in float64 instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import mpmath

Point = tuple[Fraction, Fraction]

_DIGITS = 40


def rational_iou(box: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """IoU of outlines and of volumes of two boxes ``(x, y, ..., yaw)``, each rounded once."""
    first = [Fraction(float(value)) for value in box]
    second = [Fraction(float(value)) for value in other]
    common = _area(_clip(_corners(first), _corners(second)))
    area, other_area = first[3] * first[4], second[3] * second[4]
    top = min(first[2] + first[5], second[2] + second[5])
    shared = common * max(top - max(first[2], second[2]), Fraction(0))
    union = area + other_area - common
    total = area * first[5] + other_area * second[5] - shared
    return float(common / union) if union else 0.0, float(shared / total) if total else 0.0


def _corners(box: Sequence[Fraction]) -> list[Point]:
    """Counter-clockwise corners."""
    with mpmath.workdps(_DIGITS):
        yaw = mpmath.mpf(box[6].numerator) / box[6].denominator
        cos, sin = _fraction(mpmath.cos(yaw)), _fraction(mpmath.sin(yaw))
    corners = []
    for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        u, v = box[3] * along / 2, box[4] * across / 2
        corners.append((box[0] + cos * u - sin * v, box[1] + sin * u + cos * v))
    return corners


def _fraction(value: mpmath.mpf) -> Fraction:
    """The exact value of an mpmath number."""
    sign, mantissa, exponent, _ = value._mpf_
    magnitude = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -magnitude if sign else magnitude


def _clip(polygon: list[Point], window: list[Point]) -> list[Point]:
    """The part of a convex polygon inside another, both counter-clockwise."""
    for (ax, ay), (bx, by) in zip(window, [*window[1:], window[0]], strict=True):
        sides = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in polygon]
        kept: list[Point] = []
        for i, ((x, y), side) in enumerate(zip(polygon, sides, strict=True)):
            next_x, next_y = polygon[(i + 1) % len(polygon)]
            next_side = sides[(i + 1) % len(polygon)]
            if side >= 0:
                kept.append((x, y))
            if (side > 0 > next_side) or (side < 0 < next_side):
                t = side / (side - next_side)
                kept.append((x + t * (next_x - x), y + t * (next_y - y)))
        polygon = kept
    return polygon


def _area(polygon: list[Point]) -> Fraction:
    """Area of a polygon, counter-clockwise."""
    doubled = Fraction(0)
    for (x, y), (next_x, next_y) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        doubled += x * next_y - next_x * y
    return doubled / 2
