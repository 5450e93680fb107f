"""Simulated LiDAR: street scenes, ray-cast sweeps, data sets in the KITTI layout."""

from __future__ import annotations

from ebm3d.simulation.dataset import write_dataset
from ebm3d.simulation.frame import Frame, simulate_frame
from ebm3d.simulation.sensors import SENSORS, Sensor

__all__ = ["SENSORS", "Frame", "Sensor", "simulate_frame", "write_dataset"]
