"""The Gaussian that the curvature of f says exp f is.

N boxes; D = 7 residuals t in units of the noise, along the axes of the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import (
    BoxDistribution,
    MultivariateGaussianDensity,
    triangular_root,
)
from ebm3d.errors import input_error, is_number
from ebm3d.records import TensorRecord
from ebm3d.refiners.curvature import (
    Expansion,
    expand_by_differences,
    expand_exactly,
)
from ebm3d.refiners.residual_density import VariantScorer


@dataclass(frozen=True)
class LaplaceApproximation(TensorRecord):
    r"""The Gaussian of residuals whose logarithm is the expansion of h, and its mass.

    .. math:: e^{h(t)} \approx Z\, \mathcal N(t;\, \mu, \Sigma)

    docs/method.md, M-30.

    Attributes:
        coding: residuals around the boxes.
        mean: mu, ``(N, 7)``.
        scale_tril: L with :math:`L L^\top = \Sigma`, ``(N, 7, 7)``.
        log_normalizer: log Z, ``(N,)``, nats.
        num_projected: ``(N,)`` of the seven principal directions, how many have the width of a
            limit since f does not fall in them as a Gaussian does; int64.
    """

    coding: LocalCoding
    mean: Tensor
    scale_tril: Tensor
    log_normalizer: Tensor
    num_projected: Tensor

    @property
    def covariance(self) -> Tensor:
        """Sigma of the residuals, ``(N, 7, 7)``."""
        return self.scale_tril @ self.scale_tril.transpose(-1, -2)

    @property
    def is_projected(self) -> Tensor:
        """Whether Sigma is not the inverse of minus the Hessian, ``(N,)``."""
        return self.num_projected > 0

    def distribution(self, yaw_period: float = 2 * math.pi) -> BoxDistribution:
        """Return the density of the boxes, whose point estimates are the boxes themselves.

        Args:
            yaw_period: see :class:`ebm3d.densities.BoxDistribution`.
        """
        gaussian = MultivariateGaussianDensity(self.mean, self.scale_tril)
        density = gaussian.with_point(torch.zeros_like(self.mean))
        return BoxDistribution(density, self.coding, yaw_period)


def approximate_by_gaussian(
    expansion: Expansion, min_std: float = 0.02, max_std: float = 1.0, max_shift: float = 1.0
) -> LaplaceApproximation:
    r"""Turn an expansion into a Gaussian.

    .. math::
        \Sigma = (-H)^{-1}, \quad \mu = \Sigma g, \quad
        \log Z = h_0 + g^\top\mu - \tfrac12 \mu^\top \Sigma^{-1} \mu + \tfrac72 \log 2\pi
            + \tfrac12 \log\det\Sigma

    At a mode of h, g = 0 and log Z is the textbook's. The standard deviation along each
    eigenvector of H is bounded: where f does not fall within the width of the noise, or rises, the
    density has that width. The shift is shortened as a whole.

    Args:
        expansion: of h.
        min_std: smallest standard deviation of a principal direction, in units of the noise.
        max_std: largest one.
        max_shift: largest component of mu, in units of the noise.

    Returns:
        The approximation; NaN, with no direction projected, where the expansion is not finite. On
        a GPU the host waits once: ``torch.linalg.eigh`` reads whether it converged.

    Raises:
        ValueError: unless ``0 < min_std <= max_std`` and ``max_shift >= 0``, all finite.
    """
    numbers = all(is_number(value) for value in (min_std, max_std, max_shift))
    if not (numbers and 0 < min_std <= max_std and max_shift >= 0):
        raise input_error(
            "min_std, max_std, max_shift",
            "finite, 0 < min_std <= max_std, 0 <= max_shift",
            (min_std, max_std, max_shift),
        )
    dtype = expansion.hessian.dtype
    wide = expansion.to(torch.float64)
    known = torch.isfinite(wide.hessian).all(dim=2).all(dim=1)
    known &= torch.isfinite(wide.gradient).all(dim=1) & torch.isfinite(wide.value)
    curvature = torch.where(known[:, None, None], -wide.hessian, torch.zeros_like(wide.hessian))
    eigenvalues, directions = torch.linalg.eigh(curvature)
    precision = eigenvalues.clamp(max_std**-2, min_std**-2)
    projected = ((precision != eigenvalues) & known[:, None]).sum(dim=1)
    roots = directions * precision[:, None].rsqrt()
    scale_tril = triangular_root(roots)
    slope = (roots.transpose(1, 2) @ wide.gradient[..., None])[..., 0]
    shift = (roots @ slope[..., None])[..., 0]
    longest = shift.abs().amax(dim=1)
    share = torch.where(longest > max_shift, max_shift / longest, 1.0)
    # With mu = share * Sigma g: g' mu = share * |slope|^2 and mu' P mu = share^2 * |slope|^2.
    rise = (share - share.square() / 2) * slope.square().sum(dim=1)
    log_root = -0.5 * precision.log().sum(dim=1)
    log_normalizer = wide.value + rise + 3.5 * math.log(2 * math.pi) + log_root
    unknown = torch.full_like(log_normalizer, math.nan)
    return LaplaceApproximation(
        expansion.coding,
        torch.where(known[:, None], share[:, None] * shift, math.nan).to(dtype),
        torch.where(known[:, None, None], scale_tril, math.nan).to(dtype),
        torch.where(known, log_normalizer, unknown).to(dtype),
        projected,
    )


def laplace_approximation(
    f: VariantScorer,
    boxes: Tensor,
    noise_std: Tensor,
    radius: float | None = 1.25,
    min_std: float = 0.02,
    max_std: float = 1.0,
    max_shift: float = 1.0,
) -> LaplaceApproximation:
    """Approximate exp f around boxes by a Gaussian of the residuals.

    In meters and radians it is the density N(t(y); mu, Sigma) / |det dy/dt|. For its logarithm to
    have value and first two derivatives of f at the box (less log Z), h must be expanded, not f: h
    carries the volume. In residuals of :class:`ebm3d.boxes.codings.LocalCoding` the logarithm of
    the volume is linear, so it moves the mean, by Sigma times the units of the sizes, and leaves
    the Hessian alone; at a mode of f that is J' (d2f / dy2) J, and J Sigma J' the inverse of minus
    the Hessian in meters.

    Args:
        f: evaluates S variants of each box, ``(N, S, 7)`` to ``(N, S)``.
        boxes: ``(N, 7)`` near modes of f.
        noise_std: ``(N, 7)`` standard deviations of the noise.
        radius: of :func:`expand_by_differences`, or None for :func:`expand_exactly`.
        min_std: see :func:`approximate_by_gaussian`.
        max_std: the same.
        max_shift: the same.

    Returns:
        The approximation, with the number of directions that were projected.

    Raises:
        ValueError: as the functions it is made of.
    """
    expansion = (
        expand_exactly(f, boxes, noise_std)
        if radius is None
        else expand_by_differences(f, boxes, noise_std, radius)
    )
    return approximate_by_gaussian(expansion, min_std, max_std, max_shift)
