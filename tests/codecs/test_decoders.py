from __future__ import annotations

import pytest
import torch

from ebm3d.codecs import (
    CODEBOOKS,
    build_codebook,
    counted_level,
    expected_level,
    level_scores,
)
from tests.oracles import label_encodings as oracle

pytestmark = pytest.mark.usefixtures("float64")


def _logits(code: torch.Tensor) -> torch.Tensor:
    """Logits of +-1 that say the rows of a code."""
    return 2 * code - 1


def _one_flipped(code: torch.Tensor) -> torch.Tensor:
    """Logits of every row with every bit flipped in turn, ``(L, M, M)``."""
    return _logits(code)[:, None] * (1 - 2 * torch.eye(code.shape[1]))


def _gen(logits: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """The likeliest level."""
    return level_scores(logits, code).argmax(-1)


def _on_a_circle(errors: torch.Tensor, circumference: int) -> torch.Tensor:
    return torch.minimum(errors.abs(), circumference - errors.abs())


@pytest.mark.parametrize("num_levels", [2, 3, 13, 32, 37, 64, 256])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_every_decoder_finds_every_level_from_its_code(name: str, num_levels: int):
    code, levels = build_codebook(name, num_levels), torch.arange(num_levels)
    assert torch.equal(_gen(_logits(code), code), levels)
    sharp = expected_level(level_scores(50 * _logits(code), code))
    torch.testing.assert_close(sharp, levels.double())
    if name != "hadamard":
        assert torch.equal(counted_level(_logits(code), name, num_levels), levels.double())


@pytest.mark.parametrize("name", CODEBOOKS)
def test_scores_are_the_log_posterior_of_independent_bits(name: str):
    code = build_codebook(name, 13)
    logits = 2 * torch.randn(5, code.shape[1])
    bit_probability = torch.sigmoid(logits)[:, None]
    likelihood = torch.where(code == 1, bit_probability, 1 - bit_probability).prod(-1)
    posterior = likelihood / likelihood.sum(-1, keepdim=True)
    scores = level_scores(logits, code)
    torch.testing.assert_close(torch.softmax(scores, -1), posterior)
    expected = [oracle.correlation(z, code.tolist()) for z in logits.tolist()]
    torch.testing.assert_close(scores, torch.tensor(expected))
    means = [sum(k * p for k, p in enumerate(row)) for row in posterior.tolist()]
    torch.testing.assert_close(expected_level(scores), torch.tensor(means))


@pytest.mark.parametrize("name", CODEBOOKS)
def test_gen_is_the_level_of_least_distance_for_hard_bits(name: str):
    code = build_codebook(name, 24)
    word = (torch.rand(50, code.shape[1]) < 0.5).double()
    distance = (word[:, None] != code).sum(-1)
    nearest = distance.gather(1, _gen(_logits(word), code)[:, None])[:, 0]
    assert torch.equal(nearest, distance.min(1).values)
    code = build_codebook(name, 61)
    decoded = code[_gen(_one_flipped(code), code)]
    assert int((decoded != code[:, None]).sum(-1).max()) <= 2


def test_gen_corrects_flipped_bits_of_hadamard_codes_up_to_half_their_distance():
    code = build_codebook("hadamard", 32)  # 32 bits, distance 16: 7 are corrected
    flips = torch.stack([torch.randperm(32)[:7] for _ in range(200)])
    signs = torch.ones(200, 32).scatter(1, flips, -1.0)
    decoded = _gen(_logits(code)[:, None] * signs, code)
    assert torch.equal(decoded, torch.arange(32)[:, None].expand(-1, 200))


def test_gen_corrects_a_flipped_bit_of_unary_and_johnson_codes_away_from_the_edge():
    level = torch.arange(40.0)[:, None]
    code, bit = build_codebook("unary", 40), torch.arange(40)
    errors = (_gen(_one_flipped(code), code) - level).abs()
    # The edge of level k is between the bits k - 1 and k.
    assert float(errors[(bit + 0.5 - level).abs() > 2].max()) == 0
    assert float(errors.max()) == 2
    code, bit = build_codebook("johnson", 40), torch.arange(20)
    errors = _on_a_circle(_gen(_one_flipped(code), code) - level, 40)
    # On the circle of 40 states the bit m of 20 changes where the level passes 19 - m + 1/2.
    assert float(errors[_on_a_circle((19.5 - bit - level) % 20, 20) > 2].max()) == 0
    assert float(errors.max()) == 2


def test_counting_after_a_flipped_bit_is_off_as_stated():
    level = torch.arange(40.0)[:, None]
    errors = (counted_level(_one_flipped(build_codebook("unary", 40)), "unary", 40) - level).abs()
    # The last level with its last bit set saturates at itself.
    assert errors[39, 39] == 0
    errors[39, 39] = 1
    assert bool((errors == 1).all())
    counted = counted_level(_one_flipped(build_codebook("johnson", 40)), "johnson", 40)
    assert float(_on_a_circle(counted - level, 40).max()) == 3


def test_a_flipped_base_bit_mirrors_the_level():
    code = build_codebook("b1jdj", 32)
    flipped = _logits(code) * torch.tensor([-1.0] + [1.0] * (code.shape[1] - 1))
    assert torch.equal(_gen(flipped, code), torch.arange(31, -1, -1))
    assert torch.equal(counted_level(flipped, "b1jdj", 32), torch.arange(31.0, -1, -1))


def test_a_counted_level_beyond_the_last_is_the_last():
    # Five levels of the Johnson code of six: the row of the sixth is not in the code.
    sixth = _logits(build_codebook("johnson", 6)[5])
    assert float(counted_level(sixth, "johnson", 5)) == 4


def test_gen_ex_is_differentiable():
    code = build_codebook("hexj", 20)
    logits = torch.randn(2, code.shape[1], requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: expected_level(level_scores(z, code)), (logits,))


@pytest.mark.parametrize("shape", [(2, 3), (0, 7)])
def test_leading_axes_are_kept(shape: tuple[int, int]):
    code = build_codebook("b2jdj", 24)
    logits = torch.zeros(*shape, code.shape[1])
    assert level_scores(logits, code).shape == (*shape, 24)
    assert expected_level(level_scores(logits, code)).shape == shape
    assert counted_level(logits, "b2jdj", 24).shape == shape


def test_wrong_codes_and_logits_are_refused():
    for codebook in ("hadamard", "gray"):
        with pytest.raises(ValueError, match="codebook"):
            counted_level(torch.zeros(3, 8), codebook, 8)
    for decode in (
        lambda logits: counted_level(logits, "johnson", 8),
        lambda logits: level_scores(logits, build_codebook("johnson", 8)),
    ):
        with pytest.raises(ValueError, match="logits must have shape"):
            decode(torch.zeros(3, 5))
