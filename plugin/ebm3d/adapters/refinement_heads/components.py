"""The core's classes under their own names in the host's registry."""

from __future__ import annotations

from mmdet3d.registry import MODELS

from ebm3d.energy import (
    EnergyNetwork,
    LearnedProposal,
    Paper2020EnergyNetwork,
    RegressionNetwork,
)
from ebm3d.losses import (
    ConditionalNCELoss,
    ConfidenceLoss,
    DSMLoss,
    KLDISLoss,
    MLISLoss,
    MLMCMCLoss,
    NCELoss,
    NCEPlusLoss,
    ScoreMatchingLoss,
    SNLLoss,
)
from ebm3d.noise import BoxNoise, DetectionNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool
from ebm3d.refiners import GradientAscent, MultiStart, QuasiNewtonAscent
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
    DetectionNoise,
    LearnedProposal,
    NCELoss,
    ConditionalNCELoss,
    NCEPlusLoss,
    MLISLoss,
    KLDISLoss,
    MLMCMCLoss,
    ScoreMatchingLoss,
    DSMLoss,
    SNLLoss,
    ConfidenceLoss,
    GradientAscent,
    QuasiNewtonAscent,
    MultiStart,
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
