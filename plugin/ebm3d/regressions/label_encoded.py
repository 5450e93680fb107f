"""What box regressions by levels share: quantizer, expansion to codes, densities.

N boxes; D residuals, 7 or 9; theta outputs per residual; M bits (or scores) per residual; L levels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.codecs import Quantizer
from ebm3d.densities import Density, HistogramDensity
from ebm3d.errors import input_error, is_number
from ebm3d.regressions.base import MaskedBoxRegression
from ebm3d.regressions.outputs import check_outputs

LOWER = (-1.0, -1.0, -1.0, -0.5, -0.5, -0.5, -math.pi / 2)
UPPER = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5, math.pi / 2)


class LabelEncodedBoxRegression(MaskedBoxRegression):
    r"""Residuals as distributions over levels; the base of BEL, RLEL and binned regression.

    The head gives theta numbers o per residual, a linear layer of the regression makes M of them:

    .. math:: Z_{dm} = \sum_t o_{dt} W_{dtm} + b_{dm}

    docs/method.md, M-12. The default ranges are for residuals from anchors: one diagonal, one
    height, a factor of 1.65 in size, and a quarter turn. What lies outside saturates.

    Args:
        num_levels: L.
        num_codes: M.
        lower: first level of each residual, in units of the coding: D numbers, or one for all.
        upper: last level of each residual, likewise.
        theta: outputs per residual; ``None`` for M outputs per residual and no linear layer.
        loss_weight: factor of the loss.
        num_residuals: D.
    """

    def __init__(
        self,
        num_levels: int,
        num_codes: int,
        lower: Sequence[float] | float,
        upper: Sequence[float] | float,
        theta: int | None,
        loss_weight: float,
        num_residuals: int,
    ) -> None:
        super().__init__(loss_weight, num_residuals)
        self.lower = _per_residual("lower", lower, num_residuals)
        self.upper = _per_residual("upper", upper, num_residuals)
        if theta is not None and theta < 1:
            raise input_error("theta", "at least 1, or None", theta)
        self.quantizer = Quantizer(self.lower, self.upper, num_levels)
        self.expansion = None if theta is None else CodeExpansion(num_residuals, theta, num_codes)
        self.num_outputs = num_residuals * (num_codes if theta is None else theta)

    @property
    def num_levels(self) -> int:
        """L."""
        return self.quantizer.num_levels

    def codes(self, outputs: Tensor) -> Tensor:
        """Return Z ``(N, D, M)`` of outputs ``(N, P)``."""
        check_outputs(outputs, self.num_outputs)
        codes = outputs.unflatten(1, (self.num_residuals, self.num_outputs // self.num_residuals))
        return codes if self.expansion is None else self.expansion(codes)

    def residual_loss(self, outputs: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Loss per residual."""
        return self.code_loss(self.codes(outputs), self.quantizer.labels(targets))

    def density(self, outputs: Tensor) -> Density:
        """Histograms over the levels; the point estimate is the expected level."""
        return self.histogram(self.level_scores(self.codes(outputs)))

    @abstractmethod
    def code_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Return the loss ``(N, D)`` of codes ``(N, D, M)``, given labels ``(N, D)`` in levels."""

    @abstractmethod
    def level_scores(self, codes: Tensor) -> Tensor:
        """Return log masses of levels up to a constant, ``(N, D, L)``, of codes ``(N, D, M)``."""

    def histogram(self, scores: Tensor) -> HistogramDensity:
        """Return the densities of scores ``(N, D, L)``."""
        return HistogramDensity(torch.log_softmax(scores, dim=-1), self.lower, self.upper)


class CodeExpansion(nn.Module):
    """One linear layer from theta to M for each of the D residuals."""

    def __init__(self, num_residuals: int, theta: int, num_codes: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(theta)  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(num_residuals, theta, num_codes))
        self.bias = nn.Parameter(torch.empty(num_residuals, num_codes))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(N, D, theta)`` to ``(N, D, M)``."""
        return torch.einsum("ndt,dtm->ndm", inputs, self.weight) + self.bias


def _per_residual(name: str, values: Any, num_residuals: int) -> tuple[float, ...]:
    """D numbers of as many, or of one for all."""
    numbers = (values,) * num_residuals if is_number(values) else values
    if not isinstance(numbers, list | tuple) or len(numbers) != num_residuals:
        expected = f"{num_residuals} numbers, one per residual, or one for all"
        raise input_error(name, expected, repr(values))
    return tuple(float(number) for number in numbers)
