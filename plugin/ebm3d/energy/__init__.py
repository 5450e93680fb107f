"""Networks on pooled features, and scenes bound to them as callables of boxes."""

from ebm3d.energy.bound_network import BoundNetwork
from ebm3d.energy.box_energy import BoxEnergy
from ebm3d.energy.network import EnergyNetwork, Paper2020EnergyNetwork, RegressionNetwork

__all__ = [
    "BoundNetwork",
    "BoxEnergy",
    "EnergyNetwork",
    "Paper2020EnergyNetwork",
    "RegressionNetwork",
]
