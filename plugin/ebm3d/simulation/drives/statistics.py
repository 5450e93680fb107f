"""The numbers that drives are drawn from, of nuScenes' annotations.

``tools/derive_drive_statistics.py`` writes ``statistics.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.simulation.statistics import FloatArray, SizeStatistics


@dataclass(frozen=True, eq=False)
class DriveStatistics(SizeStatistics):
    """How many objects of a class there are in a key frame, how large and how fast they are."""

    per_frame: float  # annotations
    moving_share: float
    speed: FloatArray  # quantiles of those that move, m/s


@cache
def load_drive_statistics() -> dict[str, DriveStatistics]:
    """Read the numbers that ship with the package, by class."""
    path = files("ebm3d.simulation.drives") / "statistics.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: DriveStatistics(
            log_size_mean=np.array(data[name]["log_size_mean"]),
            log_size_covariance=np.array(data[name]["log_size_covariance"]),
            size_limits=np.array([data[name]["size_minimum"], data[name]["size_maximum"]]),
            per_frame=data[name]["per_frame"],
            moving_share=data[name]["moving_share"],
            speed=np.array(data[name]["speed_quantiles"]),
        )
        for name in CLASSES
    }
