"""Training methods: one function each, per element, in log space, no reduction."""

from ebm3d.losses.confidence import ConfidenceLoss, confidence_loss
from ebm3d.losses.direct import l1_loss, l2_loss, smooth_l1_loss
from ebm3d.losses.gaussian import gaussian_nll
from ebm3d.losses.label_encoding import (
    bit_cross_entropy,
    code_distance_penalty,
    code_smoothness_penalty,
    soft_cross_entropy,
)
from ebm3d.losses.laplace import laplace_nll
from ebm3d.losses.nce import NCELoss, nce_loss
from ebm3d.losses.propel import propel_loss
from ebm3d.losses.training import TrainingLoss

__all__ = [
    "ConfidenceLoss",
    "NCELoss",
    "TrainingLoss",
    "bit_cross_entropy",
    "code_distance_penalty",
    "code_smoothness_penalty",
    "confidence_loss",
    "gaussian_nll",
    "l1_loss",
    "l2_loss",
    "laplace_nll",
    "nce_loss",
    "propel_loss",
    "smooth_l1_loss",
    "soft_cross_entropy",
]
