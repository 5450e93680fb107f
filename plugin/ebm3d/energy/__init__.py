"""Networks on pooled features, bound to scenes as callables of boxes; what normalizes exp f."""

from ebm3d.energy.bound_network import BoundNetwork
from ebm3d.energy.bound_proposal import BoundProposal
from ebm3d.energy.box_energy import BoxEnergy
from ebm3d.energy.learned_proposal import LearnedProposal
from ebm3d.energy.log_density import LogDensity
from ebm3d.energy.network import EnergyNetwork, RegressionNetwork
from ebm3d.energy.normalized_energy import NormalizedEnergy
from ebm3d.energy.paper2020_network import Paper2020EnergyNetwork
from ebm3d.energy.posterior import ImportanceSamples, sample_posterior
from ebm3d.energy.uncertainty import energy_distribution

__all__ = [
    "BoundNetwork",
    "BoundProposal",
    "BoxEnergy",
    "EnergyNetwork",
    "ImportanceSamples",
    "LearnedProposal",
    "LogDensity",
    "NormalizedEnergy",
    "Paper2020EnergyNetwork",
    "RegressionNetwork",
    "energy_distribution",
    "sample_posterior",
]
