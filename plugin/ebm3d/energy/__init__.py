"""The energy: a network on pooled features, and scenes bound to it as a callable."""

from ebm3d.energy.box_energy import BoxEnergy
from ebm3d.energy.network import EnergyNetwork, Paper2020EnergyNetwork

__all__ = ["BoxEnergy", "EnergyNetwork", "Paper2020EnergyNetwork"]
