"""Mixtures of Gaussians with equal weights: joint over the residuals, or one for each.

N boxes; I components; D residuals; K samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_parameters, check_residuals
from ebm3d.densities.gaussian import log_normal, normal_cdf, standard_normal
from ebm3d.errors import input_error, shape_error

_POINT_ESTIMATES = ("mean", "mode")


@dataclass(frozen=True)
class _EqualMixture(Density):
    """What both mixtures share: their marginals are the same."""

    means: Tensor
    log_variances: Tensor
    point_estimate: str = "mean"

    def __post_init__(self) -> None:
        check_parameters("(N, I, D)", means=self.means, log_variances=self.log_variances)
        if self.means.shape[1] == 0:
            raise shape_error("means", "(N, I, D) with at least one component", self.means)
        if self.point_estimate not in _POINT_ESTIMATES:
            raise input_error(
                "point_estimate", f"one of {_POINT_ESTIMATES}", repr(self.point_estimate)
            )

    @property
    def point(self) -> Tensor:
        """``(N, D)``: the mean, or the component mean where the density is highest."""
        return self.mean if self.point_estimate == "mean" else self._mode

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.means.mean(1)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``: mean variance plus variance of the means."""
        return torch.exp(self.log_variances).mean(1) + self._deviations.square().mean(1)

    @property
    @abstractmethod
    def _mode(self) -> Tensor:
        """The point estimate "mode", ``(N, D)``."""

    @property
    def _deviations(self) -> Tensor:
        """Component means from the mean, ``(N, I, D)``."""
        return self.means - self.mean[:, None]

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.means[:, 0])
        return normal_cdf(residuals[..., None, :], self.means, self.log_variances).mean(-2)

    def _log_components(self, residuals: Tensor) -> Tensor:
        """Log densities ``(..., N, I, D)`` of the components at residuals ``(..., N, D)``."""
        return log_normal(residuals[..., None, :], self.means, self.log_variances)

    def _sample(self, component: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw from the chosen components, ``(K, N, D)`` or ``(K, N, 1)`` indices."""
        index = component.expand(-1, -1, self.means.shape[2])[:, :, None]
        count = len(component)
        location, log_variance = (
            values.expand(count, *values.shape).gather(2, index)[:, :, 0]
            for values in (self.means, self.log_variances)
        )
        normal = standard_normal(tuple(location.shape), location, generator)
        return location + torch.exp(log_variance / 2) * normal


@dataclass(frozen=True)
class MixtureDensity(_EqualMixture):
    r"""Joint mixture of I diagonal Gaussians: one component for all residuals of a box.

    .. math::
        p(t) = \frac1I \sum_i \prod_d \mathcal N\!\left(t_d;\, \mu_{id},\, e^{s_{id}}\right)

    The residuals are correlated where the components' means differ in more than one of them.
    docs/method.md, M-11.

    Attributes:
        means: ``(N, I, D)``.
        log_variances: s, ``(N, I, D)``.
        point_estimate: "mean", or "mode": the component mean at which the mixture is densest (not
            the mode to the last digit, which has no closed form).

    Raises:
        ValueError: if the shapes differ, I is 0, or the point estimate is unknown.
    """

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``: mean variances on the diagonal, plus the covariance of the means."""
        scattered = self._deviations
        between = scattered.transpose(1, 2) @ scattered / scattered.shape[1]
        return torch.diag_embed(torch.exp(self.log_variances).mean(1)) + between

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.means[:, 0])
        joint = self._log_components(residuals).sum(-1)
        return torch.logsumexp(joint, dim=-1) - math.log(self.means.shape[1])

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        rows, count, _ = self.means.shape
        component = torch.randint(
            count, (num_samples, rows, 1), generator=generator, device=self.means.device
        )
        return self._sample(component, generator)

    @property
    def _mode(self) -> Tensor:
        """The component mean where the joint density is highest, ``(N, D)``."""
        best = self.log_prob(self.means.transpose(0, 1)).argmax(0)
        return torch.take_along_dim(self.means, best[:, None, None], dim=1)[:, 0]


@dataclass(frozen=True)
class IndependentMixtureDensity(_EqualMixture):
    r"""A mixture of I Gaussians for each residual, the residuals independent.

    .. math::
        p(t) = \prod_d \frac1I \sum_i \mathcal N\!\left(t_d;\, \mu_{id},\, e^{s_{id}}\right)

    docs/method.md, M-11.

    Attributes:
        means: ``(N, I, D)``.
        log_variances: s, ``(N, I, D)``.
        point_estimate: "mean", or "mode": per residual, the component mean at which its mixture is
            densest.

    Raises:
        ValueError: if the shapes differ, I is 0, or the point estimate is unknown.
    """

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.means[:, 0])
        return self._log_marginals(residuals).sum(-1)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; see :meth:`Density.sample`."""
        rows, count, columns = self.means.shape
        component = torch.randint(
            count, (num_samples, rows, columns), generator=generator, device=self.means.device
        )
        return self._sample(component, generator)

    @property
    def _mode(self) -> Tensor:
        """Per residual the component mean where its marginal is highest, ``(N, D)``."""
        best = self._log_marginals(self.means.transpose(0, 1)).argmax(0)
        return torch.take_along_dim(self.means, best[:, None], dim=1)[:, 0]

    def _log_marginals(self, residuals: Tensor) -> Tensor:
        """Log density of each residual, ``(..., N, D)``."""
        components = self._log_components(residuals)
        return torch.logsumexp(components, dim=-2) - math.log(self.means.shape[1])
