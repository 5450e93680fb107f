from __future__ import annotations

import pytest
import torch

from ebm3d.codecs import (
    CODEBOOKS,
    counted_level,
    expected_level,
    level_scores,
    most_likely_level,
)
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")

_COUNTED = ("unary", "johnson", "b1jdj", "b2jdj", "hexj")
_NUM_LEVELS = [2, 3, 13, 32, 37, 64, 256]


def _logits(code: torch.Tensor) -> torch.Tensor:
    """Logits of +-1 that say the rows of a code."""
    return 2 * code - 1


def _one_flipped(code: torch.Tensor) -> torch.Tensor:
    """Logits of every row with every bit flipped in turn, ``(L, M, M)``."""
    return _logits(code)[:, None] * (1 - 2 * torch.eye(code.shape[1]))


def _gen(logits: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    return most_likely_level(level_scores(logits, code))


def _on_a_circle(errors: torch.Tensor, circumference: int) -> torch.Tensor:
    return torch.minimum(errors.abs(), circumference - errors.abs())


@pytest.mark.parametrize("num_levels", _NUM_LEVELS)
@pytest.mark.parametrize("name", CODEBOOKS)
def test_gen_finds_every_level_from_its_code(name: str, num_levels: int):
    code = CODEBOOKS[name](num_levels)
    assert torch.equal(_gen(_logits(code), code), torch.arange(float(num_levels)))


@pytest.mark.parametrize("num_levels", _NUM_LEVELS)
@pytest.mark.parametrize("name", CODEBOOKS)
def test_gen_ex_finds_every_level_from_its_code_at_large_logits(name: str, num_levels: int):
    code = CODEBOOKS[name](num_levels)
    levels = expected_level(level_scores(50 * _logits(code), code))
    torch.testing.assert_close(levels, torch.arange(float(num_levels)))


@pytest.mark.parametrize("num_levels", _NUM_LEVELS)
@pytest.mark.parametrize("name", _COUNTED)
def test_counting_finds_every_level_from_its_code(name: str, num_levels: int):
    code = CODEBOOKS[name](num_levels)
    levels = counted_level(_logits(code), name, num_levels)
    assert torch.equal(levels, torch.arange(float(num_levels)))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_softmax_of_scores_is_the_posterior_of_independent_bits(name: str):
    code = CODEBOOKS[name](13)
    logits = 2 * torch.randn(5, code.shape[1])
    bit_probability = torch.sigmoid(logits)[:, None]
    likelihood = torch.where(code == 1, bit_probability, 1 - bit_probability).prod(-1)
    posterior = likelihood / likelihood.sum(-1, keepdim=True)
    torch.testing.assert_close(torch.softmax(level_scores(logits, code), -1), posterior)


def test_scores_are_inner_products_with_the_rows():
    code = CODEBOOKS["b1jdj"](10)
    logits = torch.randn(3, code.shape[1])
    expected = [oracle.correlation(z, code.tolist()) for z in logits.tolist()]
    torch.testing.assert_close(level_scores(logits, code), torch.tensor(expected))


def test_expected_level_is_the_sum_over_the_levels():
    scores = torch.randn(4, 9)
    expected = [sum(k * p for k, p in enumerate(oracle.softmax(row))) for row in scores.tolist()]
    torch.testing.assert_close(expected_level(scores), torch.tensor(expected))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_gen_maps_a_word_with_a_flipped_bit_to_a_row_within_two_bits(name: str):
    code = CODEBOOKS[name](61)
    found = code[_gen(_one_flipped(code), code).long()]
    assert int((found != code[:, None]).sum(-1).max()) <= 2


def test_gen_corrects_flipped_bits_of_hadamard_codes_up_to_half_their_distance():
    code = CODEBOOKS["hadamard"](32)  # 32 bits, distance 16: 7 are corrected
    flips = torch.stack([torch.randperm(32)[:7] for _ in range(200)])
    signs = torch.ones(200, 32).scatter(1, flips, -1.0)
    found = _gen(_logits(code)[:, None] * signs, code)
    assert torch.equal(found, torch.arange(32.0)[:, None].expand(-1, 200))


def test_gen_corrects_a_flipped_unary_bit_away_from_the_edge():
    code, level, bit = CODEBOOKS["unary"](40), torch.arange(40.0)[:, None], torch.arange(40)
    errors = (_gen(_one_flipped(code), code) - level).abs()
    # The edge of level k is between the bits k - 1 and k.
    from_edge = (bit + 0.5 - level).abs()
    assert float(errors[from_edge > 2].max()) == 0
    assert float(errors.max()) == 2


def test_gen_corrects_a_flipped_johnson_bit_away_from_the_edge():
    code, level, bit = CODEBOOKS["johnson"](40), torch.arange(40.0)[:, None], torch.arange(20)
    errors = _on_a_circle(_gen(_one_flipped(code), code) - level, 40)
    # On the circle of 40 states the bit m of 20 turns where the level passes 19 - m + 1/2.
    from_edge = _on_a_circle((19.5 - bit - level) % 20, 20)
    assert float(errors[from_edge > 2].max()) == 0
    assert float(errors.max()) == 2


def test_counting_is_one_level_off_after_a_flipped_unary_bit():
    code = CODEBOOKS["unary"](40)
    errors = (counted_level(_one_flipped(code), "unary", 40) - torch.arange(40.0)[:, None]).abs()
    # The last level with its last bit set saturates at itself.
    assert errors[39, 39] == 0
    errors[39, 39] = 1
    assert bool((errors == 1).all())


def test_counting_is_at_most_three_levels_off_after_a_flipped_johnson_bit_on_the_circle():
    code = CODEBOOKS["johnson"](40)
    found = counted_level(_one_flipped(code), "johnson", 40)
    errors = _on_a_circle(found - torch.arange(40.0)[:, None], 40)
    assert float(errors.max()) == 3
    assert float(errors.mean()) < 1.6


def test_a_flipped_base_bit_mirrors_the_level():
    code = CODEBOOKS["b1jdj"](32)
    flipped = _logits(code) * torch.tensor([-1.0] + [1.0] * (code.shape[1] - 1))
    mirrored = torch.arange(31.0, -1, -1)
    assert torch.equal(_gen(flipped, code), mirrored)
    assert torch.equal(counted_level(flipped, "b1jdj", 32), mirrored)


def test_a_counted_level_beyond_the_last_is_the_last():
    # Five levels of the Johnson code of six: the row of the sixth is not in the code.
    sixth = _logits(CODEBOOKS["johnson"](6)[5])
    assert float(counted_level(sixth, "johnson", 5)) == 4


@pytest.mark.parametrize("name", CODEBOOKS)
def test_gen_is_the_level_of_least_distance_for_hard_bits(name: str):
    code = CODEBOOKS[name](24)
    word = (torch.rand(50, code.shape[1]) < 0.5).double()
    distance = (word[:, None] != code).sum(-1)
    found = _gen(_logits(word), code).long()
    assert torch.equal(distance.gather(1, found[:, None])[:, 0], distance.min(1).values)


def test_gen_ex_is_differentiable():
    code = CODEBOOKS["hexj"](20)
    logits = torch.randn(2, code.shape[1], requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: expected_level(level_scores(z, code)), (logits,))


def test_leading_axes_are_kept_and_nothing_decodes_to_nothing():
    code = CODEBOOKS["b2jdj"](24)
    for shape in ((2, 3), (0, 7)):
        scores = level_scores(torch.zeros(*shape, code.shape[1]), code)
        assert scores.shape == (*shape, 24)
        assert most_likely_level(scores).shape == shape
        assert expected_level(scores).shape == shape
        assert counted_level(torch.zeros(*shape, code.shape[1]), "b2jdj", 24).shape == shape


def test_hadamard_codes_have_no_ones_to_count():
    with pytest.raises(ValueError, match="decode Hadamard codes by gen or gen_ex"):
        counted_level(torch.zeros(3, 8), "hadamard", 8)


def test_an_unknown_code_has_no_ones_to_count():
    with pytest.raises(ValueError, match="codebook must be one of johnson"):
        counted_level(torch.zeros(3, 8), "gray", 8)


def test_another_number_of_bits_is_refused():
    with pytest.raises(ValueError, match=r"logits must have shape \(..., 4\)"):
        counted_level(torch.zeros(3, 5), "johnson", 8)
    with pytest.raises(ValueError, match=r"logits must have shape \(..., 4\)"):
        level_scores(torch.zeros(3, 5), CODEBOOKS["johnson"](8))
