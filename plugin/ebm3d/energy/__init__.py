"""Networks on pooled features, and scenes bound to them as callables of boxes."""

from ebm3d.energy.bound_network import BoundNetwork
from ebm3d.energy.box_energy import BoxEnergy
from ebm3d.energy.learned_proposal import BoundProposal, LearnedProposal
from ebm3d.energy.network import EnergyNetwork, Paper2020EnergyNetwork, RegressionNetwork
from ebm3d.energy.posterior import EnergyPosterior, sample_posterior

__all__ = [
    "BoundNetwork",
    "BoundProposal",
    "BoxEnergy",
    "EnergyNetwork",
    "EnergyPosterior",
    "LearnedProposal",
    "Paper2020EnergyNetwork",
    "RegressionNetwork",
    "sample_posterior",
]
