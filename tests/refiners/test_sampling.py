from __future__ import annotations

import math

import pytest
import torch

from ebm3d.refiners import laplace_approximation, sample_boxes
from tests.refiners.gaussians import known_gaussian

_CHAINS = 4000


def test_chains_from_a_wrong_gaussian_reach_the_density_of_f():
    # The start is twice as wide as the density and off by half a unit; the law of the chain on a
    # quadratic is exact: variance 1 / (1 - step^2 k / 4) in coordinates where the curvature is k.
    g = known_gaussian(2)
    right = laplace_approximation(g, g.boxes, g.noise_std)
    wrong = type(right)(
        right.coding,
        right.mean + 0.5,
        2 * right.scale_tril,
        right.log_normalizer,
        right.num_projected,
    )
    step, curvature = 0.25, 4.0
    drawn = sample_boxes(g, wrong, _CHAINS, 80, step, torch.Generator().manual_seed(5))
    residuals = g.coding.encode(drawn)
    expected = g.covariance / (1 - step**2 * curvature / 4)
    variance = expected.diagonal(dim1=1, dim2=2)
    error = (variance / _CHAINS).sqrt()
    assert bool(((residuals.mean(0) - g.mean).abs() <= 5 * error).all())
    offset = residuals - residuals.mean(0)
    found = torch.einsum("kni,knj->nij", offset, offset) / (_CHAINS - 1)
    products = variance[:, :, None] * variance[:, None] + expected.square()
    assert bool(((found - expected).abs() <= 5 * (products / _CHAINS).sqrt()).all())


def test_no_steps_draw_from_the_approximation():
    g = known_gaussian(2)
    approximation = laplace_approximation(g, g.boxes, g.noise_std)
    drawn = sample_boxes(g, approximation, 3, 0, generator=torch.Generator().manual_seed(5))
    normal = torch.randn(3, 2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    roots = torch.linalg.cholesky(g.covariance)
    expected = g.coding.decode(g.mean + torch.einsum("nij,knj->kni", roots, normal))
    torch.testing.assert_close(drawn, expected, rtol=1e-6, atol=1e-6)
    assert bool((drawn[..., 6].abs() <= math.pi).all())


def test_samples_are_those_of_the_generator_and_have_no_graph():
    g = known_gaussian(2)
    approximation = laplace_approximation(g, g.boxes, g.noise_std)
    first, second = (
        sample_boxes(g, approximation, 2, 3, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_no_boxes_have_no_samples():
    g = known_gaussian(0)
    approximation = laplace_approximation(lambda b: b.sum(-1), g.boxes, g.noise_std)
    assert sample_boxes(lambda b: b.sum(-1), approximation, 4).shape == (4, 0, 7)


def test_no_chains_are_refused():
    g = known_gaussian(1)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        sample_boxes(g, laplace_approximation(g, g.boxes, g.noise_std), 0)
