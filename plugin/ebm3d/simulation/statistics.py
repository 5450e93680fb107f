"""The numbers that scenes are drawn from, of KITTI's labels.

``tools/derive_simulation_statistics.py`` writes ``statistics.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist")


@dataclass(frozen=True, eq=False)
class Flow:
    """Objects of one class that drive, or are parked, in one direction of the road."""

    share: float  # of the class
    lateral: FloatArray  # quantiles of the position to the left of the sensor, meters
    heading_std: float | None  # about the road's axis, radians; None: heads across the road


@dataclass(frozen=True, eq=False)
class SizeStatistics:
    """How large objects of a class are."""

    log_size_mean: FloatArray  # (3,), of log length, width, height in meters
    log_size_covariance: FloatArray  # (3, 3)
    size_limits: FloatArray  # (2, 3), smallest and largest length, width, height


@dataclass(frozen=True, eq=False)
class ClassStatistics(SizeStatistics):
    """How many objects of a class there are in a frame, how large they are and where."""

    count_shares: FloatArray  # share of frames with 0, 1, 2, ... labels
    forward: FloatArray  # quantiles of the distance along the viewing direction, meters
    flows: dict[str, Flow]  # "with" the ego lane, "against" it, "other"


@dataclass(frozen=True, eq=False)
class Statistics:
    """All numbers."""

    levels: FloatArray  # of all quantiles
    camera: dict[str, float]  # see ``camera``: pixels, meters, LiDAR frame
    classes: dict[str, ClassStatistics]


@cache
def load_statistics() -> Statistics:
    """Read the numbers that ship with the package."""
    data = json.loads((files("ebm3d.simulation") / "statistics.json").read_text(encoding="utf-8"))
    classes = {}
    for name in CLASSES:
        numbers = data["classes"][name]
        flows = {
            key: Flow(flow["share"], np.array(flow["lateral_quantiles"]), flow.get("heading_std"))
            for key, flow in numbers["flows"].items()
        }
        classes[name] = ClassStatistics(
            count_shares=np.array(numbers["count_shares"]) / sum(numbers["count_shares"]),
            log_size_mean=np.array(numbers["log_size_mean"]),
            log_size_covariance=np.array(numbers["log_size_covariance"]),
            size_limits=np.array([numbers["size_minimum"], numbers["size_maximum"]]),
            forward=np.array(numbers["forward_quantiles"]),
            flows=flows,
        )
    return Statistics(np.array(data["quantile_levels"]), data["camera"], classes)
