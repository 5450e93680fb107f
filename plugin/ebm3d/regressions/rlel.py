"""Regularized learned label encodings (RLEL), and LEL without the regularizers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm3d.codecs import soft_labels
from ebm3d.errors import input_error
from ebm3d.losses import code_distance_penalty, code_smoothness_penalty, soft_cross_entropy
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS
from ebm3d.regressions.label_encoded import LOWER, UPPER, LabelEncodedBoxRegression
from ebm3d.regressions.outputs import check_targets, known_targets


@register
class RLELBoxRegression(LabelEncodedBoxRegression):
    r"""Levels by correlation with a code that is learned with the network.

    .. math::
        C = D^\top Z, \qquad
        L = -\sum_j \phi_j(y) \log \mathrm{softmax}(C)_j + \beta R_1 + \alpha R_2

    with a codebook D of M x L numbers per residual and Laplacian soft labels
    :math:`\phi_j \propto e^{-|j - y|}`; R1 and R2 are :func:`~ebm3d.losses.code_distance_penalty`
    and :func:`~ebm3d.losses.code_smoothness_penalty`. The density has the softmax's masses, and a
    standard deviation of at least 1.36 levels; the point estimate is the expected level.

    Source: Shah and Aamodt, "Learning Label Encodings for Deep Regression", ICLR 2023.
    docs/method.md, M-13. The paper trains the codebook with ten times the learning rate
    (``paramwise_cfg=dict(custom_keys={"regression.codebook": dict(lr_mult=10)})``).

    Args:
        num_levels: L; this, ``lower``, ``upper``, ``theta`` and ``num_residuals`` as in the base.
        num_bits: M; ``None`` for L.
        distance_weight: beta. R1 and R2 are sums: weights of the published size (0.05 to 5) can
            outweigh the cross entropy.
        smoothness_weight: alpha. With both zero this is LEL, and there are no further terms.
        smoothness: ``"l1"``, as in the paper's text, or ``"squared"``, as in its released code.
        max_pairs: most rows whose pairs R1 compares; of more, that many are taken, evenly spaced.
        loss_weight: factor of the loss and of the regularizers.
    """

    def __init__(
        self,
        num_levels: int = 32,
        num_bits: int | None = None,
        lower: Sequence[float] | float = LOWER,
        upper: Sequence[float] | float = UPPER,
        theta: int = 10,
        distance_weight: float = 1e-4,
        smoothness_weight: float = 1e-2,
        smoothness: str = "l1",
        max_pairs: int = 256,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        bits = num_levels if num_bits is None else num_bits
        for name, value in (("num_bits", bits), ("max_pairs", max_pairs)):
            if value < 1:
                raise input_error(name, "at least 1", value)
        weights = {"distance_weight": distance_weight, "smoothness_weight": smoothness_weight}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise input_error(name, "at least 0 and finite", weight)
        if smoothness not in ("l1", "squared"):
            raise input_error("smoothness", "l1 or squared", repr(smoothness))
        super().__init__(num_levels, bits, lower, upper, theta, loss_weight, num_residuals)
        self.distance_weight, self.smoothness_weight = distance_weight, smoothness_weight
        self.smoothness, self.max_pairs = smoothness, max_pairs
        self.codebook = nn.Parameter(torch.rand(num_residuals, bits, num_levels))

    def level_scores(self, codes: Tensor) -> Tensor:
        """Return C."""
        return torch.einsum("ndm,dml->ndl", codes, self.codebook)

    def code_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy with the soft labels, nats."""
        targets = soft_labels(labels, self.num_levels, "laplace")
        return soft_cross_entropy(self.level_scores(codes), targets)

    def regularizers(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """``code_distance`` and ``code_smoothness``: R1 and R2 of weights that are not zero."""
        check_targets(targets, outputs, self.num_residuals)
        targets, known = known_targets(targets)
        terms = {}
        if self.distance_weight > 0:
            count = min(len(outputs), self.max_pairs)
            rows = torch.arange(count, device=outputs.device) * len(outputs) // max(count, 1)
            labels = self.quantizer.labels(targets[rows])
            codes = self.codes(outputs[rows])
            mask = known[rows] if self.num_residuals > NUM_RESIDUALS else None
            penalty = code_distance_penalty(codes, labels, mask).sum()
            terms["code_distance"] = self.loss_weight * self.distance_weight * penalty
        if self.smoothness_weight > 0:
            penalty = code_smoothness_penalty(self.codebook, self.smoothness).sum()
            terms["code_smoothness"] = self.loss_weight * self.smoothness_weight * penalty
        return terms
