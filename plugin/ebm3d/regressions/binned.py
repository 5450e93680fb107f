"""Regression by classification into bins, with soft labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ebm3d.codecs import check_soft_labels, soft_labels
from ebm3d.losses import soft_cross_entropy
from ebm3d.registry import register
from ebm3d.regressions.label_encoded import (
    DEFAULT_LOWER,
    DEFAULT_UPPER,
    LabelEncodedBoxRegression,
)


@register
class BinnedBoxRegression(LabelEncodedBoxRegression):
    r"""A class for every level, learned by cross entropy with soft labels.

    .. math:: L = -\sum_j \phi_j(y) \log \mathrm{softmax}(Z)_j

    with the scores Z, of which there are M = L. The density has the softmax's masses; the point
    estimate is the expected level. The loss is bounded below by the entropy of phi; the density
    tends to one wider than the truth by the spread of phi (Laplace labels of width 1: 1.36
    levels; Gaussian ones: 1 level; linear ones: half a level at most, and none on a level).
    docs/method.md, M-14.

    Args:
        num_levels: L.
        lower: first level of each residual, in units of the coding; see the base class.
        upper: last level of each residual.
        soft_label: ``"linear"`` (shared by the two nearest levels, so that the expected level is
            the target), ``"laplace"`` or ``"gaussian"``.
        width: of the soft labels, in levels; linear ones have none.
        theta: outputs per residual; ``None`` for L outputs per residual and no linear layer.
        loss_weight: factor of the loss.
    """

    def __init__(
        self,
        num_levels: int = 32,
        lower: Sequence[float] = DEFAULT_LOWER,
        upper: Sequence[float] = DEFAULT_UPPER,
        soft_label: str = "linear",
        width: float = 1.0,
        theta: int | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        check_soft_labels(soft_label, width)
        super().__init__(num_levels, num_levels, lower, upper, theta, loss_weight)
        self.soft_label = soft_label
        self.width = width

    def level_scores(self, codes: Tensor) -> Tensor:
        """Return Z."""
        return codes

    def code_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy with the soft labels, nats."""
        targets = soft_labels(labels, self.num_levels, self.soft_label, self.width)
        return soft_cross_entropy(codes, targets)
