"""Kernels that parse KITTI label and result files: bytes of many files to one table of numbers.

``text`` holds the bytes of all files, each followed by a line feed; file ``i`` takes bytes
``begins[i]`` to ``begins[i + 1]`` and, of the table, rows ``starts[i]`` to ``starts[i + 1]``.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

POWERS_OF_TEN = 10.0 ** np.arange(23)  # those that float64 holds exactly


@njit(cache=True, error_model="numpy")
def is_blank(byte: int) -> bool:
    """Space, tab or carriage return."""
    return byte == 32 or byte == 9 or byte == 13


@njit(cache=True, parallel=True, error_model="numpy")
def count_lines(text: NDArray[np.uint8], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lines of each file that are not blank, shape (F,)."""
    counts = np.zeros(len(begins) - 1, dtype=np.int64)
    for file in prange(len(counts)):
        filled = False
        for at in range(begins[file], begins[file + 1]):
            if text[at] == 10:
                counts[file] += filled
                filled = False
            elif not is_blank(text[at]):
                filled = True
    return counts


@njit(cache=True, error_model="numpy")
def parse_number(
    text: NDArray[np.uint8], begin: int, end: int, powers: NDArray[np.float64]
) -> tuple[float, bool]:
    """A decimal number in ``text[begin:end]``, and whether it is one that this parser knows."""
    at = begin
    negative = text[at] == 45
    if negative or text[at] == 43:
        at += 1
    mantissa = np.int64(0)
    exponent = 0
    num_digits = 0
    fraction = False
    while at < end and (48 <= text[at] <= 57 or (text[at] == 46 and not fraction)):
        if text[at] == 46:
            fraction = True
        else:
            num_digits += 1
            if mantissa < 100_000_000_000_000_000:
                mantissa = mantissa * 10 + (np.int64(text[at]) - 48)
                exponent -= fraction
            else:
                exponent += not fraction
        at += 1
    if num_digits == 0:
        return 0.0, False
    if at < end and (text[at] == 101 or text[at] == 69):
        at += 1
        below = at < end and text[at] == 45
        if at < end and (below or text[at] == 43):
            at += 1
        if at == end:
            return 0.0, False
        power = 0
        while at < end and 48 <= text[at] <= 57 and power < 1000:
            power = power * 10 + (np.int64(text[at]) - 48)  # type: ignore[assignment]
            at += 1
        exponent += -power if below else power
    if at != end or exponent > 22 or exponent < -22:
        return 0.0, False
    value = float(mantissa)
    # Powers of ten up to 22 are exact in float64, so one operation makes one rounding.
    value = value * powers[exponent] if exponent >= 0 else value / powers[-exponent]
    return (-value if negative else value), True


@njit(cache=True, error_model="numpy")
def parse_line(
    text: NDArray[np.uint8],
    at: int,
    powers: NDArray[np.float64],
    row: NDArray[np.float64],
    place: NDArray[np.int64],
) -> tuple[int, int, np.uint64, bool]:
    """Parse one line: position after it, number of columns, hash of the name, if all is known."""
    num = 0
    known = True
    name_hash = np.uint64(14695981039346656037)
    while text[at] != 10:
        if is_blank(text[at]):
            at += 1
            continue
        begin = at
        while text[at] != 10 and not is_blank(text[at]):
            at += 1
        if num == 0:
            place[0] = begin
            place[1] = at
            for k in range(begin, at):
                name_hash = (name_hash ^ np.uint64(text[k])) * np.uint64(1099511628211)
                known &= text[k] < 128
        elif num <= len(row):
            row[num - 1], good = parse_number(text, begin, at, powers)
            known &= good
        num += 1
    return at + 1, num, name_hash, known


@njit(cache=True, error_model="numpy")
def is_dont_care(text: NDArray[np.uint8], begin: int, end: int) -> bool:
    """Whether the name is DontCare, in any case."""
    name = b"dontcare"
    if end - begin != len(name):
        return False
    for k in range(len(name)):
        if text[begin + k] | 32 != name[k]:
            return False
    return True


@njit(cache=True, parallel=True, error_model="numpy")
def parse_files(
    text: NDArray[np.uint8],
    begins: NDArray[np.int64],
    starts: NDArray[np.int64],
    num_numbers: int,
    powers: NDArray[np.float64],
    table: NDArray[np.float64],
    hashes: NDArray[np.uint64],
    places: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Fill table, hashes and places; say of each file whether it was understood, shape (F,)."""
    accepted = np.ones(len(begins) - 1, dtype=np.bool_)
    for file in prange(len(begins) - 1):
        at = begins[file]
        index = starts[file]
        while at < begins[file + 1]:
            if index == starts[file + 1]:
                break
            row = table[index]
            at, num, hashes[index], known = parse_line(text, at, powers, row, places[index])
            if num == 0:
                continue
            sized = row[7] > 0 and row[8] > 0 and row[9] > 0
            absent = row[7] == -1 and row[8] == -1 and row[9] == -1 and row[10] == -1000
            if not sized:
                sized = is_dont_care(text, places[index, 0], places[index, 1]) or (
                    absent and num_numbers > 14
                )
            if not known or not sized or num != num_numbers + 1 or row[1] != np.floor(row[1]):
                accepted[file] = False
            index += 1
    return accepted
