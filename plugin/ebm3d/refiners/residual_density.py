"""The log density of residuals that f is in boxes: what chains and curvatures move in.

N boxes; S variants of each; D = 7 residuals.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import input_error, shape_error
from ebm3d.refiners.ascent import check_values


class VariantScorer(Protocol):
    """Evaluates f of S variants of N boxes (:class:`ebm3d.energy.BoxEnergy`)."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N, S)`` of boxes ``(N, S, 7)``."""
        ...


class ResidualDensity:
    r"""The log density of residuals that f is in boxes.

    .. math:: h(t) = f(y(t)) + \log\left|\det\frac{\partial y}{\partial t}\right|

    docs/method.md, M-23. With it exp f stays a density in meters and radians, and a step has the
    same length in each of the seven dimensions.

    Args:
        f: evaluates S variants of each box.
        coding: residuals t around N boxes.
    """

    def __init__(self, f: VariantScorer, coding: LocalCoding) -> None:
        self._f, self._coding = f, coding

    def __call__(self, residuals: Tensor) -> Tensor:
        """Evaluate h.

        Args:
            residuals: ``(N, S, 7)``.

        Returns:
            ``(N, S)``; differentiable in the residuals as often as f is in the boxes.

        Raises:
            ValueError: for another shape, if f gives another shape, or has no graph where the
                residuals have one.
        """
        if residuals.ndim != 3:
            expected = f"({len(self._coding.reference)}, S, 7)"
            raise shape_error("residuals", expected, residuals)
        variants = self._coding.decode(residuals)
        values = check_values(self._f(variants), variants)
        # The volume has a graph of its own: without this f would go unnoticed.
        if variants.requires_grad and not values.requires_grad and len(variants):
            raise input_error("f", "differentiable in boxes", "values without a graph")
        return values + self._coding.log_volume(variants)
