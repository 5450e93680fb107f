"""From the logits of M bits, the log odds that they are one, to L levels."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.codecs.codebooks import johnson_digits
from ebm3d.errors import input_error, shape_error

DECODERS = ("custom", "gen", "gen_ex")


def level_scores(logits: Tensor, code: Tensor) -> Tensor:
    r"""Correlate logits with the rows of a codebook.

    .. math::
        C_k = \sum_m D_{km} z_m = \mathrm{const} + \sum_m \log\sigma\big((2 D_{km} - 1) z_m\big)

    as :math:`\log\sigma(z) - \log\sigma(-z) = z`: the softmax of C is the distribution of levels
    given the logits, for independent bits and a uniform prior. Its largest entry is the level of
    GEN. docs/method.md, M-12. Logits z ``(..., M)``, code D ``(L, M)``; returns ``(..., L)``, nats.
    """
    if logits.ndim == 0 or logits.shape[-1] != code.shape[-1]:
        raise shape_error("logits", f"(..., {code.shape[-1]}) like the code's bits", logits)
    return logits @ code.T


def expected_level(scores: Tensor) -> Tensor:
    """Decode by GEN-EX: the expected level ``(...)`` under the softmax of scores ``(..., L)``."""
    levels = torch.arange(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    return torch.softmax(scores, dim=-1) @ levels


def counted_level(logits: Tensor, codebook: str, num_levels: int) -> Tensor:
    """Decode by counting ones, the custom decoder of each code.

    Unary: the number of ones. Johnson and its relatives, digit by digit: the number of ones c tells
    where the edge is, and the end at which they are whether the ring fills (state c) or drains
    (state 2 n - c). A level beyond L - 1, which a cut code does not have, is L - 1. Of logits
    ``(..., M)`` of any code but ``"hadamard"``, whole levels ``(...)`` in their dtype.
    """
    digits = counted_digits(codebook, num_levels)
    if logits.ndim == 0 or logits.shape[-1] != sum(digits):
        raise shape_error("logits", f"(..., {sum(digits)}) like the code's bits", logits)
    level = (logits > 0).sum(dim=-1) if codebook == "unary" else _decode_digits(logits, digits)
    return level.clamp_max(num_levels - 1).to(logits.dtype)


def counted_digits(codebook: str, num_levels: int) -> tuple[int, ...]:
    """Return the bits of each digit of :func:`counted_level`; raises for a code without edges."""
    if codebook == "hadamard":
        remedy = "decode Hadamard codes by gen or gen_ex"
        raise input_error("codebook", "one with edges", repr(codebook), remedy)
    return (num_levels,) if codebook == "unary" else johnson_digits(codebook, num_levels)


def _decode_digits(logits: Tensor, digits: tuple[int, ...]) -> Tensor:
    """Levels ``(...)``, int64, of reflected Johnson digits."""
    number = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
    for num_bits, bits in zip(digits, torch.split(logits > 0, list(digits), dim=-1), strict=True):
        count = bits.sum(dim=-1)
        # Ones enter at the last bit: while their center of mass is behind the middle, it fills.
        position = 2 * torch.arange(num_bits, device=bits.device) - (num_bits - 1)
        is_draining = (bits * position).sum(dim=-1) < 0
        state = torch.where(is_draining, 2 * num_bits - count, count) % (2 * num_bits)
        digit = torch.where(number % 2 == 1, 2 * num_bits - 1 - state, state)
        number = 2 * num_bits * number + digit
    return number
