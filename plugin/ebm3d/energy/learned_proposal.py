"""A mixture density network that learns where the energy is high: learned noise, and a prediction.

N boxes; M noise samples and S boxes of each; K components; F pooled features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.random_numbers import uniform
from ebm3d.densities import BoxDistribution, MixtureDensity
from ebm3d.energy.network import RegressionNetwork
from ebm3d.errors import check_count, check_positive, input_error, is_number, shape_error
from ebm3d.noise import BoundDetectionNoise, BoundNoise, BoxNoise, DetectionNoise, NoiseSamples
from ebm3d.registry import register

_PER_COMPONENT = 15  # a weight, seven means, seven log variances


def energy_cross_entropy(f: Tensor, log_q: Tensor, log_learned: Tensor) -> Tensor:
    r"""Cross entropy of the energy's density with a learned one, by samples of a third.

    .. math:: L = -\sum_{m=1}^{M} w_m \log q_\phi(\tilde y_m), \qquad
        w_m \propto \frac{e^{f(\tilde y_m)}}{q(\tilde y_m)}, \quad \tilde y_m \sim q

    with the normalized weights held fixed. docs/method.md, M-26. Where q is :math:`q_\phi` itself
    the gradient is that of :func:`ebm3d.losses.proposal_loss`, the published loss. Where other
    noise is mixed in, its samples teach, too: a proposal that misses the energy's mass is still
    drawn towards it. It stands here and not among the losses because energies, which call it, and
    losses do not import each other.

    Args:
        f: ``(..., M)`` f of samples of q; no gradient flows into it.
        log_q: ``(..., M)`` their log densities under q, nats; no gradient either.
        log_learned: ``(..., M)`` under :math:`q_\phi`, with a graph to phi.

    Returns:
        ``(...)`` nats; no reduction.

    Raises:
        ValueError: if the shapes differ or there is no sample.
    """
    if f.ndim == 0 or f.shape[-1] < 1:
        raise shape_error("f", "(..., M) with M >= 1 samples", f)
    for name, value in (("log_q", log_q), ("log_learned", log_learned)):
        if value.shape != f.shape:
            raise shape_error(name, f"{tuple(f.shape)} like f", value)
    weights = torch.softmax((f - log_q).detach(), dim=-1)
    return -(weights * log_learned).sum(dim=-1)


def _is_range(pair: Any) -> bool:
    """Whether a value is two positive numbers, of which the second is larger."""
    pair = pair if isinstance(pair, tuple | list) else ()
    return len(pair) == 2 and all(map(is_number, pair)) and bool(0 < pair[0] < pair[1])


class FeaturePool(Protocol):
    """Shows the features of boxes near bound ones (:class:`ebm3d.energy.BoundNetwork`)."""

    def pooled(self, boxes: Tensor) -> Tensor:
        """Return features ``(N, S, F)`` of boxes ``(N, S, 7)``, without a graph."""
        ...


@register
class LearnedProposal(nn.Module):
    r"""Noise drawn in part from a mixture that is learned beside the energy.

    .. math::
        q_\phi(y\,|\,x, y') = \sum_{k=1}^{K} \pi_k\, N\!\left(t(y; y');\, \mu_k,\,
        \mathrm{diag}(\sigma_k)^2\right) \left|\det \partial t / \partial y\right|, \qquad
        q = (1 - \alpha)\, q_\phi + \alpha\, q_\mathrm{base}(\cdot\,|\,y_i)

    with weights, means and deviations from a network that reads the features pooled at a reference
    box y', and the residuals t from it in the standard deviations of the base noise. Source:
    Gustafsson et al., "Learning Proposals for Practical Energy-Based Regression", AISTATS 2022;
    docs/method.md, M-26. Deviations:

    * A proposal for 7 dimensions needs a place to look at: in training a draw of the base noise
      around the true box (or what was detected, with a :class:`~ebm3d.noise.DetectionNoise`), at
      inference the detected box. The true box itself does not enter :math:`q_\phi`.
    * The share alpha of the noise stays around the true box. Without it, a proposal that once
      misses the truth leaves f unlearned there, and f cannot lead it back.
    * The proposal's loss has a second teacher, the true box: see :meth:`BoundProposal.loss`.

    Yaw residuals are wrapped normal (over three images); deviations and means are bounded smoothly.

    Args:
        in_channels: length F of the pooled features.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        base: noise around the true box, whose standard deviations are the residuals' units.
        num_components: K.
        hidden_channels: widths of the network's hidden layers.
        base_share: alpha, in [0, 1); 0 is the published noise.
        nll_weight: of the true box in the loss; 0 is the published loss.
        std_range: least and largest deviation, in units.
        max_mean: largest mean, in units.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        in_channels: int,
        mean_sizes: Sequence[Sequence[float]],
        base: BoxNoise | DetectionNoise,
        num_components: int = 8,
        hidden_channels: Sequence[int] = (128,),
        base_share: float = 0.25,
        nll_weight: float = 1.0,
        std_range: tuple[float, float] = (0.05, 4.0),
        max_mean: float = 8.0,
    ) -> None:
        super().__init__()
        if not isinstance(base, BoxNoise | DetectionNoise):
            raise input_error("base", "a BoxNoise or a DetectionNoise", type(base).__name__)
        check_count("num_components", num_components)
        if not (is_number(base_share) and 0 <= base_share < 1):
            raise input_error("base_share", "in [0, 1)", base_share)
        if not (is_number(nll_weight) and nll_weight >= 0):
            raise input_error("nll_weight", "at least 0 and finite", nll_weight)
        if not _is_range(std_range):
            raise input_error("std_range", "two numbers, positive, finite and rising", std_range)
        check_positive("max_mean", max_mean)
        low, high = std_range
        self.base_noise = base
        self.num_components, self.base_share, self.nll_weight = (
            num_components,
            base_share,
            nll_weight,
        )
        self.log_std_range, self.max_mean = (math.log(low), math.log(high)), max_mean
        self.network = RegressionNetwork(
            in_channels, num_components * _PER_COMPONENT, mean_sizes, hidden_channels
        )
        self._widen_at_first()

    @property
    def base(self) -> BoxNoise:
        """The noise that needs neither features nor detections."""
        return self.base_noise.base

    def around(
        self,
        noise: BoundNoise | BoundDetectionNoise,
        f: FeaturePool,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> BoundProposal:
        """Predict the proposal at the references of base noise.

        Args:
            noise: of ``base_noise``, bound to the boxes; its reference is what the proposal sees.
            f: pools features of boxes near those.
            generator: source of randomness on the device of the boxes.
            shared: see :class:`BoundProposal`.
        """
        return BoundProposal(self, noise, self.predict(noise, f), generator, shared)

    def predict(self, noise: BoundNoise | BoundDetectionNoise, f: FeaturePool) -> BoxDistribution:
        r"""Return :math:`q_\phi` at the references of bound noise; gradients reach the network.

        Args:
            noise: of ``base_noise``, bound to N boxes.
            f: pools features of boxes near those.

        Returns:
            N densities of boxes, in meters and radians.
        """
        reference = noise.reference.detach()
        features = f.pooled(reference[:, None]).detach()
        outputs = self.network(features, reference[:, None], noise.labels)[:, 0]
        count = self.num_components
        log_weights, means, raw = outputs.split((count, 7 * count, 7 * count), dim=1)
        low, high = self.log_std_range
        log_variances = 2 * (low + (high - low) * torch.sigmoid(raw))
        density = MixtureDensity(
            self.max_mean * torch.tanh(means.reshape(-1, count, 7) / self.max_mean),
            log_variances.reshape(-1, count, 7),
            log_weights=log_weights,
        )
        return BoxDistribution(density, LocalCoding(reference, noise.reference_units))

    @torch.no_grad()
    def _widen_at_first(self) -> None:
        """Start from components as wide as the base noise's, which cover the truth."""
        factors = self.base.multipliers
        ends = torch.log(factors.min()), torch.log(factors.max())
        log_stds = torch.linspace(float(ends[0]), float(ends[1]), self.num_components)
        low, high = self.log_std_range
        level = ((log_stds - low) / (high - low)).clamp(0.01, 0.99)
        last: nn.Linear = self.network.layers[-1]  # type: ignore[assignment]
        last.bias[-7 * self.num_components :] = torch.logit(level).repeat_interleave(7)


class BoundProposal:
    """A learned proposal around given boxes (:class:`ebm3d.losses.training.NoiseAround`).

    Args:
        proposal: shares and weights.
        around: base noise around the true boxes.
        distribution: the predicted part.
        generator: source of randomness on the device of the boxes.
        shared: draw one set of random numbers for all boxes, as :meth:`ebm3d.noise.BoxNoise.shared`
            does, so that what a box gets does not depend on the others. For inference.

    Attributes:
        boxes: ``(N, 7)`` true boxes.
        labels: ``(N,)`` class indices.
        distribution: the predicted part, with a graph to the proposal's parameters.
        generator: as given.
    """

    def __init__(
        self,
        proposal: LearnedProposal,
        around: BoundNoise | BoundDetectionNoise,
        distribution: BoxDistribution,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> None:
        self.boxes, self.labels, self.distribution = around.boxes, around.labels, distribution
        self._proposal, self._around = proposal, around
        self.generator, self._shared = generator, shared

    @property
    def noise_std(self) -> Tensor:
        """``(N, 7)``, those of the base noise; see :meth:`ebm3d.noise.BoxNoise.noise_std`."""
        return self._around.noise_std

    @property
    def reference_units(self) -> Tensor:
        """``(N, 7)``, the same at the reference."""
        return self._around.reference_units

    @property
    def reference(self) -> Tensor:
        """``(N, 7)`` boxes at which the proposal was predicted."""
        return self._around.reference

    @torch.no_grad()
    def sample(self, num_samples: int) -> NoiseSamples:
        """Draw boxes of the proposal and of the base noise; no gradient flows through them.

        Args:
            num_samples: M, at least 1.

        Raises:
            ValueError: see :meth:`ebm3d.noise.BoxNoise.sample`.
        """
        from_base = self._around.sample(num_samples).boxes
        density = cast(MixtureDensity, self.distribution.density)
        residuals = density.sample(num_samples, self.generator, self._shared)
        drawn = self.distribution.coding.decode(residuals)
        shape = (1 if self._shared else len(drawn), num_samples)
        chance = uniform(shape, drawn, self.generator)
        learned = (chance >= self._proposal.base_share)[..., None]
        drawn = torch.where(learned, drawn, from_base[:, 1:])
        boxes = torch.cat((from_base[:, :1], drawn), dim=1)
        return NoiseSamples(boxes, self.log_prob(boxes))

    @torch.no_grad()
    def log_prob(self, boxes: Tensor) -> Tensor:
        """Return the log density of the noise.

        Args:
            boxes: ``(N, S, 7)``.

        Returns:
            ``(N, S)`` nats; density in meters and radians; without a graph.
        """
        learned = self.distribution.log_prob(boxes)
        share = self._proposal.base_share
        if share == 0:
            return learned
        base = self._around.log_prob(boxes)
        return torch.logaddexp(math.log1p(-share) + learned, math.log(share) + base)

    def scale_std(self, factor: float) -> BoundNoise:
        """Return the base noise around the true boxes; see :meth:`ebm3d.noise.BoxNoise.scale_std`.

        What is drawn from the proposal does not lie around the true box.
        """
        return self._around.scale_std(factor)

    def loss(self, samples: NoiseSamples | None, f: Tensor | None) -> Tensor:
        r"""Teach the proposal by the energy's samples, and by the true box.

        .. math:: L_\phi = -\sum_{m=1}^{M} w_m \log q_\phi(\tilde y_m) - \beta \log q_\phi(y_i)

        the first term by :func:`energy_cross_entropy`, :math:`\beta` = ``nll_weight``.

        Args:
            samples: drawn of this noise, index 0 the true box; None if the energy's training
                method draws none. Then the true box alone teaches.
            f: ``(N, M + 1)`` at the samples.

        Returns:
            ``(N,)`` nats; no reduction. No gradient flows into ``f``.

        Raises:
            ValueError: if ``f`` has another shape than the samples' densities, or there is no
                teacher.
        """
        weight = self._proposal.nll_weight
        if samples is None or f is None:
            if weight == 0:
                raise input_error(
                    "nll_weight", "positive where the energy's loss draws no samples", weight
                )
            return -weight * self.distribution.log_prob(self.boxes)
        at = torch.cat((self.boxes[:, None], samples.boxes[:, 1:]), dim=1)
        learned = self.distribution.log_prob(at)
        by_energy = energy_cross_entropy(f[:, 1:], samples.log_q[:, 1:], learned[:, 1:])
        return by_energy - weight * learned[:, 0]
