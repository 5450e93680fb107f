"""Training methods: a function each, in log space, per element, no reduction; and its class.

Shapes that do not fit and constants out of range raise ``ValueError``.
"""

from ebm3d.losses.confidence import ConfidenceLoss, confidence_loss
from ebm3d.losses.importance_sampling import (
    KLDISLoss,
    MLISLoss,
    kldis_loss,
    log_normalizer,
    mlis_loss,
    proposal_loss,
)
from ebm3d.losses.label_encoding import (
    bit_cross_entropy,
    code_distance_penalty,
    code_smoothness_penalty,
    soft_cross_entropy,
)
from ebm3d.losses.maximum_likelihood import MLMCMCLoss, mcmc_loss
from ebm3d.losses.nce import ConditionalNCELoss, NCELoss, NCEPlusLoss, nce_loss
from ebm3d.losses.propel import propel_loss
from ebm3d.losses.residuals import (
    gaussian_nll,
    l1_loss,
    l2_loss,
    laplace_nll,
    smooth_l1_loss,
)
from ebm3d.losses.score_matching import (
    DSMLoss,
    ScoreMatchingLoss,
    dsm_loss,
    gradient_of,
    score_matching_loss,
    sliced_score_matching_loss,
)
from ebm3d.losses.snl import SNLLoss, snl_loss
from ebm3d.losses.training import TrainingLoss

__all__ = [
    "ConditionalNCELoss",
    "ConfidenceLoss",
    "DSMLoss",
    "KLDISLoss",
    "MLISLoss",
    "MLMCMCLoss",
    "NCELoss",
    "NCEPlusLoss",
    "SNLLoss",
    "ScoreMatchingLoss",
    "TrainingLoss",
    "bit_cross_entropy",
    "code_distance_penalty",
    "code_smoothness_penalty",
    "confidence_loss",
    "dsm_loss",
    "gaussian_nll",
    "gradient_of",
    "kldis_loss",
    "l1_loss",
    "l2_loss",
    "laplace_nll",
    "log_normalizer",
    "mcmc_loss",
    "mlis_loss",
    "nce_loss",
    "propel_loss",
    "proposal_loss",
    "score_matching_loss",
    "sliced_score_matching_loss",
    "smooth_l1_loss",
    "snl_loss",
    "soft_cross_entropy",
]
