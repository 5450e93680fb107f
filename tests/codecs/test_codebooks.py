from __future__ import annotations

import pytest
import torch

from ebm3d.codecs import CODEBOOKS
from ebm3d.codecs.codebooks import reflected_johnson

pytestmark = pytest.mark.usefixtures("float64")

_JOHNSON_FAMILY = ("johnson", "b1jdj", "b2jdj", "hexj")
_GRAY = ("unary", *_JOHNSON_FAMILY)
_NUM_LEVELS = [2, 3, 5, 13, 16, 17, 32, 37, 64, 256]


def _distances(code: torch.Tensor) -> torch.Tensor:
    """Bits in which two rows differ, ``(L, L)``."""
    return (code[:, None] != code).sum(-1)


def _least_distance(code: torch.Tensor) -> int:
    distances = _distances(code)
    return int(distances[~torch.eye(len(code), dtype=torch.bool)].min())


@pytest.mark.parametrize(
    ("name", "num_bits"),
    [
        ("unary", 256),
        ("johnson", 128),
        ("b1jdj", 65),
        ("b2jdj", 34),
        ("hexj", 16),
        ("hadamard", 256),
    ],
)
def test_256_levels_take_as_many_bits_as_published(name: str, num_bits: int):
    assert CODEBOOKS[name](256).shape == (256, num_bits)


@pytest.mark.parametrize("num_levels", _NUM_LEVELS)
@pytest.mark.parametrize("name", CODEBOOKS)
def test_rows_are_distinct_zeros_and_ones(name: str, num_levels: int):
    code = CODEBOOKS[name](num_levels)
    assert len(code) == num_levels
    assert bool(((code == 0) | (code == 1)).all())
    assert len(torch.unique(code, dim=0)) == num_levels


@pytest.mark.parametrize("num_levels", _NUM_LEVELS)
@pytest.mark.parametrize("name", _GRAY)
def test_neighboring_levels_differ_in_one_bit(name: str, num_levels: int):
    assert torch.diagonal(_distances(CODEBOOKS[name](num_levels)), 1).unique().tolist() == [1]


def test_unary_level_k_is_k_ones():
    expected = [[1.0] * k + [0.0] * (5 - k) for k in range(5)]
    assert CODEBOOKS["unary"](5).tolist() == expected


def test_unary_distance_is_that_of_the_levels():
    level = torch.arange(20)
    assert torch.equal(_distances(CODEBOOKS["unary"](20)), (level[:, None] - level).abs())


def test_johnson_is_the_twisted_ring_by_hand():
    expected = ["000", "001", "011", "111", "110", "100"]
    assert CODEBOOKS["johnson"](6).tolist() == [[float(b) for b in row] for row in expected]


def test_johnson_distance_is_that_of_the_levels_on_a_circle():
    level = torch.arange(20)
    apart = (level[:, None] - level).abs()
    assert torch.equal(_distances(CODEBOOKS["johnson"](20)), torch.minimum(apart, 20 - apart))


def test_b1jdj_is_a_base_bit_and_a_reflected_johnson_code_by_hand():
    forwards = ["00", "01", "11", "10"]
    expected = ["0" + row for row in forwards] + ["1" + row for row in reversed(forwards)]
    assert CODEBOOKS["b1jdj"](8).tolist() == [[float(b) for b in row] for row in expected]


def test_b2jdj_is_two_gray_bits_and_reflected_johnson_codes_by_hand():
    forwards = ["00", "01", "11", "10"]
    expected = [
        base + row
        for number, base in enumerate(["00", "01", "11", "10"])
        for row in (reversed(forwards) if number % 2 else forwards)
    ]
    assert CODEBOOKS["b2jdj"](16).tolist() == [[float(b) for b in row] for row in expected]


def test_hexj_is_two_reflected_hexadecimal_digits_by_hand():
    digit = CODEBOOKS["johnson"](16).tolist()
    expected = [
        digit[k // 16] + digit[15 - k % 16 if (k // 16) % 2 else k % 16] for k in range(256)
    ]
    assert CODEBOOKS["hexj"](256).tolist() == expected


def test_hadamard_is_sylvesters_matrix_by_hand():
    expected = ["1111", "1010", "1100", "1001"]
    assert CODEBOOKS["hadamard"](4).tolist() == [[float(b) for b in row] for row in expected]


def test_hadamard_rows_differ_in_half_of_their_bits():
    distances = _distances(CODEBOOKS["hadamard"](32))
    assert torch.equal(distances, 16 * (1 - torch.eye(32, dtype=distances.dtype)))


@pytest.mark.parametrize("name", _GRAY)
def test_least_distance_of_a_gray_code_is_one(name: str):
    assert _least_distance(CODEBOOKS[name](64)) == 1


@pytest.mark.parametrize(
    ("name", "constructed"),
    [("johnson", 58), ("b1jdj", 60), ("b2jdj", 64), ("hexj", 256), ("hadamard", 64)],
)
def test_other_numbers_of_levels_take_the_first_rows_of_the_next_code(name: str, constructed: int):
    assert torch.equal(CODEBOOKS[name](57), CODEBOOKS[name](constructed)[:57])


def test_three_digits_are_reflected_by_the_parity_of_the_number_above():
    rows = reflected_johnson((1, 2, 1))
    assert rows.shape == (16, 4)
    assert len(torch.unique(rows, dim=0)) == 16
    assert torch.diagonal(_distances(rows), 1).unique().tolist() == [1]


@pytest.mark.parametrize("name", CODEBOOKS)
def test_fewer_than_two_levels_are_refused(name: str):
    with pytest.raises(ValueError, match="num_levels must be at least 2"):
        CODEBOOKS[name](1)
