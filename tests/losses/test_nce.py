from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ebm3d.losses import NCELoss, nce_loss
from ebm3d.noise import NoiseSamples
from tests.losses.discrete import P, Q, expectation, largest_slope


def _inputs(*shape: int) -> tuple[Tensor, Tensor]:
    f = 3 * torch.randn(*shape, dtype=torch.float64)
    return f, torch.randn(*shape, dtype=torch.float64) - 5


def test_loss_is_the_published_sum_of_densities():
    f, log_q = _inputs(3, 6)
    ratio = np.exp(f.numpy()) / np.exp(log_q.numpy())
    expected = -np.log(ratio[:, 0] / ratio.sum(axis=1))
    np.testing.assert_allclose(nce_loss(f, log_q), expected, rtol=1e-12)


def test_expected_gradient_vanishes_at_the_true_log_density_and_nowhere_else():
    def loss(f: Tensor) -> Tensor:
        return expectation(lambda i, j: nce_loss(f[[i, j]], Q.log()[[i, j]]))

    assert largest_slope(loss, P.log() + 2.5) < 1e-14
    assert largest_slope(loss, torch.zeros_like(P)) > 0.05


def test_perturbed_positives_lead_to_the_smoothed_density():
    # NCE+: positives are true values moved by a kernel; f = log of p times the kernel, not log p.
    kernel = torch.full((4, 4), 0.1, dtype=torch.float64) + 0.6 * torch.eye(4, dtype=torch.float64)

    def loss(f: Tensor) -> Tensor:
        values = [
            P[true] * expectation(lambda i, j: nce_loss(f[[i, j]], Q.log()[[i, j]]), kernel[true])
            for true in range(4)
        ]
        return torch.stack(values).sum()

    assert largest_slope(loss, (P @ kernel).log() - 1.3) < 1e-14
    assert largest_slope(loss, P.log()) > 1e-3


def test_loss_is_finite_where_densities_underflow():
    f = torch.tensor([[0.0, -800.0, 3.0]])
    log_q = torch.tensor([[-400.0, -1200.0, -5000.0]])
    torch.testing.assert_close(nce_loss(f, log_q), torch.tensor([4603.0]))


def test_rank_tells_whether_the_true_box_is_before_all_its_noise():
    f = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 3.0], [2.0, 0.0, 1.0]])
    log_q = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])

    class Drawn:
        def sample(self, num_samples: int) -> NoiseSamples:
            return NoiseSamples(torch.zeros(3, 3, 7), log_q)

    result = NCELoss(2)(lambda _: f, Drawn())
    assert result.logged["rank_first"].tolist() == [1.0, 0.0, 0.0]
