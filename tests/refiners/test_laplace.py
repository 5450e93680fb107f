from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.refiners import (
    Expansion,
    expand_by_differences,
    expand_exactly,
    laplace_approximation,
)
from tests.refiners.gaussians import LOG_Z, KnownGaussian, known_gaussian

METHODS = {"differences": 1.25, "short differences": 1e-2, "exact": None}
with_and_without_velocity = pytest.mark.parametrize("columns", [7, 9])
every_method = pytest.mark.parametrize("radius", METHODS.values(), ids=METHODS)
both_expansions = pytest.mark.parametrize("expand", [expand_by_differences, expand_exactly])


def _smooth(boxes: Tensor) -> Tensor:
    """No quadratic, all dimensions coupled, period 2 pi in the yaw: ``(N, S, D) -> (N, S)``."""
    sizes = torch.log(boxes[..., 3:6]).sum(-1)
    speed = torch.cos(boxes[..., 7:].sum(-1) + boxes[..., 0])
    return speed + (
        torch.sin(boxes[..., 0]) * torch.cos(boxes[..., 6])
        + torch.cos(boxes[..., 1] * boxes[..., 3] / 4)
        - (boxes[..., 2] * boxes[..., 4] - boxes[..., 5]).square()
        - sizes.square()
    )


def _expand(f: Any, g: KnownGaussian, radius: float | None) -> Expansion:
    if radius is None:
        return expand_exactly(f, g.boxes, g.noise_std)
    return expand_by_differences(f, g.boxes, g.noise_std, radius)


@every_method
@with_and_without_velocity
def test_expansion_of_a_gaussian_is_the_closed_form(radius: float | None, columns: int):
    g = known_gaussian(columns=columns)
    precision = torch.linalg.inv(g.covariance)
    expansion = _expand(g, g, radius)
    torch.testing.assert_close(expansion.hessian, -precision, rtol=1e-7, atol=1e-7)
    slope = (precision @ g.mean[..., None])[..., 0]
    torch.testing.assert_close(expansion.gradient, slope, rtol=1e-7, atol=1e-7)
    log_p = g.coding.log_volume(g.boxes) + g(g.boxes)
    torch.testing.assert_close(expansion.value, log_p)


@pytest.mark.parametrize(("columns", "count"), [(7, 8), (9, 12)])
def test_fit_weighs_values_and_slopes_at_balanced_points_as_least_squares(columns: int, count: int):
    # An independent solution, box by box, from the points f was evaluated at.
    g, evaluated, end = known_gaussian(2, columns), [], columns + 1

    def recording(boxes: Tensor) -> Tensor:
        evaluated.append((boxes.detach(), boxes.requires_grad))
        return _smooth(boxes)

    radius = 0.7
    fit = _expand(recording, g, radius)
    assert [(boxes.shape[1], grad) for boxes, grad in evaluated] == [(count, True), (1, False)]
    for n in range(2):
        coding = g.coding[n : n + 1]
        points = coding.encode(evaluated[0][0][n : n + 1])[0]
        lengths = points.norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((count,), radius, dtype=torch.float64))
        products = count / columns * radius**2 * torch.eye(columns, dtype=torch.float64)
        torch.testing.assert_close(points.T @ points, products)
        torch.testing.assert_close(points.sum(dim=0), torch.zeros_like(points[0]))
        rows, targets = [], []
        for t in points:

            def log_density(t: Tensor, coding: LocalCoding = coding) -> Tensor:
                box = coding.decode(t[None])
                return (_smooth(box[None])[0] + coding.log_volume(box))[0]

            leaf = t.clone().requires_grad_()
            value = log_density(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
            row = torch.zeros(end, end + columns**2, dtype=torch.float64)
            row[0] = torch.cat((torch.ones(1), t, 0.5 * torch.outer(t, t).flatten()))
            for d in range(columns):
                row[1 + d, 1 + d] = radius
                row[1 + d, end + columns * d : end + columns * (d + 1)] = radius * t
            rows.append(row)
            targets.append(torch.cat((value.detach()[None], radius * slope)))
        pairs = torch.triu_indices(columns, columns).T.tolist()
        symmetric = torch.zeros(end + columns**2, end + len(pairs), dtype=torch.float64)
        symmetric[:end, :end] = torch.eye(end)
        for k, (i, j) in enumerate(pairs):
            symmetric[end + columns * i + j, end + k] = 1
            symmetric[end + columns * j + i, end + k] = 1
        solved = torch.linalg.lstsq(torch.cat(rows) @ symmetric, torch.cat(targets)).solution
        torch.testing.assert_close(fit.gradient[n], solved[1:end])
        expected = (symmetric @ solved)[end:].view(columns, columns)
        torch.testing.assert_close(fit.hessian[n], expected)


def _hessians(f: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Of f ``(N,)`` at points ``(N, 7)``, by torch."""
    full = torch.autograd.functional.hessian(lambda points: f(points).sum(), at)
    return torch.stack([full[n, :, n] for n in range(len(at))])


@every_method
@with_and_without_velocity
def test_approximation_of_a_gaussian_is_the_gaussian_and_its_mass(
    radius: float | None, columns: int
):
    g = known_gaussian(columns=columns)
    laplace = laplace_approximation(g, g.boxes, g.noise_std, radius)
    torch.testing.assert_close(laplace.mean, g.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(laplace.covariance, g.covariance, rtol=1e-6, atol=1e-6)
    expected = torch.full((4,), LOG_Z, dtype=torch.float64)
    torch.testing.assert_close(laplace.log_normalizer, expected, rtol=1e-6, atol=1e-6)
    assert laplace.num_projected.tolist() == [0] * 4
    distribution = laplace.distribution()
    torch.testing.assert_close(distribution.boxes, g.boxes)
    # The density in meters is exp f over its mass.
    at = g.coding.decode(g.mean[:, None] + 0.2 * torch.randn(4, 5, columns, dtype=torch.float64))
    torch.testing.assert_close(distribution.log_prob(at), g(at) - LOG_Z, rtol=1e-5, atol=1e-5)


def test_covariance_at_a_mode_of_f_is_the_inverse_of_minus_the_hessian_in_meters():
    g = known_gaussian(2)
    expected = torch.linalg.inv(-_hessians(g, g.modes))
    laplace = laplace_approximation(g, g.modes, g.noise_std, None)
    torch.testing.assert_close(laplace.distribution().covariance, expected)


def _of_curvature(curvature: list[float], slope: float = 0.0) -> Any:
    """An f whose h has these curvatures along the axes, around boxes of known_gaussian(1)."""
    g = known_gaussian(1)

    def f(boxes: Tensor) -> Tensor:
        t = g.coding.encode(boxes)
        h = -0.5 * (t.square() * torch.tensor(curvature, dtype=torch.float64)).sum(-1)
        return h + slope * t.sum(-1) - g.coding.log_volume(boxes)

    return f, g


def test_directions_that_do_not_fall_have_the_width_of_the_noise_and_are_counted():
    f, g = _of_curvature([4.0, -3.0, 0.0, 0.25, 1.0, 1e6, 9.0])
    laplace = laplace_approximation(f, g.boxes, g.noise_std, min_std=0.02)
    variances = torch.tensor([[0.25, 1, 1, 1, 1, 0.0004, 1 / 9]], dtype=torch.float64)
    expected = torch.diag_embed(variances)
    # Rounding of f, 1e-16, times the largest curvature, 1e6.
    torch.testing.assert_close(laplace.covariance, expected, atol=1e-8, rtol=1e-7)
    # Convex, flat, wider than the noise, and narrower than the least width; one is just as wide.
    assert laplace.num_projected.tolist() in ([4], [5])


def test_shift_is_shortened_as_a_whole_and_the_mass_is_that_of_the_shortened_gaussian():
    f, g = _of_curvature([4.0] * 7, slope=6.0)
    free = laplace_approximation(f, g.boxes, g.noise_std, max_shift=10.0)
    short = laplace_approximation(f, g.boxes, g.noise_std, max_shift=0.5)
    torch.testing.assert_close(free.mean, torch.full((1, 7), 1.5, dtype=torch.float64))
    torch.testing.assert_close(short.mean, torch.full((1, 7), 0.5, dtype=torch.float64))
    at = g.coding.decode(short.mean)
    height = f(at[:, None])[:, 0] + g.coding.log_volume(at)
    expected = height + 3.5 * math.log(2 * math.pi) - 3.5 * math.log(4.0)
    torch.testing.assert_close(short.log_normalizer, expected)


def test_result_has_the_type_of_the_boxes_whatever_that_of_f():
    g = known_gaussian()
    single = KnownGaussian(*(t.float() for t in (g.boxes, g.noise_std, g.mean, g.covariance)))
    for f in (single, lambda boxes: g(boxes.double())):
        laplace = laplace_approximation(f, single.boxes, single.noise_std)
        assert laplace.mean.dtype == laplace.scale_tril.dtype == torch.float32
        torch.testing.assert_close(laplace.covariance.double(), g.covariance, rtol=0, atol=2e-4)


def test_boxes_do_not_see_each_other_and_many_are_split():
    g = known_gaussian(3)
    together = laplace_approximation(_smooth, g.boxes.repeat(80, 1), g.noise_std.repeat(80, 1))
    alone = laplace_approximation(_smooth, g.boxes[1:2], g.noise_std[1:2])
    torch.testing.assert_close(together.covariance[1], alone.covariance[0])
    torch.testing.assert_close(together.covariance[-2], alone.covariance[0])


@every_method
def test_invalid_f_has_no_density_and_its_neighbor_does(radius: float | None):
    g = known_gaussian(2)

    def f(boxes: Tensor) -> Tensor:
        return g(boxes) + torch.tensor([[math.nan], [0.0]], dtype=torch.float64)

    laplace = laplace_approximation(f, g.boxes, g.noise_std, radius)
    assert bool(torch.isnan(laplace.covariance[0]).any())
    assert bool(torch.isnan(laplace.log_normalizer[0]))
    assert bool(torch.isnan(laplace.distribution().std[0]).all())
    torch.testing.assert_close(laplace.covariance[1], g.covariance[1], rtol=1e-6, atol=1e-6)
    assert laplace.num_projected.tolist() == [0, 0]


@every_method
def test_no_boxes_have_no_densities(radius: float | None):
    g = known_gaussian(0)
    for f in (_smooth, lambda boxes: boxes.new_zeros(boxes.shape[:2])):
        laplace = laplace_approximation(f, g.boxes, g.noise_std, radius)
        assert laplace.covariance.shape == (0, 7, 7)
        assert laplace.distribution().std.shape == (0, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("radius", 0.0),
        ("min_std", 0.0),
        ("min_std", 2.0),
        ("max_std", math.inf),
        ("max_shift", -1.0),
    ],
)
def test_constants_out_of_range_are_refused(name: str, value: Any):
    g = known_gaussian()
    with pytest.raises(ValueError, match=name):
        laplace_approximation(g, g.boxes, g.noise_std, **{name: value})


@both_expansions
def test_wrong_f_boxes_and_scales_are_refused(expand: Any):
    g = known_gaussian()
    with pytest.raises(ValueError, match="f must be differentiable in boxes"):
        expand(lambda boxes: boxes[..., 0].detach(), g.boxes, g.noise_std)
    with pytest.raises(ValueError, match=r"f\(boxes\) must have shape"):
        expand(lambda boxes: boxes.sum(), g.boxes, g.noise_std)
    flat, none = g.boxes.clone(), g.noise_std.clone()
    flat[1, 4], none[1, 2] = 0, 0
    with pytest.raises(ValueError, match=r"boxes\[1\]"):
        expand(g, flat, g.noise_std)
    with pytest.raises(ValueError, match=r"noise_std\[1\]"):
        expand(g, g.boxes, none)
    with pytest.raises(ValueError, match="noise_std must have shape"):
        expand(g, g.boxes, g.noise_std[:1])
