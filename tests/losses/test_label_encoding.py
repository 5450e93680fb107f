"""Regularizers of learned codes, by hand."""

from __future__ import annotations

import pytest
import torch

from ebm3d.losses import code_distance_penalty, code_smoothness_penalty


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
