"""Refinement of any detector's boxes by an energy on points alone: no map, no config, no host."""

from ebm3d.refinement.energy_file import EnergyFile, load_energy, save_energy, shipped_energy
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, RefinedFrame
from ebm3d.refinement.training import TrainingFrame, train_energy
from ebm3d.refinement.trust import Trust
from ebm3d.refinement.trust_fit import fit_trust

__all__ = [
    "BoxRefiner",
    "DetectedFrame",
    "EnergyFile",
    "EnergySettings",
    "PointsEnergy",
    "RefinedFrame",
    "TrainingFrame",
    "Trust",
    "fit_trust",
    "load_energy",
    "save_energy",
    "shipped_energy",
    "train_energy",
]
