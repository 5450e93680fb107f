from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ebm3d.losses import NCELoss, nce_loss
from ebm3d.noise import NoiseSamples


def _inputs(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    f = 3 * torch.randn(*shape, dtype=torch.float64)
    return f, torch.randn(*shape, dtype=torch.float64) - 5


class _Drawn:
    """Noise whose samples are given."""

    def __init__(self, samples: NoiseSamples) -> None:
        self.samples = samples

    def sample(self, num_samples: int) -> NoiseSamples:
        assert num_samples == self.samples.boxes.shape[1] - 1
        return self.samples


@pytest.mark.parametrize("num_noise_samples", [1, 7, 128])
def test_loss_is_log_of_the_number_of_candidates_when_f_equals_log_q(num_noise_samples: int):
    _, log_q = _inputs(4, num_noise_samples + 1)
    loss = nce_loss(log_q + 17.3, log_q)
    expected = torch.full((4,), math.log(num_noise_samples + 1), dtype=torch.float64)
    torch.testing.assert_close(loss, expected)


def test_loss_is_the_published_sum_of_densities():
    f, log_q = _inputs(3, 6)
    ratio = np.exp(f.numpy()) / np.exp(log_q.numpy())
    expected = -np.log(ratio[:, 0] / ratio.sum(axis=1))
    np.testing.assert_allclose(nce_loss(f, log_q), expected, rtol=1e-12)


def test_true_box_far_above_its_noise_costs_nothing():
    f, log_q = torch.zeros(1, 5), torch.zeros(1, 5)
    f[0, 0] = 100.0
    torch.testing.assert_close(nce_loss(f, log_q), torch.zeros(1))


def test_gradient_is_the_posterior_minus_the_true_index():
    f, log_q = _inputs(5, 9)
    f.requires_grad_()
    nce_loss(f, log_q).sum().backward()
    posterior = torch.softmax((f - log_q).detach(), dim=1)
    posterior[:, 0] -= 1
    torch.testing.assert_close(f.grad, posterior)


def test_expected_gradient_vanishes_at_the_true_log_density():
    # A discrete world of four boxes, true distribution p, noise q, M = 1: with f = log p + c the
    # expected gradient in every f(y) is zero; summed over all draws by hand.
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    table = (p.log() + 2.5).requires_grad_()
    expected = sum(
        p[true] * q[noise] * nce_loss(table[[true, noise]], q.log()[[true, noise]])
        for true in range(4)
        for noise in range(4)
    )
    (gradient,) = torch.autograd.grad(expected, table)
    torch.testing.assert_close(gradient, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_expected_gradient_does_not_vanish_elsewhere():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    table = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    expected = sum(
        p[true] * q[noise] * nce_loss(table[[true, noise]], q.log()[[true, noise]])
        for true in range(4)
        for noise in range(4)
    )
    (gradient,) = torch.autograd.grad(expected, table)
    assert float(gradient.abs().max()) > 0.05


def test_perturbed_positives_lead_to_the_smoothed_density():
    # NCE+: positives are true values moved by a kernel; f = log of p times the kernel, not log p.
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    kernel = torch.full((4, 4), 0.1, dtype=torch.float64) + 0.6 * torch.eye(4, dtype=torch.float64)
    smoothed = p @ kernel
    for start, is_best in ((smoothed.log() - 1.3, True), (p.log(), False)):
        table = start.clone().requires_grad_()
        expected = sum(
            p[true]
            * kernel[true, positive]
            * q[noise]
            * nce_loss(table[[positive, noise]], q.log()[[positive, noise]])
            for true in range(4)
            for positive in range(4)
            for noise in range(4)
        )
        (gradient,) = torch.autograd.grad(expected, table)
        assert (float(gradient.abs().max()) < 1e-14) == is_best


def test_loss_is_finite_where_densities_underflow():
    f = torch.tensor([[0.0, -800.0, 3.0]])
    log_q = torch.tensor([[-400.0, -1200.0, -5000.0]])
    torch.testing.assert_close(nce_loss(f, log_q), torch.tensor([4603.0]))


def test_noise_sample_of_no_density_under_f_is_ignored():
    f = torch.tensor([[1.0, 0.5, -math.inf]])
    log_q = torch.zeros(1, 3)
    torch.testing.assert_close(nce_loss(f, log_q), nce_loss(f[:, :2], log_q[:, :2]))


def test_loss_is_differentiable_twice_in_both_arguments():
    f, log_q = (t.requires_grad_() for t in _inputs(2, 4))
    assert torch.autograd.gradcheck(nce_loss, (f, log_q))
    assert torch.autograd.gradgradcheck(nce_loss, (f, log_q))


def test_leading_axes_are_kept_and_no_boxes_cost_nothing():
    assert nce_loss(*_inputs(2, 3, 5)).shape == (2, 3)
    assert nce_loss(*_inputs(0, 5)).shape == (0,)


def test_callable_form_is_the_function():
    f, log_q = _inputs(2, 4)
    noise = _Drawn(NoiseSamples(torch.zeros(2, 4, 7), log_q))
    result = NCELoss(3)(lambda boxes: f.reshape(boxes.shape[:2]), noise)
    assert torch.equal(result.per_box, nce_loss(f, log_q))


def test_rank_tells_whether_the_true_box_is_before_all_its_noise():
    f = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 3.0], [2.0, 0.0, 1.0]])
    log_q = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    result = NCELoss(2)(lambda _: f, _Drawn(NoiseSamples(torch.zeros(3, 3, 7), log_q)))
    assert result.logged["rank_first"].tolist() == [1.0, 0.0, 0.0]


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"log_q must have shape \(2, 4\) like f"):
        nce_loss(torch.zeros(2, 4), torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_loss_without_noise_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="M >= 1"):
        nce_loss(torch.zeros(shape), torch.zeros(shape))
