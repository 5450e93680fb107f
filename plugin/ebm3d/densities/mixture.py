"""Mixtures of Gaussians: joint over the residuals, or one with equal weights for each.

N boxes; I components; D residuals; K samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_parameters, check_residuals
from ebm3d.densities.gaussian import log_normal, normal_cdf
from ebm3d.devices import standard_normal, uniform, whole_numbers
from ebm3d.errors import input_error, shape_error

_POINT_ESTIMATES = ("mean", "mode")


@dataclass(frozen=True)
class _Mixture(Density):
    """What both mixtures share: with the same weights, their marginals are the same."""

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
        return self._average(self.means)

    @property
    def variance(self) -> Tensor:
        """``(N, D)``: mean variance plus variance of the means."""
        return self._average(torch.exp(self.log_variances) + self._deviations.square())

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
        below = normal_cdf(residuals[..., None, :], self.means, self.log_variances)
        return self._average(below)

    def _average(self, values: Tensor) -> Tensor:
        """Weighted mean over the components of ``(..., N, I, D)``."""
        return values.mean(-2)

    def _log_components(self, residuals: Tensor) -> Tensor:
        """Log densities ``(..., N, I, D)`` of the components at residuals ``(..., N, D)``."""
        return log_normal(residuals[..., None, :], self.means, self.log_variances)

    def _sample(
        self, component: Tensor, generator: torch.Generator | None, shared: bool = False
    ) -> Tensor:
        """Draw from the chosen components, ``(K, N, D)`` or ``(K, N, 1)`` indices."""
        index = component.expand(-1, -1, self.means.shape[2])[:, :, None]
        count = len(component)
        location, log_variance = (
            values.expand(count, *values.shape).gather(2, index)[:, :, 0]
            for values in (self.means, self.log_variances)
        )
        rows = 1 if shared else len(self.means)
        normal = standard_normal((count, rows, self.means.shape[2]), location, generator)
        return location + torch.exp(log_variance / 2) * normal


@dataclass(frozen=True)
class MixtureDensity(_Mixture):
    r"""Joint mixture of I diagonal Gaussians: one component for all residuals of a box.

    .. math::
        p(t) = \sum_i w_i \prod_d \mathcal N\!\left(t_d;\, \mu_{id},\, e^{s_{id}}\right)

    The residuals are correlated where the components' means differ in more than one of them.
    docs/method.md, M-11 (equal weights) and M-26.

    Attributes:
        means: ``(N, I, D)``.
        log_variances: s, ``(N, I, D)``.
        point_estimate: "mean", or "mode": the component mean at which the mixture is densest (not
            the mode to the last digit, which has no closed form).
        log_weights: ``(N, I)`` log w up to a constant in each row: the weights are their softmax.
            Minus infinity is a component of no weight. None is 1 / I for each.

    Raises:
        ValueError: if the shapes differ, I is 0, or the point estimate is unknown.
    """

    log_weights: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log_weights is not None and self.log_weights.shape != self.means.shape[:2]:
            expected = f"{tuple(self.means.shape[:2])}, one per component of means"
            raise shape_error("log_weights", expected, self.log_weights)

    @property
    def covariance(self) -> Tensor:
        """``(N, D, D)``: mean variances on the diagonal, plus the covariance of the means."""
        scattered = self._deviations
        if self.log_weights is None:
            between = scattered.transpose(1, 2) @ scattered / scattered.shape[1]
        else:
            between = (scattered * self._weights).transpose(1, 2) @ scattered
        return torch.diag_embed(self._average(torch.exp(self.log_variances))) + between

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.means[:, 0])
        joint = self._log_components(residuals).sum(-1)
        if self.log_weights is None:
            return torch.logsumexp(joint, dim=-1) - math.log(self.means.shape[1])
        return torch.logsumexp(joint + torch.log_softmax(self.log_weights, dim=-1), dim=-1)

    @torch.no_grad()
    def sample(
        self, num_samples: int, generator: torch.Generator | None = None, shared: bool = False
    ) -> Tensor:
        """Draw samples; see :meth:`Density.sample`.

        Args:
            num_samples: K, at least 0.
            generator: source of randomness on the density's device.
            shared: draw one set of random numbers for all rows: the samples of a row then do not
                depend on how many others there are, and rows are not independent.

        Returns:
            ``(K, N, D)``.
        """
        rows, count, _ = self.means.shape
        shape = (num_samples, 1 if shared else rows, 1)
        if self.log_weights is None:
            component = whole_numbers(count, shape, self.means, generator)
            component = component.expand(-1, rows, -1)
        else:
            # Divided by its own end, the distribution function is 1 where no weight is left: a
            # component of no weight is never drawn.
            cumulative = self._weights[..., 0].cumsum(dim=1)
            cumulative = cumulative / cumulative[:, -1:]
            level = uniform(shape, self.means, generator)
            component = (level >= cumulative).sum(dim=2, keepdim=True)
        return self._sample(component, generator, shared)

    def _average(self, values: Tensor) -> Tensor:
        """Weighted mean over the components of ``(..., N, I, D)``."""
        return values.mean(-2) if self.log_weights is None else (self._weights * values).sum(-2)

    @property
    def _weights(self) -> Tensor:
        """w, ``(N, I, 1)``, where there are log weights."""
        return torch.softmax(cast(Tensor, self.log_weights), dim=-1)[..., None]

    @property
    def _mode(self) -> Tensor:
        """The component mean where the joint density is highest, ``(N, D)``."""
        best = self.log_prob(self.means.transpose(0, 1)).argmax(0)
        return torch.take_along_dim(self.means, best[:, None, None], dim=1)[:, 0]


@dataclass(frozen=True)
class IndependentMixtureDensity(_Mixture):
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
        component = whole_numbers(count, (num_samples, rows, columns), self.means, generator)
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
