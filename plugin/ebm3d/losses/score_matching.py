"""Score matching: densities learned from the derivatives of f in its D-dimensional argument."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.devices import standard_normal, whole_numbers
from ebm3d.errors import check_count, check_positive, input_error, shape_error
from ebm3d.losses.training import NoiseAround, TrainingLoss
from ebm3d.refiners.scorers import ResidualDensity, Scorer, as_leaf, differentiable_values
from ebm3d.registry import register


def score_matching_loss(f: Scorer, points: Tensor) -> Tensor:
    r"""Score matching ``(...)`` with the exact trace of the Hessian.

    .. math:: L = \operatorname{tr}\nabla^2 f(y) + \tfrac12\|\nabla f(y)\|^2

    Source: Hyvärinen, "Estimation of Non-Normalized Statistical Models by Score Matching", JMLR
    2005; for regression Gustafsson et al., BMVC 2020. docs/method.md, M-24. Unbounded below for a
    finite set of points. Time and memory grow with D.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself, twice differentiable.
        points: ``(..., D)`` samples of the density to be learned; constants.
    """
    keep, leaf = torch.is_grad_enabled(), as_leaf(points, "points")
    with torch.enable_grad():
        gradient = _gradient(f, leaf, create_graph=True)
        trace = gradient.new_zeros(gradient.shape[:-1])
        for d in range(gradient.shape[-1]):
            trace = trace + _slope_gradient(gradient[..., d], leaf, keep)[..., d]
        loss = trace + 0.5 * gradient.square().sum(-1)
    return loss if keep else loss.detach()


def sliced_score_matching_loss(
    f: Scorer, points: Tensor, num_slices: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    r"""Score matching ``(...)`` with the trace estimated along random directions.

    .. math:: L = \frac1S\sum_{s=1}^{S} v_s^\top \nabla^2 f(y)\, v_s + \tfrac12\|\nabla f(y)\|^2

    Source: Song et al., "Sliced Score Matching: A Scalable Approach to Density and Score
    Estimation", UAI 2019, the variant of reduced variance. docs/method.md, M-24. Deviation: v has
    entries of +1 and -1, for which the trace has the least variance, instead of normal ones.
    Unbiased for :func:`score_matching_loss`; ``num_slices`` is S, per point.
    """
    check_count("num_slices", num_slices)
    keep, leaf = torch.is_grad_enabled(), as_leaf(points, "points")
    with torch.enable_grad():
        gradient = _gradient(f, leaf, create_graph=True)
        trace = gradient.new_zeros(gradient.shape[:-1])
        for _ in range(num_slices):
            coin = whole_numbers(2, tuple(points.shape), points, generator)
            v = 2 * coin.to(points.dtype) - 1
            trace = trace + (v * _slope_gradient((v * gradient).sum(-1), leaf, keep)).sum(-1)
        loss = trace / num_slices + 0.5 * gradient.square().sum(-1)
    return loss if keep else loss.detach()


def gradient_of(f: Scorer, points: Tensor) -> Tensor:
    """Gradient ``(..., D)`` of f at points ``(..., D)``, with a graph to the parameters of f."""
    return _gradient(f, as_leaf(points, "points"), create_graph=torch.is_grad_enabled())


def _gradient(f: Scorer, leaf: Tensor, create_graph: bool) -> Tensor:
    """Gradient of f at points; zero of no points."""
    with torch.enable_grad():
        value = differentiable_values(f, leaf, "points")
        if leaf.numel() == 0:
            return torch.zeros_like(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=create_graph)
    return gradient


def _slope_gradient(slope: Tensor, leaf: Tensor, create_graph: bool) -> Tensor:
    """Gradient of slopes ``(...)`` at points ``(..., D)``; zero where f is linear."""
    if not slope.requires_grad:
        return torch.zeros_like(leaf)
    # Retained: the next direction needs the graph of the slopes, too.
    (gradient,) = torch.autograd.grad(
        slope.sum(), leaf, create_graph=create_graph, retain_graph=True, materialize_grads=True
    )
    return gradient


def dsm_loss(gradient: Tensor, residual: Tensor, variance: Tensor | float) -> Tensor:
    r"""Denoising score matching.

    .. math:: L = \Big\|\nabla f(\tilde y) + \frac{\tilde y - y}{\sigma^2}\Big\|^2,
        \quad \tilde y \sim \mathcal N(y, \sigma^2)

    Source: Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011; for
    regression Gustafsson et al., BMVC 2020. docs/method.md, M-24. Its expectation is least where f
    is, up to a constant, the log density of the data *smoothed by the noise*.

    Args:
        gradient: ``(..., D)`` :func:`gradient_of` f at the perturbed values.
        residual: ``(..., D)`` perturbed less true values.
        variance: of the noise; a number, or a tensor that broadcasts to ``residual``.
    """
    if gradient.shape != residual.shape:
        raise shape_error("gradient", f"{tuple(residual.shape)} like residual", gradient)
    if isinstance(variance, Tensor):
        variance = variance.expand_as(residual)
    else:
        check_positive("variance", variance)
    return (gradient + residual / variance).square().sum(-1)


@register
class ScoreMatchingLoss:
    """Trains f by score matching at the true boxes, in residuals of the noise's units.

    Biased where f reads a map by bilinear interpolation: the Hessian misses the jumps of the
    gradient at the borders of cells.

    Args:
        kind: "exact" for :func:`score_matching_loss`; "sliced" for
            :func:`sliced_score_matching_loss`, with ``num_slices`` directions (None for 1).
        num_slices: with "sliced" only.
    """

    is_density, returns_samples = True, False

    def __init__(self, kind: str = "exact", num_slices: int | None = None) -> None:
        if kind not in ("exact", "sliced"):
            raise input_error("kind", "'exact' or 'sliced'", repr(kind))
        if kind == "exact" and num_slices is not None:
            raise input_error("num_slices", "given with kind='sliced' only", num_slices)
        self.kind, self.num_slices = kind, 1 if num_slices is None else num_slices
        check_count("num_slices", self.num_slices)

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        log_density = ResidualDensity(f, LocalCoding(noise.boxes, noise.noise_std))
        points = torch.zeros_like(noise.boxes)[:, None]
        if self.kind == "exact":
            loss = score_matching_loss(log_density, points)
        else:
            loss = sliced_score_matching_loss(log_density, points, self.num_slices, noise.generator)
        return TrainingLoss(loss[:, 0])


@register
class DSMLoss:
    """Trains f by :func:`dsm_loss` on Gaussian residuals around the true boxes.

    Residuals are in standard deviations of the perturbation: the expected loss of a flat f is D.

    Args:
        std: of the perturbation, in standard deviations of the noise.
        num_noise_samples: M perturbed boxes per true box.
    """

    is_density, returns_samples = True, False

    def __init__(self, std: float = 0.5, num_noise_samples: int = 32) -> None:
        check_positive("std", std)
        check_count("num_noise_samples", num_noise_samples)
        self.std, self.num_noise_samples = std, num_noise_samples

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box, the mean over its perturbed boxes."""
        log_density = ResidualDensity(f, LocalCoding(noise.boxes, noise.noise_std * self.std))
        num, columns = noise.boxes.shape
        shape = (num, self.num_noise_samples, columns)
        residuals = standard_normal(shape, noise.boxes, noise.generator)
        loss = dsm_loss(gradient_of(log_density, residuals), residuals, 1.0)
        return TrainingLoss(loss.mean(dim=1))
