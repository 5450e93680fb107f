"""Score matching: densities learned from the derivatives of f in its argument alone.

D dimensions; S slices. The "score" of the statistics literature is the gradient of f.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.devices import standard_normal, whole_numbers
from ebm3d.errors import check_count, check_positive, input_error, shape_error
from ebm3d.losses.training import (
    BatchScorer,
    NoiseAround,
    TrainingLoss,
)
from ebm3d.refiners.residual_density import ResidualDensity
from ebm3d.registry import register

PointScorer = Callable[[Tensor], Tensor]


def gradient_of(f: PointScorer, points: Tensor) -> Tensor:
    """Return the gradient of f in its argument, with a graph to the parameters of f.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself.
        points: ``(..., D)``; their own graph, if any, is left behind.

    Returns:
        ``(..., D)``. Under ``torch.no_grad`` it has no graph.

    Raises:
        ValueError: if f gives another shape or cannot be differentiated.
    """
    keep = torch.is_grad_enabled()
    gradient = _gradient(f, _leaf(points), create_graph=keep)
    return gradient if keep else gradient.detach()


def score_matching_loss(f: PointScorer, points: Tensor) -> Tensor:
    r"""Score matching with the exact trace of the Hessian.

    .. math:: L = \operatorname{tr}\nabla^2 f(y) + \tfrac12\|\nabla f(y)\|^2

    Source: Hyvärinen, "Estimation of Non-Normalized Statistical Models by Score Matching", JMLR
    2005; for regression Gustafsson et al., BMVC 2020. docs/method.md, M-24. Its expectation is
    half the expected squared difference of the gradients of f and log p, less a constant of p, if
    p is smooth and vanishes at the border. Unbounded below for a finite set of points: a density
    of ever sharper peaks on them.

    Needs third derivatives of f (two in y, one in the parameters), and a gradient for each
    dimension: time and memory grow with D.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself; twice differentiable.
        points: ``(..., D)`` samples of the density to be learned; constants.

    Returns:
        ``(...)``; no reduction.

    Raises:
        ValueError: if f gives another shape or cannot be differentiated.
    """
    keep, leaf = torch.is_grad_enabled(), _leaf(points)
    with torch.enable_grad():
        gradient = _gradient(f, leaf, create_graph=True)
        trace = gradient.new_zeros(gradient.shape[:-1])
        for d in range(gradient.shape[-1]):
            trace = trace + _directional(gradient[..., d], leaf, keep)[..., d]
        loss = trace + 0.5 * gradient.square().sum(-1)
    return loss if keep else loss.detach()


def sliced_score_matching_loss(
    f: PointScorer,
    points: Tensor,
    num_slices: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Score matching with the trace estimated along random directions.

    .. math:: L = \frac1S\sum_{s=1}^{S} v_s^\top \nabla^2 f(y)\, v_s + \tfrac12\|\nabla f(y)\|^2

    Source: Song et al., "Sliced Score Matching: A Scalable Approach to Density and Score
    Estimation", UAI 2019, the variant of reduced variance. docs/method.md, M-24. Deviation: v has
    entries of +1 and -1, for which the trace has the least variance (none for D = 1), instead of
    normal ones. Unbiased for :func:`score_matching_loss`; a gradient for each slice.

    Args:
        f: from ``(..., D)`` to ``(...)``, every point by itself; twice differentiable.
        points: ``(..., D)``; constants.
        num_slices: S, directions drawn for each point.
        generator: source of randomness on the device of ``points``.

    Returns:
        ``(...)``; no reduction.

    Raises:
        ValueError: if there is no slice, f gives another shape or cannot be differentiated.
    """
    check_count("num_slices", num_slices)
    keep, leaf = torch.is_grad_enabled(), _leaf(points)
    with torch.enable_grad():
        gradient = _gradient(f, leaf, create_graph=True)
        trace = gradient.new_zeros(gradient.shape[:-1])
        for _ in range(num_slices):
            coin = whole_numbers(2, tuple(points.shape), points, generator)
            v = 2 * coin.to(points.dtype) - 1
            trace = trace + (v * _directional((v * gradient).sum(-1), leaf, keep)).sum(-1)
        loss = trace / num_slices + 0.5 * gradient.square().sum(-1)
    return loss if keep else loss.detach()


def dsm_loss(gradient: Tensor, residual: Tensor, variance: Tensor | float) -> Tensor:
    r"""Denoising score matching.

    .. math:: L = \Big\|\nabla f(\tilde y) + \frac{\tilde y - y}{\sigma^2}\Big\|^2,
        \quad \tilde y \sim \mathcal N(y, \sigma^2)

    Source: Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011; for
    regression Gustafsson et al., BMVC 2020. docs/method.md, M-24. Its expectation is least where f
    is, up to a constant, the log density of the data *smoothed by the noise*.

    Args:
        gradient: ``(..., D)`` gradient of f at the perturbed values, see :func:`gradient_of`.
        residual: ``(..., D)`` perturbed less true values.
        variance: of the noise; a number, or of a shape that broadcasts to ``residual``.

    Returns:
        ``(...)`` in units of 1 / y squared, summed over D; no reduction. At best, in expectation,
        the variance of ``residual / variance`` given the perturbed value: below D / variance.

    Raises:
        ValueError: if the shapes do not fit, or a variance that is a number is not positive.
    """
    if gradient.shape != residual.shape:
        raise shape_error("gradient", f"{tuple(residual.shape)} like residual", gradient)
    _check_variance(variance, residual)
    return (gradient + residual / variance).square().sum(-1)


@register
class ScoreMatchingLoss:
    """Trains f by score matching at the true boxes, in residuals of the noise's units.

    The units weigh the dimensions against each other; no noise is drawn. Where f reads a map by
    bilinear interpolation, its gradient jumps at the borders of cells; the trace of the Hessian
    misses the jumps, so that the density learned is biased there.

    Args:
        kind: "exact" for :func:`score_matching_loss`, seven second derivatives; "sliced" for
            :func:`sliced_score_matching_loss`.
        num_slices: directions per true box, with "sliced" only; 1 if left out.

    Attributes:
        is_density: f becomes an unnormalized log density.
        draws_noise, returns_samples: as in :class:`ebm3d.losses.training.TrainingMethod`.

    Raises:
        ValueError: for an unknown kind, no slice, or a number of them with "exact".
    """

    is_density = True
    draws_noise, returns_samples = False, False

    def __init__(self, kind: str = "exact", num_slices: int | None = None) -> None:
        if kind not in ("exact", "sliced"):
            raise input_error("kind", "'exact' or 'sliced'", repr(kind))
        if kind == "exact" and num_slices is not None:
            raise input_error("num_slices", "given with kind='sliced' only", num_slices)
        self.kind, self.num_slices = kind, 1 if num_slices is None else num_slices
        check_count("num_slices", self.num_slices)

    def __call__(self, f: BatchScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones; three times differentiable, twice in the boxes.
            noise: bound to the true boxes; only its units and its generator are used.

        Returns:
            Loss per true box.
        """
        scorer = ResidualDensity(f, LocalCoding(noise.boxes, noise.noise_std))
        points = noise.boxes.new_zeros(len(noise.boxes), 1, 7)
        if self.kind == "exact":
            return TrainingLoss(score_matching_loss(scorer, points)[:, 0])
        loss = sliced_score_matching_loss(scorer, points, self.num_slices, noise.generator)
        return TrainingLoss(loss[:, 0])


@register
class DSMLoss:
    """Trains f by :func:`dsm_loss` on Gaussian residuals around the true boxes.

    The loss is that of residuals in units of the perturbation's standard deviation: its weight does
    not depend on how wide that is, and a flat h, the log density of residuals, has the expected
    loss 7.

    Args:
        std: of the perturbation, in standard deviations of the noise.
        num_noise_samples: M perturbed boxes per true box.

    Attributes:
        is_density: f becomes an unnormalized log density, that of the perturbed boxes.
        draws_noise, returns_samples: as in :class:`ebm3d.losses.training.TrainingMethod`.

    Raises:
        ValueError: if M is below one or the standard deviation is not positive and finite.
    """

    is_density = True
    draws_noise, returns_samples = False, False

    def __init__(self, std: float = 0.5, num_noise_samples: int = 32) -> None:
        check_positive("std", std)
        check_count("num_noise_samples", num_noise_samples)
        self.std, self.num_noise_samples = std, num_noise_samples

    def __call__(self, f: BatchScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones; twice differentiable, once in the boxes.
            noise: bound to the true boxes; only its units and its generator are used.

        Returns:
            Loss per true box, the mean over its perturbed boxes.
        """
        scorer = ResidualDensity(f, LocalCoding(noise.boxes, noise.noise_std * self.std))
        shape = (len(noise.boxes), self.num_noise_samples, 7)
        residuals = standard_normal(shape, noise.boxes, noise.generator)
        loss = dsm_loss(gradient_of(scorer, residuals), residuals, 1.0)
        return TrainingLoss(loss.mean(dim=1))


def _check_variance(variance: Tensor | float, residual: Tensor) -> None:
    """Raise unless a variance is positive, or of a shape that broadcasts to the residuals."""
    if not isinstance(variance, Tensor):
        check_positive("variance", variance)
        return
    sizes = zip(reversed(variance.shape), reversed(residual.shape), strict=False)
    fits = variance.ndim <= residual.ndim and all(size in (1, other) for size, other in sizes)
    if not fits:
        raise shape_error("variance", f"one that broadcasts to {tuple(residual.shape)}", variance)


def _leaf(points: Tensor) -> Tensor:
    """Points ``(..., D)`` that gradients are taken in."""
    if points.ndim == 0:
        raise shape_error("points", "(..., D)", points)
    if not points.is_floating_point():
        got, remedy = points.dtype, "pass points.float()"
        raise input_error("points", "of a floating-point type", got, remedy)
    return points.detach().requires_grad_()


def _gradient(f: PointScorer, leaf: Tensor, create_graph: bool) -> Tensor:
    """Gradient of f in ``leaf``, which requires one; zero of no points."""
    with torch.enable_grad():
        value = f(leaf)
        if getattr(value, "shape", None) != leaf.shape[:-1]:
            raise shape_error("f(points)", f"{tuple(leaf.shape[:-1])}, one per point", value)
        if leaf.numel() == 0:
            return torch.zeros_like(leaf)
        if not value.requires_grad:
            raise input_error("f", "differentiable in points", "values without a graph")
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=create_graph)
    return gradient


def _directional(slope: Tensor, leaf: Tensor, create_graph: bool) -> Tensor:
    """Gradient of slopes ``(...)`` in ``leaf`` ``(..., D)``; zero where f is linear."""
    if not slope.requires_grad:
        return torch.zeros_like(leaf)
    # The graph of the slopes is wanted by the next direction in any case.
    (found,) = torch.autograd.grad(
        slope.sum(), leaf, create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(leaf) if found is None else found
