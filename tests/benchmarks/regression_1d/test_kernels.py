from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.benchmarks.regression_1d import fused_energy, kernels, slope_kernels
from ebm3d.benchmarks.regression_1d.fused_energy import (
    energy_contrast,
    energy_slopes,
    energy_values,
    plain_energy_values,
)
from ebm3d.benchmarks.regression_1d.kernels import NUM_PARAMETERS, NUM_UNITS
from ebm3d.losses import mlis_loss, nce_loss

# A row that fills a block, one that begins a second one, and a short one.
SIZES = (256, 300, 3)


def _inputs(num_values: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters, context and y of two models and three rows, float32."""
    parameters = 0.5 * torch.randn(2, NUM_PARAMETERS, generator=generator)
    context = torch.randn(2, 3, NUM_UNITS, generator=generator)
    return parameters, context, torch.randn(2, 3, num_values, generator=generator)


def _exact(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Value in float64, and gradients of a weighted sum, by torch."""
    leaves = [value.double().requires_grad_() for value in inputs]
    value = function(*leaves)
    weights = torch.linspace(-1, 1, value.numel()).double().view_as(value)
    return value.detach(), *torch.autograd.grad((weights * value).sum(), leaves)


def _slopes(parameters: Tensor, context: Tensor, y: Tensor) -> Tensor:
    """df/dy by torch, with a graph."""
    value = plain_energy_values(parameters, context, y)
    (slopes,) = torch.autograd.grad(value.sum(), y, create_graph=True)
    return slopes


def _assert_close(ours: Tensor, exact: Tensor) -> None:
    # float32 sums of some hundred terms: errors by the size of the largest entry.
    assert float((ours.double() - exact).abs().max()) <= 3e-6 * max(float(exact.abs().max()), 1.0)


def test_tanh_is_the_hyperbolic_tangent():
    x = np.linspace(-20, 20, 40001, dtype=np.float32)
    ours = np.array([kernels.tanh.py_func(value) for value in x])
    assert np.abs(ours - np.tanh(x.astype(np.float64))).max() < 4e-7
    h = np.empty((NUM_UNITS, len(x)), np.float32)
    theta = np.zeros(NUM_PARAMETERS, np.float32)
    theta[:NUM_UNITS] = 1
    kernels.first_layer(theta, x, h)
    assert np.abs(h - np.tanh(x.astype(np.float64))).max() < 4e-7


def test_tanh_keeps_nan():
    assert np.isnan(kernels.tanh.py_func(np.float32(np.nan)))


@pytest.mark.parametrize("size", SIZES)
def test_values_and_their_gradients_are_those_of_torch(size: int, generator: torch.Generator):
    inputs = _inputs(size, generator)
    exact = _exact(plain_energy_values, *inputs)
    leaves = [value.clone().requires_grad_() for value in inputs]
    f = energy_values(*leaves)
    weights = torch.linspace(-1, 1, f.numel()).view_as(f)
    for ours, expected in zip(
        (f, *torch.autograd.grad((weights * f).sum(), leaves)), exact, strict=True
    ):
        _assert_close(ours.detach(), expected)


@pytest.mark.parametrize("size", SIZES)
def test_slopes_and_their_gradients_are_those_of_torch(size: int, generator: torch.Generator):
    inputs = _inputs(size, generator)
    slopes, of_parameters, of_context, _ = _exact(_slopes, *inputs)
    leaves = [value.clone().requires_grad_() for value in inputs[:2]]
    ours = energy_slopes(*leaves, inputs[2])
    _assert_close(ours.detach(), slopes)
    weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    found = torch.autograd.grad((weights * ours).sum(), leaves)
    _assert_close(found[0], of_parameters)
    _assert_close(found[1], of_context)


def test_the_plain_energy_has_the_gradients_of_finite_differences(generator: torch.Generator):
    inputs = [v[:1].double() for v in _inputs(1, generator)]
    inputs = [v.requires_grad_() for v in (inputs[0], inputs[1][:, :1], inputs[2][:, :1])]
    assert torch.autograd.gradcheck(plain_energy_values, inputs)
    assert torch.autograd.gradcheck(_slopes, inputs)


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.values_kernel,
        kernels.gradients_kernel,
        slope_kernels.slopes_kernel,
        slope_kernels.slope_gradients_kernel,
    ],
    ids=lambda kernel: kernel.__name__,
)
def test_a_kernel_gives_the_same_compiled_and_not(kernel: Any, generator: torch.Generator):
    inputs = [value.numpy() for value in _inputs(5, generator)]
    weights = np.linspace(-1, 1, 30, dtype=np.float32).reshape(2, 3, 5)
    rows = np.zeros((2, 3, NUM_PARAMETERS), np.float32)
    context, values = np.zeros((2, 3, NUM_UNITS), np.float32), np.zeros((2, 3, 5), np.float32)
    outputs = {
        "values_kernel": (values,),
        "slopes_kernel": (values, values.copy()),
    }.get(kernel.__name__, (weights, rows, context))
    others = tuple(output.copy() for output in outputs)
    kernel(*inputs, *outputs)
    kernel.py_func(*inputs, *others)
    for ours, plain in zip(outputs, others, strict=True):
        np.testing.assert_array_equal(ours, plain)
        assert np.abs(ours).max() > 0


def test_results_do_not_depend_on_the_models_beside(generator: torch.Generator):
    parameters, context, y = _inputs(40, generator)
    together = energy_values(parameters, context, y)
    alone = [energy_values(parameters[k : k + 1], context[k : k + 1], y[k : k + 1]) for k in (0, 1)]
    assert torch.equal(together, torch.cat(alone))


def test_arguments_need_not_be_contiguous(generator: torch.Generator):
    parameters, context, y = _inputs(4, generator)
    expanded, transposed = y[:, :, :1].expand(-1, -1, 4), y.mT.contiguous().mT
    for value in (expanded, transposed):
        expected = energy_values(parameters, context, value.contiguous())
        assert torch.equal(energy_values(parameters, context, value), expected)


def test_nothing_to_evaluate_is_legal(generator: torch.Generator):
    parameters, context, y = _inputs(4, generator)
    assert energy_values(parameters, context, y[:, :, :0]).shape == (2, 3, 0)
    assert energy_slopes(parameters, context[:, :0], y[:, :0]).shape == (2, 0, 4)


def test_there_is_no_second_derivative(generator: torch.Generator):
    parameters, context, y = _inputs(4, generator)
    y.requires_grad_()
    f = energy_values(parameters, context, y)
    weights = torch.ones_like(f, requires_grad=True)
    (slopes,) = torch.autograd.grad(f, y, weights, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slopes.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, c, y: (p[:, 1:], c, y), "parameters must have shape"),
        (lambda p, c, y: (p, c[:1], y), "context must have shape"),
        (lambda p, c, y: (p, c, y[:, 1:]), "y must have shape"),
        (lambda p, c, y: (p, c, y.double()), "y must be float32 on the CPU, but got torch.float64"),
    ],
)
def test_wrong_arguments_are_named(
    change: Callable[..., tuple[Tensor, ...]], message: str, generator: torch.Generator
):
    with pytest.raises(ValueError, match=message):
        fused_energy.energy_values(*change(*_inputs(4, generator)))


@pytest.mark.parametrize("num_values", SIZES)
def test_the_contrast_is_the_loss_of_the_values_with_its_gradients(num_values: int):
    generator = torch.Generator().manual_seed(5)
    parameters, context, y = _inputs(num_values, generator)
    log_q = torch.randn(y.shape, generator=generator)

    def loss(parameters: Tensor, context: Tensor) -> Tensor:
        f = plain_energy_values(parameters, context, y.to(parameters))
        return nce_loss(f, log_q.to(f)) - log_q[..., 0].to(f)

    exact = _exact(loss, parameters, context)
    leaves = [parameters.requires_grad_(), context.requires_grad_()]
    losses = energy_contrast(*leaves, y, log_q)
    weights = torch.linspace(-1, 1, losses.numel()).view_as(losses)
    found = torch.autograd.grad((weights * losses).sum(), leaves)
    for ours, wanted in zip((losses.detach(), *found), exact, strict=True):
        _assert_close(ours, wanted)


def test_without_the_true_value_the_contrast_is_the_sampled_likelihood():
    parameters, context, y = _inputs(40, torch.Generator().manual_seed(6))
    log_q = torch.zeros_like(y)
    log_q[..., 0] = torch.inf
    f = energy_values(parameters, context, y)
    likelihood = mlis_loss(f[..., 0], f[..., 1:], log_q[..., 1:]) + math.log(39)
    torch.testing.assert_close(energy_contrast(parameters, context, y, log_q), likelihood)


def test_the_contrast_wants_a_density_of_every_value():
    parameters, context, y = _inputs(4, torch.Generator().manual_seed(7))
    with pytest.raises(ValueError, match="log_q"):
        energy_contrast(parameters, context, y, y[..., 1:])
