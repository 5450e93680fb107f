"""Noise contrastive estimation in its ranking form: NCE, NCE+, conditional NCE.

Every method logs ``rank_first``, whether the positive is ranked before all its noise samples by
``f - log_q``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ebm3d.errors import check_count, check_positive, input_error, shape_error
from ebm3d.losses.training import NoiseAround, Samples, TrainingLoss
from ebm3d.refiners.scorers import Scorer
from ebm3d.registry import register


def nce_loss(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Negative log probability of telling the true box from its noise samples.

    .. math::
        L_i = -\Big[(f(y_i) - \log q(y_i)) -
        \log\sum_{m=0}^{M} \exp\{f(\tilde y_{im}) - \log q(\tilde y_{im})\}\Big],
        \quad \tilde y_{i0} = y_i

    Source: Gustafsson et al., "Accurate 3D Object Detection using Energy-Based Models", 2020, and
    "How to Train Your Energy-Based Model for Regression", BMVC 2020. docs/method.md, M-3.
    f and log q ``(..., M + 1)``, with the true box at index 0; returns ``(...)``, nats.
    """
    if f.shape != log_q.shape:
        raise shape_error("log_q", f"{tuple(f.shape)} like f", log_q)
    if f.ndim == 0 or f.shape[-1] < 2:
        raise shape_error("f", "(..., M + 1) with M >= 1 noise samples", f)
    logits = f - log_q
    return torch.logsumexp(logits, dim=-1) - logits[..., 0]


@register
class NCELoss:
    """Trains f by :func:`nce_loss` with M = ``num_noise_samples`` per true box."""

    is_density, returns_samples = True, True

    def __init__(self, num_noise_samples: int = 128) -> None:
        check_count("num_noise_samples", num_noise_samples)
        self.num_noise_samples = num_noise_samples

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        return _contrast(f, noise.sample(self.num_noise_samples))


@register
class NCEPlusLoss(NCELoss):
    r"""Trains f by :func:`nce_loss` with a perturbed true box (NCE+).

    .. math:: \tilde y_{i0} = y_i + \nu_i, \quad \nu_i \sim q_\beta

    where :math:`q_\beta` is the noise made narrower. Source: Gustafsson et al., "How to Train Your
    Energy-Based Model for Regression", BMVC 2020, for labels that are not exact. docs/method.md,
    M-21.

    Args:
        beta: how narrow, positive; published are 0.1 (detection in images) and 0.025 (toy).
        beta_scales: what beta multiplies: "std", the standard deviations of the noise, as the
            published code does; or "variance", their squares, as the authors' slides have it.
        num_noise_samples: M per true box.
    """

    def __init__(
        self, beta: float = 0.1, beta_scales: str = "std", num_noise_samples: int = 128
    ) -> None:
        super().__init__(num_noise_samples)
        check_positive("beta", beta)
        if beta_scales not in ("std", "variance"):
            raise input_error("beta_scales", "'std' or 'variance'", repr(beta_scales))
        self.factor = beta if beta_scales == "std" else math.sqrt(beta)

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        positive = noise.scale_std(self.factor).sample(1).boxes[:, 1:]
        drawn = noise.sample(self.num_noise_samples)
        boxes = torch.cat((positive, drawn.boxes[:, 1:]), dim=1)
        log_q = torch.cat((noise.log_prob(positive), drawn.log_q[:, 1:]), dim=1)
        return _contrast(f, _Samples(boxes, log_q))


@register
class ConditionalNCELoss(NCELoss):
    r"""Trains f by :func:`nce_loss` with noise around a noisy box r, not around the true one.

    .. math::
        r \sim q(\cdot\,|\,y), \quad \tilde y_1, \ldots, \tilde y_M \sim q(\cdot\,|\,r), \qquad
        L = -\log \frac{e^{f(y)}\, q(r\,|\,y) / q(y\,|\,r)}
        {\sum_{m=0}^{M} e^{f(\tilde y_m)}\, q(r\,|\,\tilde y_m) / q(\tilde y_m\,|\,r)},
        \quad \tilde y_0 = y

    By Bayes' rule the probability that each of the M + 1 boxes is the true one; the expected
    gradient vanishes at f = log p for any M, which that of :class:`NCELoss` does not where the
    noise lies around the true box. Source: Ceylan and Gutmann, "Conditional Noise-Contrastive
    Estimation of Unnormalised Models", ICML 2018, for pairs. Deviation: the ranking of M + 1 with
    one r. docs/method.md, M-33. A learned proposal does not enter: its density of r is not known.
    """

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        around_true = noise.scale_std(1.0)
        around = around_true.with_centers(around_true.sample(1).boxes[:, 1])
        drawn = around.sample(self.num_noise_samples).boxes[:, 1:]
        boxes = torch.cat((noise.boxes[:, None], drawn), dim=1)
        log_q = around.log_prob(boxes)
        loss = _contrast(f, _Samples(boxes, log_q - around.log_prob_around(boxes)))
        return replace(loss, samples=_Samples(boxes, log_q))


class _Samples(NamedTuple):
    """:class:`Samples` whose first is not the true box, or whose density is not the noise's."""

    boxes: Tensor
    log_q: Tensor


def _contrast(f: Scorer, samples: Samples) -> TrainingLoss:
    """The loss of samples whose positive is at index 0."""
    values = f(samples.boxes)
    first = ((values - samples.log_q).argmax(dim=1) == 0).to(values.dtype)
    loss = nce_loss(values, samples.log_q)
    return TrainingLoss(loss, {"rank_first": first}, samples, values.detach())
