r"""Codes of levels in bits, designed by hand.

L levels; M bits. A codebook is ``(L, M)`` of zeros and ones, one row a level. Every function takes
any number of levels of at least two: a code whose construction needs more (a multiple of 4, a
power of 16) is built for the next number it can do, and its first L rows are taken.

Rows of neighboring levels differ in one bit (all but Hadamard), so the least distance of two rows
is one, and not every flipped bit can be corrected. In unary and Johnson codes GEN corrects it if it
lies three bits or more from the edge of the ones; nearer to it the level found is at most two off,
on the circle of the Johnson code. A flipped base bit, or one that changes a hexadecimal digit,
leads as far away as the digit weighs. Hadamard rows differ in half of their bits, and
(M / 2 - 1) // 2 flipped bits are always corrected.

Source: Shah, Xue and Aamodt, "Label Encoding for Regression Networks", ICLR 2022. docs/method.md,
M-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ebm3d.errors import input_error


def unary(num_levels: int) -> Tensor:
    """Level k has k ones: L bits, of which the last is never set (as published).

    The distance of two rows is that of their levels.
    """
    _check(num_levels)
    level, bit = torch.arange(num_levels)[:, None], torch.arange(num_levels)
    return (bit < level).to(torch.get_default_dtype())


def johnson(num_levels: int) -> Tensor:
    """A twisted ring: ones enter at the last bit until all are set, then zeros: L / 2 bits.

    The distance of two rows is that of their levels on a circle of 2 M: the first and the last
    level are neighbors, too.
    """
    return _first_rows(reflected_johnson(johnson_digits("johnson", num_levels)), num_levels)


def b1jdj(num_levels: int) -> Tensor:
    """One base bit for the half; Johnson code, reflected in the second half: L / 4 + 1 bits."""
    return _first_rows(reflected_johnson(johnson_digits("b1jdj", num_levels)), num_levels)


def b2jdj(num_levels: int) -> Tensor:
    """Two base bits (00, 01, 11, 10) for the quarter; Johnson code in it: L / 8 + 2 bits.

    Reflected in every other quarter.
    """
    return _first_rows(reflected_johnson(johnson_digits("b2jdj", num_levels)), num_levels)


def hexj(num_levels: int) -> Tensor:
    """Hexadecimal digits, each a Johnson code of 8 bits, reflected: 8 bits a digit."""
    return _first_rows(reflected_johnson(johnson_digits("hexj", num_levels)), num_levels)


def hadamard(num_levels: int) -> Tensor:
    """Rows of Sylvester's Hadamard matrix, -1 written as 0: as many bits as the next power of 2.

    Two rows differ in half of their bits. The first bit is always set (as published).
    """
    _check(num_levels)
    matrix = torch.ones(1, 1)
    while len(matrix) < num_levels:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return (matrix[:num_levels] + 1) / 2


CODEBOOKS: dict[str, Callable[[int], Tensor]] = {
    "unary": unary,
    "johnson": johnson,
    "b1jdj": b1jdj,
    "b2jdj": b2jdj,
    "hexj": hexj,
    "hadamard": hadamard,
}


def johnson_digits(codebook: str, num_levels: int) -> tuple[int, ...]:
    """Bits of the digits that a code of the Johnson family writes a level in.

    All of them are numbers of mixed radix: a digit of n bits is a Johnson code of radix 2 n, and
    the base bits are the digits of one or two bits.

    Args:
        codebook: ``"johnson"``, ``"b1jdj"``, ``"b2jdj"`` or ``"hexj"``.
        num_levels: L.

    Returns:
        Bits of each digit, the most significant first.

    Raises:
        ValueError: for another code, or fewer than two levels.
    """
    _check(num_levels)
    if codebook == "johnson":
        return (math.ceil(num_levels / 2),)
    if codebook == "b1jdj":
        return (1, math.ceil(num_levels / 4))
    if codebook == "b2jdj":
        return (2, math.ceil(num_levels / 8))
    if codebook == "hexj":
        num_digits = 1
        while 16**num_digits < num_levels:
            num_digits += 1
        return (8,) * num_digits
    raise input_error("codebook", "one of johnson, b1jdj, b2jdj, hexj", repr(codebook))


def reflected_johnson(digits: tuple[int, ...]) -> Tensor:
    """Write all numbers of mixed radix in reflected Johnson digits.

    A digit runs backwards where the number above it is odd, so that one step changes one digit by
    one, which is one bit.

    Args:
        digits: bits of each digit, the most significant first.

    Returns:
        ``(product of 2 n over the digits, sum of n)``.
    """
    code = torch.zeros(1, 0)
    for num_bits in digits:
        word = _johnson_ring(num_bits)
        rows = [
            torch.cat((above.expand(len(word), -1), word.flip(0) if number % 2 else word), dim=1)
            for number, above in enumerate(code)
        ]
        code = torch.cat(rows)
    return code


def _johnson_ring(num_bits: int) -> Tensor:
    """The 2 n states of a twisted ring of n bits, ``(2 n, n)``."""
    state, bit = torch.arange(2 * num_bits)[:, None], torch.arange(num_bits)
    filling = bit >= num_bits - state
    draining = bit < 2 * num_bits - state
    return (filling & draining).to(torch.get_default_dtype())


def _first_rows(code: Tensor, num_levels: int) -> Tensor:
    """The first L rows, in memory of their own."""
    return code[:num_levels].clone()


def _check(num_levels: int) -> None:
    """Raise unless there are two levels."""
    if num_levels < 2:
        raise input_error("num_levels", "at least 2", num_levels)
