"""Surface materials: what a laser pulse meets."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Material(IntEnum):
    """Index of a row of ``OPTICS``."""

    BODY = 0
    GLASS = 1
    TIRE = 2
    INTERIOR = 3
    ASPHALT = 4
    VERGE = 5
    CONCRETE = 6
    BRICK = 7
    METAL = 8
    BARK = 9
    LEAVES = 10
    HEDGE = 11
    SKIN = 12
    SPOKES = 13


# Columns: reflectance at 905 nm (BODY: that of the object), roughness (0: mirror-like, the echo
# fades with the cosine of incidence; 1: the echo does not depend on it), mean free path of a pulse
# inside in meters (0: an opaque surface). Plausible orders of magnitude, tuned by eye against
# intensities and point counts of real clouds (docs/simulation.md).
OPTICS: NDArray[np.float64] = np.array(
    [
        [0.30, 0.15, 0.0],
        [0.25, 0.05, 0.0],
        [0.05, 0.40, 0.0],
        [0.12, 0.40, 0.0],
        [0.24, 0.20, 0.0],
        [0.38, 0.20, 0.0],
        [0.35, 0.30, 0.0],
        [0.30, 0.30, 0.0],
        [0.30, 0.25, 0.0],
        [0.25, 0.50, 0.0],
        [0.42, 0.80, 0.9],
        [0.40, 0.80, 0.25],
        [0.45, 0.50, 0.0],
        [0.20, 0.60, 0.05],
    ]
)
REFLECTANCE, ROUGHNESS, MEAN_FREE_PATH = 0, 1, 2
