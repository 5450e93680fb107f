"""Mixtures of Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_axes, check_shape
from ebm3d.densities.gaussian import log_normal, normal_cdf
from ebm3d.devices import standard_normal, uniform, whole_numbers
from ebm3d.errors import input_error, shape_error


@dataclass(frozen=True)
class MixtureDensity(Density):
    r"""Mixtures of I diagonal Gaussians: one over all residuals, or one for each.

    .. math::
        p(t) = \sum_i w_i \prod_d \mathcal N\!\left(t_d;\, \mu_{id},\, e^{s_{id}}\right)
        \quad\text{(joint)}, \qquad
        p(t) = \prod_d \sum_i w_i\, \mathcal N\!\left(t_d;\, \mu_{id},\, e^{s_{id}}\right)

    The residuals of a joint mixture are correlated where the means of its components differ in more
    than one of them. docs/method.md, M-11 (equal weights) and M-26.

    Args:
        means: ``(N, I, D)``.
        log_variances: s, ``(N, I, D)``.
        point_estimate: "mean", or "mode": the component mean where the mixture (that of each
            residual, if not joint) is densest; not exactly the mode, which has no closed form.
        log_weights: ``(N, I)``, log w up to a constant in each row; None for 1 / I each.
        joint: whether one component is drawn for all residuals.
    """

    means: Tensor
    log_variances: Tensor
    point_estimate: str = "mean"
    log_weights: Tensor | None = None
    joint: bool = True

    def __post_init__(self) -> None:
        check_axes("means", self.means, "(N, I, D)")
        check_shape("log_variances", self.log_variances, self.means.shape)
        if self.means.shape[1] == 0:
            raise shape_error("means", "(N, I, D) with at least one component", self.means)
        if self.log_weights is not None:
            check_shape("log_weights", self.log_weights, self.means.shape[:2])
        if self.point_estimate not in ("mean", "mode"):
            raise input_error("point_estimate", "'mean' or 'mode'", repr(self.point_estimate))

    @property
    def num_residuals(self) -> int:
        """D."""
        return self.means.shape[2]

    @property
    def point(self) -> Tensor:
        """``(N, D)``, as ``point_estimate`` says."""
        if self.point_estimate == "mean":
            return self.mean
        best = self._log_factors(self.means).argmax(dim=1, keepdim=True)
        return torch.take_along_dim(self.means, best, dim=1)[:, 0]

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self._average(self.means)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``: mean variance plus variance of the means."""
        return self._average(torch.exp(self.log_variances) + self._deviations.square())

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``: diagonal, plus the covariance of the means if joint."""
        if not self.joint:
            return torch.diag_embed(self.variance)
        deviations = self._deviations
        between = (deviations * self._weights[..., None]).transpose(1, 2) @ deviations
        return torch.diag_embed(self._average(torch.exp(self.log_variances))) + between

    def _log_prob(self, residuals: Tensor) -> Tensor:
        return self._log_factors(residuals).sum(-1)

    def _cdf(self, residuals: Tensor) -> Tensor:
        means, log_variances = self.means[:, None], self.log_variances[:, None]
        below = normal_cdf(residuals[:, :, None], means, log_variances)
        return (self._weights[:, None, :, None] * below).sum(2)

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        rows, num_components, columns = self.means.shape
        shape = (num_samples, rows, 1 if self.joint else columns)
        if self.log_weights is None:
            component = whole_numbers(num_components, shape, self.means, generator)
        else:
            # Divided by its last value, the distribution function is 1 where no weight is left: a
            # component of no weight is never drawn.
            cumulative = self._weights.cumsum(dim=1)
            cumulative = cumulative / cumulative[:, -1:]
            level = uniform(shape, self.means, generator)
            component = (level[..., None] >= cumulative[:, None]).sum(dim=-1)
        index = component.expand(num_samples, rows, columns)[:, :, None]
        location, log_variance = (
            torch.take_along_dim(values[None], index, dim=2)[:, :, 0]
            for values in (self.means, self.log_variances)
        )
        normal = standard_normal((num_samples, rows, columns), location, generator)
        return location + torch.exp(log_variance / 2) * normal

    def _log_factors(self, residuals: Tensor) -> Tensor:
        """Log densities at ``(N, S, D)``: ``(N, S, 1)`` if joint, else of each residual."""
        means, log_variances = self.means[:, None], self.log_variances[:, None]
        components = log_normal(residuals[:, :, None], means, log_variances)
        if self.joint:
            components = components.sum(-1, keepdim=True)
        log_weights = torch.log_softmax(self._logits, dim=-1)[:, None, :, None]
        return torch.logsumexp(components + log_weights, dim=2)

    def _average(self, values: Tensor) -> Tensor:
        """Weighted mean ``(N, D)`` over the components of ``(N, I, D)``."""
        return (self._weights[..., None] * values).sum(1)

    @property
    def _deviations(self) -> Tensor:
        """Component means from the mean, ``(N, I, D)``."""
        return self.means - self.mean[:, None]

    @property
    def _weights(self) -> Tensor:
        """w, ``(N, I)``."""
        return torch.softmax(self._logits, dim=-1)

    @property
    def _logits(self) -> Tensor:
        """log w up to a constant, ``(N, I)``."""
        if self.log_weights is None:
            return self.means.new_zeros(self.means.shape[:2])
        return self.log_weights
