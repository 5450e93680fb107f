"""A learned proposal around true boxes: its samples, density and loss.

N boxes of D columns; M noise samples and S variants of each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.densities import BoxDistribution
from ebm3d.devices import uniform
from ebm3d.errors import input_error, shape_error
from ebm3d.noise import BoundNoise, NoiseSamples


class BoundProposal:
    r"""The mixture of a learned distribution and base noise around true boxes.

    .. math:: q = (1 - \alpha)\, q_\phi + \alpha\, q_\mathrm{base}(\cdot\,|\,y_i)

    A :class:`ebm3d.losses.training.NoiseAround`; docs/method.md, M-26.

    Args:
        base: noise around the true boxes.
        distribution: :math:`q_\phi`, with a graph to the proposal's parameters.
        base_share: alpha.
        nll_weight: of the true box in the loss.
    """

    def __init__(
        self, base: BoundNoise, distribution: BoxDistribution, base_share: float, nll_weight: float
    ) -> None:
        self.boxes, self.labels, self.generator = base.boxes, base.labels, base.generator
        self.distribution = distribution
        self._base, self._base_share, self._nll_weight = base, base_share, nll_weight

    @property
    def noise_std(self) -> Tensor:
        """``(N, D)``, that of the base noise; see :meth:`ebm3d.noise.BoxNoise.noise_std`."""
        return self._base.noise_std

    @property
    def reference(self) -> Tensor:
        """``(N, D)`` boxes at which the proposal was predicted."""
        return self._base.reference

    @property
    def reference_noise_std(self) -> Tensor:
        """``(N, D)`` :attr:`noise_std` at the reference."""
        return self._base.reference_noise_std

    @torch.no_grad()
    def sample(self, num_samples: int) -> NoiseSamples:
        """Draw M = ``num_samples`` boxes around each true box, without a graph."""
        base = self._base.sample(num_samples).boxes
        learned = self.distribution.sample(num_samples, self.generator)
        is_base = uniform(learned.shape[:2], learned, self.generator) < self._base_share
        drawn = torch.where(is_base[..., None], base[:, 1:], learned)
        boxes = torch.cat((base[:, :1], drawn), dim=1)
        return NoiseSamples(boxes, self.log_prob(boxes))

    @torch.no_grad()
    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log density ``(N, S)`` at boxes ``(N, S, D)``, nats; no graph."""
        learned = self.distribution.log_prob(boxes)
        if self._base_share == 0:
            return learned
        return torch.logaddexp(
            math.log1p(-self._base_share) + learned,
            math.log(self._base_share) + self._base.log_prob(boxes),
        )

    def scale_std(self, factor: float) -> BoundNoise:
        """Return scaled base noise, as the learned part does not lie around the true boxes."""
        return self._base.scale_std(factor)

    def loss(self, samples: NoiseSamples | None, f: Tensor | None) -> Tensor:
        r"""Return the proposal loss, ``(N,)`` nats.

        .. math:: L_\phi = -\sum_{m=1}^{M} w_m \log q_\phi(\tilde y_m) - \beta \log q_\phi(y_i)

        the first term by :func:`energy_cross_entropy`, :math:`\beta` = ``nll_weight``.

        Args:
            samples: of this noise; None if the energy's training method returns none, and the
                true box is the only training signal.
            f: ``(N, M + 1)`` at the samples; no gradient flows into it.

        Raises:
            ValueError: if the shapes differ, or there is no training signal.
        """
        if samples is None or f is None:
            if self._nll_weight == 0:
                expected = "positive where the energy's loss returns no samples"
                raise input_error("nll_weight", expected, self._nll_weight)
            return -self._nll_weight * self.distribution.log_prob(self.boxes)
        at = torch.cat((self.boxes[:, None], samples.boxes[:, 1:]), dim=1)
        learned = self.distribution.log_prob(at)
        cross_entropy = energy_cross_entropy(f[:, 1:], samples.log_q[:, 1:], learned[:, 1:])
        return cross_entropy - self._nll_weight * learned[:, 0]


def energy_cross_entropy(f: Tensor, log_q: Tensor, log_learned: Tensor) -> Tensor:
    r"""Cross entropy of exp f / Z with a learned density, by samples of q.

    .. math:: L = -\sum_{m=1}^{M} w_m \log q_\phi(\tilde y_m), \qquad
        w_m \propto \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)}, \quad \tilde y_m \sim q

    with the normalized weights held fixed. docs/method.md, M-26. Where q is :math:`q_\phi` itself
    the gradient is that of :func:`ebm3d.losses.proposal_loss`, the published loss.

    Args:
        f: ``(..., M)`` f of samples of q, without gradient.
        log_q: ``(..., M)`` their log densities under q, nats, without gradient.
        log_learned: ``(..., M)`` under :math:`q_\phi`.

    Returns:
        ``(...)`` nats; no reduction.

    Raises:
        ValueError: if the shapes differ.
    """
    for name, value in (("log_q", log_q), ("log_learned", log_learned)):
        if value.shape != f.shape:
            raise shape_error(name, f"{tuple(f.shape)} like f", value)
    weights = torch.softmax((f - log_q).detach(), dim=-1)
    return -(weights * log_learned).sum(dim=-1)
