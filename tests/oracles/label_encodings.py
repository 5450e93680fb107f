"""Label encodings written out: loops over boxes, residuals, bits and levels, and Python numbers.

Transcribed from the formulas of BEL (ICLR 2022) and RLEL (ICLR 2023), not from the package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def label(t: float, lower: float, upper: float, num_levels: int) -> float:
    """The label of a residual, in levels, not rounded."""
    y = (t - lower) / (upper - lower) * (num_levels - 1)
    return min(max(y, 0.0), float(num_levels - 1))


def _normalized(weights: Sequence[float]) -> list[float]:
    return [w / sum(weights) for w in weights]


def laplace_labels(y: float, num_levels: int, width: float = 1.0) -> list[float]:
    """phi_j proportional to exp(-|j - y| / w)."""
    return _normalized([math.exp(-abs(j - y) / width) for j in range(num_levels)])


def gaussian_labels(y: float, num_levels: int, width: float = 1.0) -> list[float]:
    """phi_j proportional to exp(-(j - y)^2 / (2 w^2))."""
    return _normalized([math.exp(-((j - y) ** 2) / (2 * width**2)) for j in range(num_levels)])


def linear_labels(y: float, num_levels: int, width: float = 1.0) -> list[float]:
    """The two levels around y, each by the distance from the other."""
    del width
    phi = [0.0] * num_levels
    below = min(math.floor(y), num_levels - 2)
    phi[below] += below + 1 - y
    phi[below + 1] += y - below
    return phi


SOFT_LABELS = {"laplace": laplace_labels, "gaussian": gaussian_labels, "linear": linear_labels}


def correlation(z: Sequence[float], rows: Sequence[Sequence[float]]) -> list[float]:
    """The inner products of one vector with rows."""
    return [sum(a * b for a, b in zip(z, row, strict=True)) for row in rows]


def softmax(scores: Sequence[float]) -> list[float]:
    """Exponentials over their sum."""
    return _normalized([math.exp(c - max(scores)) for c in scores])


def cross_entropy(phi: Sequence[float], scores: Sequence[float]) -> float:
    """-sum of phi log softmax."""
    return -sum(p * math.log(q) for p, q in zip(phi, softmax(scores), strict=True) if p > 0)


def bit_cross_entropy(z: Sequence[float], bits: Sequence[float]) -> float:
    """-sum over the bits of b log sigmoid(z) + (1 - b) log sigmoid(-z)."""
    return sum(
        b * math.log(1 + math.exp(-x)) + (1 - b) * math.log(1 + math.exp(x))
        for x, b in zip(z, bits, strict=True)
    )


def distance_penalty(codes: Sequence[Sequence[float]], labels: Sequence[float]) -> float:
    """R1 of one residual: the labels of two boxes, and the L1 distance of their codes."""
    total = 0.0
    for i in range(len(codes)):
        for j in range(len(codes)):
            distance = sum(abs(a - b) for a, b in zip(codes[i], codes[j], strict=True))
            total += max(0.0, 2 * abs(labels[i] - labels[j]) - distance)
    return total / len(codes)


def smoothness_penalty(codebook: Sequence[Sequence[float]], power: int) -> float:
    """R2 of one residual's codebook, bits by levels."""
    return sum(abs(bit[j] - bit[j + 1]) ** power for bit in codebook for j in range(len(bit) - 1))
