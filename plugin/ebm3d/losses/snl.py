"""Self-normalized likelihood: the log normalizer is learned beside f."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import check_count, input_error, shape_error
from ebm3d.losses.importance_sampling import effective_share
from ebm3d.losses.importance_sampling import log_normalizer as sampled_log_normalizer
from ebm3d.losses.training import FeatureScorer, NoiseAround, TrainingLoss
from ebm3d.registry import register

# Nats beyond which the exponential goes on as its tangent. A larger bound would leave Adam's second
# moments with gradients of e^10 and more from the first steps, and its steps small for thousands.
_TANGENT_FROM = 5.0


def snl_loss(f_true: Tensor, f: Tensor, log_q: Tensor, log_normalizer: Tensor) -> Tensor:
    r"""Negative self-normalized log-likelihood (SNL).

    .. math:: L = b - f(y) + \frac1M\sum_{m=1}^{M}
        \frac{e^{f(\tilde y_m) - b}}{q(\tilde y_m)} - 1, \quad \tilde y_m \sim q

    Source: "Self-normalized log-likelihood for energy-based models", arXiv 2503.07021.
    docs/method.md, M-25. Its expectation is never below the negative log-likelihood, and equal to
    it at b = log Z; its gradient is unbiased for any M. Deviation: where the sampled log Z exceeds
    b by more than 5 nats, the exponential goes on as its tangent there.

    Arguments as for :func:`ebm3d.losses.mlis_loss`; ``log_normalizer`` is b, ``(...)``.
    """
    sampled = sampled_log_normalizer(f, log_q)
    for name, value in (("f_true", f_true), ("log_normalizer", log_normalizer)):
        if value.shape != sampled.shape:
            expected = f"{tuple(sampled.shape)}, like f without its samples"
            raise shape_error(name, expected, value)
    # logsumexp and exp: a mean of exponentials, none of which overflows.
    excess = sampled - log_normalizer
    near = torch.exp(excess.clamp_max(_TANGENT_FROM))
    ratio = near + math.exp(_TANGENT_FROM) * torch.relu(excess - _TANGENT_FROM)
    return log_normalizer - f_true + ratio - 1


@register
class SNLLoss(nn.Module):
    r"""Trains f and its log normalizer b by :func:`snl_loss`; f - b is a normalized log density.

    b is a small network g on the pooled features of a noisy (or detected) box :math:`y'`, its log
    sizes and the log scales :math:`\sigma` of the noise there (seven also of boxes with velocities,
    whose scales enter by the volume),

    .. math:: b = g(\phi(y'), \log d', \log\sigma) + \tfrac D2 \log 2\pi
        + \log\left|\det\frac{\partial y}{\partial t}\right|_{y'}

    g starts at zero; no gradient flows from b into the features. docs/method.md, M-25. Logs
    ``effective_share`` of the samples, and ``normalizer_error``, the distance of b from the sampled
    log normalizer in nats.

    Args:
        in_channels: length of the pooled features.
        num_noise_samples: M per true box.
        hidden_channels: widths of the hidden layers of g.
    """

    is_density, returns_samples = True, True

    def __init__(
        self,
        in_channels: int,
        num_noise_samples: int = 128,
        hidden_channels: Sequence[int] = (128,),
    ) -> None:
        super().__init__()
        check_count("num_noise_samples", num_noise_samples)
        check_count("in_channels", in_channels)
        self.num_noise_samples = num_noise_samples
        if not isinstance(hidden_channels, list | tuple):
            raise input_error("hidden_channels", "a list of widths", repr(hidden_channels))
        widths = [in_channels + 10, *hidden_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            check_count("hidden_channels", next_width)
            layers += [nn.Linear(width, next_width), nn.SiLU()]
        last = nn.Linear(widths[-1], 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)

    def forward(self, f: FeatureScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        samples = noise.sample(self.num_noise_samples)
        values, log_q = f(samples.boxes), samples.log_q[:, 1:]
        b = self.log_normalizer(f, noise.reference, noise.reference_noise_std)
        sampled = sampled_log_normalizer(values[:, 1:].detach(), log_q)
        logged = {
            "effective_share": effective_share(values[:, 1:], log_q),
            "normalizer_error": (b.detach() - sampled).abs(),
        }
        loss = snl_loss(values[:, 0], values[:, 1:], log_q, b)
        return TrainingLoss(loss, logged, samples, values.detach())

    def log_normalizer(self, f: FeatureScorer, reference: Tensor, noise_std: Tensor) -> Tensor:
        """b ``(N,)``, nats in meters, radians and m/s, with a graph to its parameters alone.

        ``reference`` ``(N, D)`` are noisy or detected boxes, ``noise_std`` ``(N, D)`` the standard
        deviations of the noise around them.
        """
        reference, noise_std = reference.detach(), noise_std.detach()
        scales = reference[:, 3:6].log(), noise_std[:, :7].log()
        inputs = (f.pooled(reference[:, None])[:, 0], *scales)
        learned: Tensor = self.network(torch.cat(inputs, dim=1))[:, 0]
        volume = LocalCoding(reference, noise_std).log_volume(reference)
        return learned + volume + reference.shape[1] / 2 * math.log(2 * math.pi)
