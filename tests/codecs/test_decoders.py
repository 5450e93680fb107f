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


def test_a_counted_level_beyond_the_last_is_the_last():
    # Five levels of the Johnson code of six: the row of the sixth is not in the code.
    sixth = _logits(build_codebook("johnson", 6)[5])
    assert float(counted_level(sixth, "johnson", 5)) == 4


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
