"""Surface materials: what a laser pulse meets."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Material = IntEnum(
    "Material",
    "BODY GLASS TIRE INTERIOR ASPHALT VERGE CONCRETE BRICK METAL BARK LEAVES HEDGE SKIN SPOKES",
    start=0,
)
# Reflectance at 905 nm (BODY: that of the object), roughness (0: mirror-like, the echo fades with
# the cosine of incidence; 1: the echo does not depend on it), mean free path of a pulse inside in
# meters (0: an opaque surface). Plausible orders of magnitude, tuned by eye against intensities
# and point counts of real clouds (docs/simulation.md).
OPTICS: NDArray[np.float64] = np.array(
    [
        [0.30, 0.15, 0.0],  # BODY
        [0.25, 0.05, 0.0],  # GLASS
        [0.05, 0.40, 0.0],  # TIRE
        [0.12, 0.40, 0.0],  # INTERIOR
        [0.24, 0.20, 0.0],  # ASPHALT
        [0.38, 0.20, 0.0],  # VERGE
        [0.35, 0.30, 0.0],  # CONCRETE
        [0.30, 0.30, 0.0],  # BRICK
        [0.30, 0.25, 0.0],  # METAL
        [0.25, 0.50, 0.0],  # BARK
        [0.42, 0.80, 0.9],  # LEAVES
        [0.40, 0.80, 0.25],  # HEDGE
        [0.45, 0.50, 0.0],  # SKIN
        [0.20, 0.60, 0.05],  # SPOKES
    ]
)
REFLECTANCE, ROUGHNESS, MEAN_FREE_PATH = 0, 1, 2
