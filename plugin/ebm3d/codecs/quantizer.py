"""From residuals to levels and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm3d.errors import input_error, shape_error


class Quantizer(nn.Module):
    r"""Continuous labels of D residuals on L evenly spaced levels.

    .. math:: y_d = \mathrm{clamp}\Big(\frac{t_d - a_d}{b_d - a_d}(L - 1),\, 0,\, L - 1\Big)

    with ``lower`` a and ``upper`` b in units of the residuals. Not rounded: :func:`soft_labels`
    share a label among the levels around it. docs/method.md, M-12.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, lower: Sequence[float], upper: Sequence[float], num_levels: int) -> None:
        super().__init__()
        if len(lower) != len(upper):
            raise input_error("upper", f"{len(lower)} numbers like lower", f"{len(upper)}")
        for dimension, (low, high) in enumerate(zip(lower, upper, strict=True)):
            if not -math.inf < low < high < math.inf:
                expected = f"above lower = {low}, both finite"
                raise input_error(f"upper[{dimension}]", expected, high)
        if num_levels < 2:
            raise input_error("num_levels", "at least 2", num_levels)
        self.num_levels = num_levels
        # Set by the config: a checkpoint does not overrule it.
        self.register_buffer("lower", torch.tensor([float(x) for x in lower]), persistent=False)
        self.register_buffer("upper", torch.tensor([float(x) for x in upper]), persistent=False)

    @property
    def bin_width(self) -> Tensor:
        """Residual units between two levels, ``(D,)``."""
        return (self.upper - self.lower) / (self.num_levels - 1)

    def labels(self, residuals: Tensor) -> Tensor:
        """Return labels ``(..., D)`` in [0, L - 1] of residuals ``(..., D)``."""
        self._check("residuals", residuals)
        return ((residuals - self.lower) / self.bin_width).clamp(0, self.num_levels - 1)

    def residuals(self, labels: Tensor) -> Tensor:
        """Return residuals ``(..., D)`` of labels ``(..., D)``: the inverse inside the range."""
        self._check("labels", labels)
        return self.lower + labels * self.bin_width

    def _check(self, name: str, values: Tensor) -> None:
        """Raise unless the last axis is D."""
        if values.ndim == 0 or values.shape[-1] != len(self.lower):
            raise shape_error(name, f"(..., {len(self.lower)})", values)
