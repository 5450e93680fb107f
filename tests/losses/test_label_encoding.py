"""Cross entropy with soft labels and the regularizers of RLEL: limits, gradients, shapes."""

from __future__ import annotations

import pytest
import torch

from ebm3d.losses import code_distance_penalty, code_smoothness_penalty, soft_cross_entropy
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")


def test_cross_entropy_is_plain_for_one_hot_labels_and_at_least_the_entropy():
    scores, classes = torch.randn(4, 9), torch.tensor([0, 3, 8, 5])
    one_hot = torch.nn.functional.one_hot(classes, 9).double()
    plain = torch.nn.functional.cross_entropy(scores, classes, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(scores, one_hot), plain)
    phi = torch.tensor(oracle.laplace_labels(3.3, 9))
    entropy = -(phi * phi.log()).sum()
    torch.testing.assert_close(soft_cross_entropy(phi.log() + 5, phi), entropy)
    assert bool((soft_cross_entropy(torch.randn(50, 9), phi.expand(50, 9)) > entropy).all())


def test_distance_penalty_vanishes_where_codes_are_twice_as_far_as_labels():
    labels = torch.tensor([[0.0], [1.5], [4.0]])
    codes = torch.cat((labels, labels), dim=1)[:, None]  # L1 distance 2 |y_i - y_j| exactly
    assert float(code_distance_penalty(codes, labels)) == 0
    assert float(code_distance_penalty(0.5 * codes, labels)) == pytest.approx(2 * 8 / 3)


def test_distance_penalty_has_gradients_and_no_order():
    labels = 8 * torch.rand(5, 2)
    codes = torch.randn(5, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: code_distance_penalty(z, labels), (codes,))
    order = torch.randperm(5)
    shuffled = code_distance_penalty(codes[order], labels[order])
    torch.testing.assert_close(shuffled, code_distance_penalty(codes, labels))
    equal = torch.zeros(5, 2, 3, requires_grad=True)
    code_distance_penalty(equal, labels).sum().backward()
    assert bool(torch.isfinite(equal.grad).all())


def test_smoothness_penalty_counts_the_changes_of_a_code_of_bits():
    # 0011, 0101 and 1111 change once, three times and never.
    codebook = torch.tensor([[0.0, 0, 1, 1], [0.0, 1, 0, 1], [1.0, 1, 1, 1]])
    assert float(code_smoothness_penalty(codebook)) == 4


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="soft_labels must have shape"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="labels must have shape"):
        code_distance_penalty(torch.zeros(4, 2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="kind must be l1 or squared"):
        code_smoothness_penalty(torch.zeros(2, 3), "l3")
