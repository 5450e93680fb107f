"""Noise contrastive estimation in its ranking form."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import shape_error
from ebm3d.losses.training import BatchScorer, Contrast, TrainingLoss


def nce_loss(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Negative log probability of telling the true box from its noise samples.

    .. math::
        L_i = -\Big[(f(y_i) - \log q(y_i)) -
        \log\sum_{m=0}^{M} \exp\{f(\tilde y_{im}) - \log q(\tilde y_{im})\}\Big],
        \quad \tilde y_{i0} = y_i

    Source: Gustafsson et al., "Accurate 3D Object Detection using Energy-Based Models", 2020, and
    "How to Train Your Energy-Based Model for Regression", BMVC 2020. docs/method.md, M-3.
    Computed in log space throughout; the densities of the noise may underflow, the loss does not.

    Args:
        f: unnormalized log densities, shape ``(..., M + 1)``; index 0 belongs to the true box.
        log_q: log densities of the noise at the same boxes, shape ``(..., M + 1)``, nats.

    Returns:
        Loss per true box, shape ``(...)``, nats; no reduction. ``log(M + 1)`` where ``f - log_q``
        is constant. Differentiable in both arguments.

    Raises:
        ValueError: if the shapes differ or there is no noise sample.
    """
    if f.shape != log_q.shape:
        raise shape_error("log_q", f"{tuple(f.shape)} like f", log_q)
    if f.ndim == 0 or f.shape[-1] < 2:
        raise shape_error("f", "(..., M + 1) with M >= 1 noise samples", f)
    logits = f - log_q
    return torch.logsumexp(logits, dim=-1) - logits[..., 0]


class NCELoss:
    """Trains f by :func:`nce_loss`; for a config, it has no constants.

    Attributes:
        is_density: f becomes an unnormalized log density.
    """

    is_density = True

    def __call__(self, f: BatchScorer, samples: Contrast) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones.
            samples: true boxes and noise around them.

        Returns:
            Loss per true box; logs ``rank_first``, whether the true box is ranked before all its
            noise samples by ``f - log_q``.
        """
        values = f(samples.boxes)
        first = ((values - samples.log_q).argmax(dim=1) == 0).to(values.dtype)
        return TrainingLoss(nce_loss(values, samples.log_q), {"rank_first": first})
