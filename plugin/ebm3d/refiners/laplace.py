"""Laplace's approximation: the Gaussian of the curvature of f.

N boxes; D residuals t in units of the noise, along the axes of the box: 7, or 9 with velocities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, MultivariateGaussianDensity, triangular_root
from ebm3d.errors import input_error, is_number
from ebm3d.records import TensorRecord
from ebm3d.refiners.curvature import Expansion, expand_by_differences, expand_exactly
from ebm3d.refiners.scorers import Scorer


@dataclass(frozen=True)
class LaplaceApproximation(TensorRecord):
    r"""The Gaussian of residuals whose logarithm is the expansion of h, and its mass.

    .. math:: e^{h(t)} \approx Z\, \mathcal N(t;\, \mu, \Sigma)

    with mu ``(N, D)``, a triangular root of Sigma ``(N, D, D)`` and log Z ``(N,)``, nats. The width
    of ``num_projected`` ``(N,)`` principal directions is a limit. docs/method.md, M-30.
    """

    coding: LocalCoding
    mean: Tensor
    scale_tril: Tensor
    log_normalizer: Tensor
    num_projected: Tensor

    @property
    def covariance(self) -> Tensor:
        """Sigma of the residuals, ``(N, D, D)``."""
        return self.scale_tril @ self.scale_tril.transpose(-1, -2)

    def distribution(self, yaw_period: float = 2 * math.pi) -> BoxDistribution:
        """Return the density of the boxes, whose point estimates are the boxes themselves."""
        gaussian = MultivariateGaussianDensity(self.mean, self.scale_tril)
        density = gaussian.with_point(torch.zeros_like(self.mean))
        return BoxDistribution(density, self.coding, yaw_period)


def laplace_approximation(
    f: Scorer,
    boxes: Tensor,
    noise_std: Tensor,
    radius: float | None = 1.25,
    min_std: float = 0.02,
    max_std: float = 1.0,
    max_shift: float = 1.0,
) -> LaplaceApproximation:
    """Approximate exp f around boxes by a Gaussian of the residuals.

    At a mode of f, the covariance of the boxes is the inverse of minus its Hessian. Arguments as
    for :func:`expand_by_differences`, or :func:`expand_exactly` if ``radius`` is None, and for
    :func:`approximate_by_gaussian`.
    """
    if radius is None:
        expansion = expand_exactly(f, boxes, noise_std)
    else:
        expansion = expand_by_differences(f, boxes, noise_std, radius)
    return approximate_by_gaussian(expansion, min_std, max_std, max_shift)


def approximate_by_gaussian(
    expansion: Expansion, min_std: float = 0.02, max_std: float = 1.0, max_shift: float = 1.0
) -> LaplaceApproximation:
    r"""Turn an expansion into a Gaussian.

    .. math::
        \Sigma = (-H)^{-1}, \quad \mu = \Sigma g, \quad
        \log Z = h_0 + g^\top\mu - \tfrac12 \mu^\top \Sigma^{-1} \mu + \tfrac D2 \log 2\pi
            + \tfrac12 \log\det\Sigma

    The standard deviation along each eigenvector of H is bounded: where f does not fall within the
    width of the noise, or rises, the density has that width. NaN where the expansion is not finite.
    On a GPU the host waits once, for ``torch.linalg.eigh``.

    Args:
        expansion: of h.
        min_std: smallest standard deviation along an eigenvector, in ``noise_std``.
        max_std: largest one.
        max_shift: largest component of mu, in ``noise_std``; mu is shortened as a whole.
    """
    numbers = all(is_number(value) for value in (min_std, max_std, max_shift))
    if not (numbers and 0 < min_std <= max_std and max_shift >= 0):
        expected = "finite, 0 < min_std <= max_std, 0 <= max_shift"
        got = min_std, max_std, max_shift
        raise input_error("min_std, max_std, max_shift", expected, got)
    dtype, wide = expansion.hessian.dtype, expansion.to(torch.float64)
    known = torch.isfinite(wide.hessian).all(dim=2).all(dim=1)
    known &= torch.isfinite(wide.gradient).all(dim=1) & torch.isfinite(wide.value)
    curvature = torch.where(known[:, None, None], -wide.hessian, 0.0)
    eigenvalues, directions = torch.linalg.eigh(curvature)
    precision = eigenvalues.clamp(max_std**-2, min_std**-2)
    num_projected = ((precision != eigenvalues) & known[:, None]).sum(dim=1)
    root = directions * precision[:, None].rsqrt()
    slope = (root.transpose(1, 2) @ wide.gradient[..., None])[..., 0]
    shift = (root @ slope[..., None])[..., 0]
    longest = shift.abs().amax(dim=1)
    share = torch.where(longest > max_shift, max_shift / longest, 1.0)
    # With mu = share * Sigma g: g' mu = share * |slope|^2 and mu' Sigma^-1 mu = share^2 |slope|^2.
    rise = (share - share.square() / 2) * slope.square().sum(dim=1)
    log_det_root = -0.5 * precision.log().sum(dim=1)
    log_peak = slope.shape[1] / 2 * math.log(2 * math.pi)
    log_normalizer = wide.value + rise + log_peak + log_det_root
    return LaplaceApproximation(
        expansion.coding,
        torch.where(known[:, None], share[:, None] * shift, math.nan).to(dtype),
        torch.where(known[:, None, None], triangular_root(root), math.nan).to(dtype),
        torch.where(known, log_normalizer, math.nan).to(dtype),
        num_projected,
    )
