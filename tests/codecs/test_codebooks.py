from __future__ import annotations

import pytest
import torch

from ebm3d.codecs import CODEBOOKS, build_codebook

pytestmark = pytest.mark.usefixtures("float64")

_GRAY = ("unary", "johnson", "b1jdj", "b2jdj", "hexj")
_JOHNSON_4 = ["00", "01", "11", "10"]
_JOHNSON_16 = [f"{(1 << k) - 1:08b}" for k in range(9)] + [
    f"{(0xFF << k) & 0xFF:08b}" for k in range(1, 8)
]


def _distances(code: torch.Tensor) -> torch.Tensor:
    """Bits in which two rows differ, ``(L, L)``."""
    return (code[:, None] != code).sum(-1)


def _reflected(prefixes: list[str], words: list[str]) -> list[str]:
    return [
        prefix + word
        for number, prefix in enumerate(prefixes)
        for word in (words[::-1] if number % 2 else words)
    ]


@pytest.mark.parametrize("num_levels", [2, 3, 5, 13, 16, 17, 32, 37, 64, 256, 257])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_rows_are_distinct_and_neighbors_differ_in_one_bit(name: str, num_levels: int):
    code = build_codebook(name, num_levels)
    assert len(code) == num_levels
    assert bool(((code == 0) | (code == 1)).all())
    assert len(torch.unique(code, dim=0)) == num_levels
    if name in _GRAY:
        assert torch.diagonal(_distances(code), 1).unique().tolist() == [1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unary", ["00000", "10000", "11000", "11100", "11110"]),
        ("johnson", ["000", "001", "011", "111", "110", "100"]),
        ("b1jdj", _reflected(["0", "1"], _JOHNSON_4)),
        ("b2jdj", _reflected(_JOHNSON_4, _JOHNSON_4)),
        ("hexj", _reflected(_JOHNSON_16, _JOHNSON_16)),
        ("hadamard", ["1111", "1010", "1100", "1001"]),
    ],
)
def test_codes_by_hand(name: str, expected: list[str]):
    rows = [[float(bit) for bit in row] for row in expected]
    assert build_codebook(name, len(expected)).tolist() == rows


def test_distances_of_rows():
    level = torch.arange(20)
    steps = (level[:, None] - level).abs()
    assert torch.equal(_distances(build_codebook("unary", 20)), steps)
    circle = torch.minimum(steps, 20 - steps)
    assert torch.equal(_distances(build_codebook("johnson", 20)), circle)
    hadamard = _distances(build_codebook("hadamard", 32))
    assert torch.equal(hadamard, 16 * (1 - torch.eye(32, dtype=hadamard.dtype)))


@pytest.mark.parametrize(
    ("name", "constructed"),
    [("johnson", 58), ("b1jdj", 60), ("b2jdj", 64), ("hexj", 256), ("hadamard", 64)],
)
def test_other_numbers_of_levels_take_the_first_rows_of_the_next_code(name: str, constructed: int):
    assert torch.equal(build_codebook(name, 57), build_codebook(name, constructed)[:57])


def test_unknown_codes_and_too_few_levels_are_refused():
    with pytest.raises(ValueError, match="codebook"):
        build_codebook("gray", 8)
    for name in CODEBOOKS:
        with pytest.raises(ValueError, match="num_levels"):
            build_codebook(name, 1)
