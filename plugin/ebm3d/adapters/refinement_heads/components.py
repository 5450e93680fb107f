"""The core's classes under their own names in the host's registry."""

from __future__ import annotations

from mmdet3d.registry import MODELS

from ebm3d.energy import EnergyNetwork, Paper2020EnergyNetwork
from ebm3d.losses import NCELoss
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool
from ebm3d.refiners import GradientAscent

COMPONENTS = (
    BEVGridPool,
    PointBoxPool,
    EnergyNetwork,
    Paper2020EnergyNetwork,
    BoxNoise,
    NCELoss,
    GradientAscent,
)

for component in COMPONENTS:
    MODELS.register_module(module=component)
