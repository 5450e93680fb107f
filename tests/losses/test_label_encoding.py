"""Regularizers of learned codes, by hand; cross entropy with soft labels."""

from __future__ import annotations

import pytest
import torch

from ebm3d.losses import code_distance_penalty, code_smoothness_penalty, soft_cross_entropy
from tests.oracles import label_encodings as oracle


def test_distance_penalty_is_the_published_sum():
    codes = torch.randn(5, 2, 4, dtype=torch.float64)
    labels = torch.randn(5, 2, dtype=torch.float64)
    expected = torch.zeros(2, dtype=torch.float64)
    for d in range(2):
        for i in range(5):
            for j in range(5):
                gap = (
                    2 * (labels[i, d] - labels[j, d]).abs()
                    - (codes[i, d] - codes[j, d]).abs().sum()
                )
                expected[d] += gap.clamp_min(0) / 5
    torch.testing.assert_close(code_distance_penalty(codes, labels), expected)
    assert code_distance_penalty(codes[:0], labels[:0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="labels"):
        code_distance_penalty(codes, labels[:, :1])


def test_smoothness_penalty_sums_the_steps_from_level_to_level():
    codebook = torch.tensor([[0.0, 2.0, 1.0], [1.0, 1.0, -2.0]])
    assert float(code_smoothness_penalty(codebook)) == 6
    assert float(code_smoothness_penalty(codebook, "squared")) == 14
    with pytest.raises(ValueError, match="kind"):
        code_smoothness_penalty(codebook, "l2")


def test_distance_penalty_has_gradients_also_of_equal_codes():
    labels = 8 * torch.rand(5, 2, dtype=torch.float64)
    codes = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: code_distance_penalty(z, labels), (codes,))
    equal = torch.zeros(5, 2, 3, dtype=torch.float64, requires_grad=True)
    code_distance_penalty(equal, labels).sum().backward()
    assert bool(torch.isfinite(equal.grad).all())


def test_cross_entropy_is_plain_for_one_hot_labels_and_at_least_the_entropy():
    scores, classes = torch.randn(4, 9), torch.tensor([0, 3, 8, 5])
    one_hot = torch.nn.functional.one_hot(classes, 9).float()
    plain = torch.nn.functional.cross_entropy(scores, classes, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(scores, one_hot), plain)
    phi = torch.tensor(oracle.laplace_labels(3.3, 9))
    entropy = -(phi * phi.log()).sum()
    torch.testing.assert_close(soft_cross_entropy(phi.log() + 5, phi), entropy)
    assert bool((soft_cross_entropy(torch.randn(50, 9), phi.expand(50, 9)) > entropy).all())
