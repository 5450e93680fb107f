"""Regression by classification into bins, with soft labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ebm3d.codecs import check_soft_labels, soft_labels
from ebm3d.losses import soft_cross_entropy
from ebm3d.registry import register
from ebm3d.regressions.base import NUM_RESIDUALS
from ebm3d.regressions.label_encoded import LOWER, UPPER, LabelEncodedBoxRegression


@register
class BinnedBoxRegression(LabelEncodedBoxRegression):
    r"""A class for every level, learned by cross entropy with soft labels.

    .. math:: L = -\sum_j \phi_j(y) \log \mathrm{softmax}(Z)_j

    with L scores Z. The density has the softmax's masses; the point estimate is the expected level.
    The density tends to one wider than the targets by the spread of phi (Laplace labels of width 1:
    1.36 levels; Gaussian ones: 1 level; linear ones: at most half a level). docs/method.md, M-14.

    Args:
        num_levels: L; this, ``lower``, ``upper``, ``theta`` and ``num_residuals`` as in the base.
        soft_label: ``"linear"``, ``"laplace"`` or ``"gaussian"``.
        width: of the soft labels, in levels; linear ones have none.
    """

    def __init__(
        self,
        num_levels: int = 32,
        lower: Sequence[float] | float = LOWER,
        upper: Sequence[float] | float = UPPER,
        soft_label: str = "linear",
        width: float = 1.0,
        theta: int | None = None,
        loss_weight: float = 1.0,
        num_residuals: int = NUM_RESIDUALS,
    ) -> None:
        check_soft_labels(soft_label, width)
        super().__init__(num_levels, num_levels, lower, upper, theta, loss_weight, num_residuals)
        self.soft_label, self.width = soft_label, width

    def level_scores(self, codes: Tensor) -> Tensor:
        """Return Z."""
        return codes

    def code_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy with the soft labels, nats."""
        targets = soft_labels(labels, self.num_levels, self.soft_label, self.width)
        return soft_cross_entropy(codes, targets)
