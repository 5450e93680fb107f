"""The numbers that scenes are drawn from, derived from KITTI's labels.

``statistics.json`` is written by ``tools/derive_simulation_statistics.py`` and holds means,
covariances, quantiles and shares only.
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
    """Objects of one class that move, or are parked, in one sense of the road.

    Attributes:
        share: of the class.
        lateral: quantiles of the position to the left of the sensor, meters.
        heading_std: standard deviation about the road's axis, radians; ``None`` for objects that
            do not follow the road, whose heading is uniform.
    """

    share: float
    lateral: FloatArray
    heading_std: float | None


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """How many objects of a class there are in a frame, how large they are and where.

    Attributes:
        count_shares: share of frames with 0, 1, 2, ... labels.
        log_size_mean: mean of the logarithms of length, width, height (meters), shape ``(3,)``.
        log_size_covariance: their covariance, shape ``(3, 3)``.
        size_limits: smallest and largest length, width, height, shape ``(2, 3)``, meters.
        forward: quantiles of the distance along the viewing direction, meters.
        flows: by the names "with", "against" and "other", in the sense of the own lane.
    """

    count_shares: FloatArray
    log_size_mean: FloatArray
    log_size_covariance: FloatArray
    size_limits: FloatArray
    forward: FloatArray
    flows: dict[str, Flow]


@dataclass(frozen=True, eq=False)
class Statistics:
    """All numbers.

    Attributes:
        levels: at which all quantiles are given.
        camera: ``focal``, ``center_u``, ``center_v``, ``p2_offset`` in pixels (times meters), and
            the position ``x``, ``y``, ``z`` of camera 0 in the LiDAR frame, meters.
        classes: by name.
    """

    levels: FloatArray
    camera: dict[str, float]
    classes: dict[str, ClassStatistics]


@cache
def load_statistics() -> Statistics:
    """Read the numbers that ship with the package."""
    text = (files("ebm3d.simulation") / "statistics.json").read_text(encoding="utf-8")
    data = json.loads(text)
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
