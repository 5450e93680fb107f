"""Binary-encoded labels (BEL): levels in codes designed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.codecs import (
    DECODERS,
    build_codebook,
    counted_digits,
    counted_level,
    expected_level,
    level_scores,
    soft_labels,
)
from ebm3d.densities import Density
from ebm3d.errors import input_error
from ebm3d.losses import bit_cross_entropy, l1_loss, l2_loss, soft_cross_entropy
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS
from ebm3d.regressions.label_encoded import LOWER, UPPER, LabelEncodedBoxRegression

LOSSES = ("bce", "ce", "expected_l1", "expected_l2")


@register
class BELBoxRegression(LabelEncodedBoxRegression):
    r"""A binary classifier for each bit of a level's code.

    The losses, with the logits Z, the code D and linear soft labels phi of the label y (which are
    one-hot on a level):

    * ``"bce"``: binary cross entropies of the bits :math:`\sum_j \phi_j D_j`, summed;
    * ``"ce"``: cross entropy of phi and the softmax of :math:`C_k = \sum_m D_{km} Z_m`;
    * ``"expected_l1"``, ``"expected_l2"``: absolute, or half the squared, error of the expected
      level under that softmax, in units of the residual.

    The density has the masses softmax(C). Bits learned by ``"bce"`` are far from independent, and
    it comes out too narrow; ``"ce"`` trains the density, ``"expected_*"`` its mean alone.

    Source: Shah, Xue and Aamodt, "Label Encoding for Regression Networks", ICLR 2022. Deviation:
    the two nearest levels share a label. docs/method.md, M-12.

    Args:
        codebook: see :func:`ebm3d.codecs.build_codebook`.
        decoder: of the point estimate: ``"gen_ex"`` (the expected level), ``"gen"`` (the likeliest
            level) or ``"custom"`` (by counting ones; not for Hadamard codes).
        num_levels: L; this, ``lower``, ``upper``, ``theta`` and ``num_residuals`` as in the base.
        loss: one of the four above.
    """

    code: Tensor

    def __init__(
        self,
        codebook: str = "johnson",
        decoder: str = "gen_ex",
        num_levels: int = 64,
        lower: Sequence[float] | float = LOWER,
        upper: Sequence[float] | float = UPPER,
        theta: int = 10,
        loss: str = "bce",
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        if decoder not in DECODERS:
            raise input_error("decoder", f"one of {', '.join(DECODERS)}", repr(decoder))
        if loss not in LOSSES:
            raise input_error("loss", f"one of {', '.join(LOSSES)}", repr(loss))
        code = build_codebook(codebook, num_levels)
        super().__init__(num_levels, code.shape[1], lower, upper, theta, loss_weight, num_residuals)
        self.register_buffer("code", code, persistent=False)
        if decoder == "custom":
            counted_digits(codebook, num_levels)  # raises where there is none
        self.codebook, self.decoder, self.kind = codebook, decoder, loss

    def level_scores(self, codes: Tensor) -> Tensor:
        """Return C."""
        return level_scores(codes, self.code)

    def code_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the chosen kind."""
        if self.kind in ("bce", "ce"):
            targets = soft_labels(labels, self.num_levels, "linear")
            if self.kind == "bce":
                return bit_cross_entropy(codes, targets @ self.code)
            return soft_cross_entropy(self.level_scores(codes), targets)
        levels = expected_level(self.level_scores(codes))
        errors = (levels - labels) * self.quantizer.bin_width
        return l1_loss(errors) if self.kind == "expected_l1" else l2_loss(errors)

    def density(self, outputs: Tensor) -> Density:
        """Histograms over the levels; the point estimate is the decoder's."""
        codes = self.codes(outputs)
        scores = self.level_scores(codes)
        histogram = self.histogram(scores)
        if self.decoder == "gen_ex":
            return histogram
        if self.decoder == "gen":
            levels = scores.argmax(dim=-1).to(scores.dtype)
        else:
            levels = counted_level(codes, self.codebook, self.num_levels)
        # Comparisons with NaN would decode to a valid level.
        levels = levels.masked_fill(torch.isnan(scores).any(dim=-1), math.nan)
        return histogram.with_point(self.quantizer.residuals(levels))
