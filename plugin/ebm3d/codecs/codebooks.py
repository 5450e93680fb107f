r"""Codes of levels in bits, designed by hand.

Rows of neighboring levels differ in one bit in every code but Hadamard's, whose rows differ in half
of their bits: only there (M / 2 - 1) // 2 flipped bits are always corrected.

Source: Shah, Xue and Aamodt, "Label Encoding for Regression Networks", ICLR 2022. docs/method.md,
M-12.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.errors import input_error

CODEBOOKS = ("unary", "johnson", "b1jdj", "b2jdj", "hexj", "hadamard")


def build_codebook(name: str, num_levels: int) -> Tensor:
    """Return the code of L levels in M bits.

    * ``"unary"``: level k has k ones; L bits, of which the last is never set (as published).
    * ``"johnson"``: a twisted ring: ones enter at the last bit until all are set, then zeros; L / 2
      bits. The distance of two rows is that of their levels on a circle.
    * ``"b1jdj"``: one base bit for the half; Johnson code in it; L / 4 + 1 bits.
    * ``"b2jdj"``: two base bits (00, 01, 11, 10) for the quarter; Johnson code; L / 8 + 2 bits.
    * ``"hexj"``: hexadecimal digits, each a Johnson code of 8 bits.
    * ``"hadamard"``: rows of Sylvester's matrix, -1 written as 0; the next power of 2 bits, of
      which the first is always set (as published).

    Zeros and ones ``(L, M)``; a code whose construction needs more levels is cut.
    """
    if name not in CODEBOOKS:
        raise input_error("codebook", f"one of {', '.join(CODEBOOKS)}", repr(name))
    if num_levels < 2:
        raise input_error("num_levels", "at least 2", num_levels)
    if name == "hadamard":
        matrix, two = torch.ones(1, 1), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        while len(matrix) < num_levels:
            matrix = torch.kron(two, matrix)
        return (matrix[:num_levels] + 1) / 2
    if name == "unary":
        return torch.ones(num_levels, num_levels).tril(-1)
    return reflected_johnson(johnson_digits(name, num_levels))[:num_levels].clone()


def johnson_digits(name: str, num_levels: int) -> tuple[int, ...]:
    """Bits of the digits, most significant first, of a code of the Johnson family.

    All of them are numbers of mixed radix: a digit of n bits is a Johnson code of radix 2 n, and
    the base bits are the digits of one or two bits.
    """
    if name == "johnson":
        return (math.ceil(num_levels / 2),)
    if name == "b1jdj":
        return (1, math.ceil(num_levels / 4))
    if name == "b2jdj":
        return (2, math.ceil(num_levels / 8))
    if name == "hexj":
        return (8,) * math.ceil((num_levels - 1).bit_length() / 4)
    raise input_error("codebook", "one of johnson, b1jdj, b2jdj, hexj", repr(name))


def reflected_johnson(digits: tuple[int, ...]) -> Tensor:
    """Write all numbers of mixed radix in Johnson digits of n bits, ``(product of 2 n, sum of n)``.

    A digit counts backwards where the number before it is odd, so that one step changes one bit.
    """
    code = torch.zeros(1, 0)
    for num_bits in digits:
        word = _johnson_ring(num_bits)
        rows = [
            torch.cat((prefix.expand(len(word), -1), word.flip(0) if number % 2 else word), dim=1)
            for number, prefix in enumerate(code)
        ]
        code = torch.cat(rows)
    return code


def _johnson_ring(num_bits: int) -> Tensor:
    """The 2 n states of a twisted ring of n bits, ``(2 n, n)``."""
    state, bit = torch.arange(2 * num_bits)[:, None], torch.arange(num_bits)
    is_set = (bit >= num_bits - state) & (bit < 2 * num_bits - state)
    return is_set.to(torch.get_default_dtype())
