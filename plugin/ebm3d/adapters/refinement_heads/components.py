"""The core's classes under their own names in the host's registry."""

from __future__ import annotations

from mmdet3d.registry import MODELS

from ebm3d.energy import EnergyNetwork, Paper2020EnergyNetwork, RegressionNetwork
from ebm3d.losses import ConfidenceLoss, NCELoss
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool
from ebm3d.refiners import GradientAscent
from ebm3d.regressions import (
    BELBoxRegression,
    BinnedBoxRegression,
    DirectBoxRegression,
    GaussianBoxRegression,
    LaplaceBoxRegression,
    PROPELBoxRegression,
    RLELBoxRegression,
)

COMPONENTS = (
    BEVGridPool,
    PointBoxPool,
    EnergyNetwork,
    Paper2020EnergyNetwork,
    RegressionNetwork,
    BoxNoise,
    NCELoss,
    ConfidenceLoss,
    GradientAscent,
    DirectBoxRegression,
    GaussianBoxRegression,
    LaplaceBoxRegression,
    PROPELBoxRegression,
    RLELBoxRegression,
    BELBoxRegression,
    BinnedBoxRegression,
)

for component in COMPONENTS:
    MODELS.register_module(module=component)
