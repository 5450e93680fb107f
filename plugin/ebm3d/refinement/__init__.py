"""Refinement of any detector's boxes by an energy on points alone: no map, no config, no host."""

from ebm3d.refinement.energy_file import load_energy, shipped_energy
from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, RefinedFrame
from ebm3d.refinement.trust import Trust

__all__ = [
    "BoxRefiner",
    "DetectedFrame",
    "PointsEnergy",
    "RefinedFrame",
    "Trust",
    "load_energy",
    "shipped_energy",
]
