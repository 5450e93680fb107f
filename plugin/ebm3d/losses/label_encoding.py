"""Losses of label encodings: cross entropies (nats), and the regularizers of learned codes.

N boxes; D dimensions, each with its code; M bits; L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ebm3d.errors import input_error, shape_error


def soft_cross_entropy(scores: Tensor, soft_labels: Tensor) -> Tensor:
    r"""Cross entropy of soft labels and the softmax of scores.

    .. math:: -\sum_j \phi_j \log \mathrm{softmax}(C)_j

    docs/method.md, M-13. Scores C and soft labels phi ``(..., L)``; returns ``(...)``.
    """
    if scores.shape != soft_labels.shape:
        raise shape_error("soft_labels", f"{tuple(scores.shape)} like scores", soft_labels)
    return -(soft_labels * torch.log_softmax(scores, dim=-1)).sum(dim=-1)


def bit_cross_entropy(logits: Tensor, bits: Tensor) -> Tensor:
    r"""Binary cross entropy of the bits of a code, summed over them.

    .. math:: -\sum_m \big(b_m \log\sigma(z_m) + (1 - b_m) \log\sigma(-z_m)\big)

    docs/method.md, M-12. Logits z and bits b in [0, 1], ``(..., M)``; returns ``(...)``.
    """
    if logits.shape != bits.shape:
        raise shape_error("bits", f"{tuple(logits.shape)} like logits", bits)
    return binary_cross_entropy_with_logits(logits, bits, reduction="none").sum(dim=-1)


def code_distance_penalty(codes: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    r"""Penalty for codes that are closer to each other than twice their labels are.

    .. math::
        R_1 = \frac1N \sum_i \sum_j \max\big(0,\; 2 |y_i - y_j| - \|Z_i - Z_j\|_1\big)

    Source: Shah and Aamodt, "Learning Label Encodings for Deep Regression", ICLR 2023.
    docs/method.md, M-13. Codes Z ``(N, D, M)``, labels y ``(N, D)`` in levels; returns ``(D,)``.
    Pairs are left out where a label is not ``known`` ``(N, D)``.
    """
    if codes.ndim != 3 or labels.shape != codes.shape[:2]:
        raise shape_error("labels", "(N, D) like codes (N, D, M)", labels)
    z, y = codes.transpose(0, 1), labels.T[..., None]
    # One dimension at a time: cdist's gradient of equal codes is zero, and finite.
    hinge = torch.relu(2 * torch.cdist(y, y, p=1) - torch.cdist(z, z, p=1))
    if known is not None:
        hinge = torch.where(known.T[:, None] & known.T[..., None], hinge, 0.0)
    return hinge.sum(dim=(1, 2)) / max(len(codes), 1)


def code_smoothness_penalty(codebook: Tensor, kind: str = "l1") -> Tensor:
    r"""Penalty for bits that change from level to level.

    .. math:: R_2 = \sum_m \sum_j |D_{mj} - D_{m,j+1}|

    Source: as :func:`code_distance_penalty`; "squared" squares the differences, as its released
    code does. Codebook D ``(..., M, L)``; returns ``(...)``.
    """
    steps = codebook.diff(dim=-1)
    if kind == "l1":
        return steps.abs().sum(dim=(-2, -1))
    if kind == "squared":
        return steps.square().sum(dim=(-2, -1))
    raise input_error("kind", "l1 or squared", repr(kind))
