"""Noise drawn in part from a mixture density network that is trained beside the energy.

N boxes; D residuals, as the rows of the base noise's stds; K components; F pooled features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, MixtureDensity
from ebm3d.energy.bound_network import BoundNetwork
from ebm3d.energy.bound_proposal import BoundProposal
from ebm3d.energy.network import RegressionNetwork
from ebm3d.errors import check_count, check_positive, input_error, is_number
from ebm3d.noise import BoundNoise, BoxNoise
from ebm3d.registry import register


@register
class LearnedProposal(nn.Module):
    r"""Noise of which a part is learned beside the energy.

    .. math::
        q_\phi(y\,|\,x, y') = \sum_{k=1}^{K} \pi_k\, N\!\left(t(y; y');\, \mu_k,\,
        \mathrm{diag}(\sigma_k)^2\right) \left|\det \partial t / \partial y\right|, \qquad
        q = (1 - \alpha)\, q_\phi + \alpha\, q_\mathrm{base}(\cdot\,|\,y_i)

    with weights, means and deviations from a network on the features pooled at a reference box y',
    and the residuals t from it in standard deviations of the base noise. Yaw residuals are wrapped
    normal (over three images); deviations and means are bounded smoothly. Source: Gustafsson et
    al., "Learning Proposals for Practical Energy-Based Regression", AISTATS 2022; docs/method.md,
    M-26. Deviations:

    * Features are pooled at a draw of the base noise around the true box, which itself does not
      enter :math:`q_\phi`.
    * A share alpha of the noise stays around the true box: where a proposal misses it, f would stay
      untrained and could not lead the proposal back.
    * The proposal loss has the true box as a second training signal: :meth:`BoundProposal.loss`.

    Args:
        in_channels: length F of the pooled features.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        base: noise around the true box, whose standard deviations scale the residuals.
        num_components: K.
        hidden_channels: widths of the network's hidden layers.
        base_share: alpha, in [0, 1); 0 is the published noise.
        nll_weight: of the true box in the loss; 0 is the published loss.
        std_range: least and largest deviation of a scaled residual.
        max_mean: largest mean of a scaled residual.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        in_channels: int,
        mean_sizes: Sequence[Sequence[float]],
        base: BoxNoise,
        num_components: int = 8,
        hidden_channels: Sequence[int] = (128,),
        base_share: float = 0.25,
        nll_weight: float = 1.0,
        std_range: tuple[float, float] = (0.05, 4.0),
        max_mean: float = 8.0,
    ) -> None:
        super().__init__()
        if not isinstance(base, BoxNoise):
            raise input_error("base", "a BoxNoise", type(base).__name__)
        check_count("num_components", num_components)
        if not (is_number(base_share) and 0 <= base_share < 1):
            raise input_error("base_share", "in [0, 1)", base_share)
        if not (is_number(nll_weight) and nll_weight >= 0):
            raise input_error("nll_weight", "at least 0 and finite", nll_weight)
        if not _is_range(std_range):
            raise input_error("std_range", "two numbers, positive, finite and rising", std_range)
        check_positive("max_mean", max_mean)
        self.base, self.num_components = base, num_components
        self.base_share, self.nll_weight, self.max_mean = base_share, nll_weight, max_mean
        self.log_std_range = (math.log(std_range[0]), math.log(std_range[1]))
        # Per component a weight, D means and D log variances.
        num_outputs = num_components * (1 + 2 * base.num_columns)
        self.network = RegressionNetwork(
            in_channels,
            num_outputs,
            mean_sizes,
            hidden_channels,
            velocities=base.num_columns == 9,
        )
        self._init_stds()

    def around(self, noise: BoundNoise, f: BoundNetwork) -> BoundProposal:
        """Bind the proposal to the N boxes of bound base noise and the features of f there."""
        return BoundProposal(noise, self.predict(noise, f), self.base_share, self.nll_weight)

    def predict(self, noise: BoundNoise, f: BoundNetwork) -> BoxDistribution:
        r"""Return the N densities :math:`q_\phi` at the references of bound base noise.

        Features of f come without a graph; gradients reach the network alone.
        """
        reference = noise.reference.detach()
        features = f.pooled(reference[:, None]).detach()
        outputs = self.network(features, reference[:, None], noise.labels)[:, 0]
        return BoxDistribution(
            self._mixture(outputs), LocalCoding(reference, noise.reference_noise_std)
        )

    def _mixture(self, outputs: Tensor) -> MixtureDensity:
        """The mixture of residuals of the network's outputs ``(N, (1 + 2 D) K)``."""
        count, columns = self.num_components, self.base.num_columns
        parts = count, columns * count, columns * count
        log_weights, means, levels = outputs.split(parts, dim=1)
        low, high = self.log_std_range
        log_variances = 2 * (low + (high - low) * torch.sigmoid(levels))
        return MixtureDensity(
            self.max_mean * torch.tanh(means.reshape(-1, count, columns) / self.max_mean),
            log_variances.reshape(-1, count, columns),
            log_weights=log_weights,
        )

    @torch.no_grad()
    def _init_stds(self) -> None:
        """Start from components as wide as those of the base noise."""
        ends = self.base.multipliers.log()
        log_stds = torch.linspace(float(ends.min()), float(ends.max()), self.num_components)
        low, high = self.log_std_range
        level = ((log_stds - low) / (high - low)).clamp(0.01, 0.99)
        last: nn.Linear = self.network.layers[-1]  # type: ignore[assignment]
        columns = self.base.num_columns
        last.bias[-columns * self.num_components :] = torch.logit(level).repeat_interleave(columns)


def _is_range(pair: Any) -> bool:
    """Whether a value is two positive numbers, of which the second is larger."""
    pair = pair if isinstance(pair, tuple | list) else ()
    return len(pair) == 2 and all(map(is_number, pair)) and bool(0 < pair[0] < pair[1])
