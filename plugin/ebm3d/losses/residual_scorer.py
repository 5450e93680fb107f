"""An energy as a function of residuals: what Langevin chains and score matching move in.

N true boxes; S variants of each; D = 7 residuals.
"""

from __future__ import annotations

from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import shape_error
from ebm3d.losses.training import BatchScorer


class ResidualScorer:
    r"""The log density of residuals that f is in boxes.

    .. math:: h(t) = f(y(t)) + \log\left|\det\frac{\partial y}{\partial t}\right|

    docs/method.md, M-23. With it exp f is a density in meters and radians, as everywhere else, and
    a step has the same length in each of the seven dimensions.

    Args:
        f: evaluates boxes near the true ones.
        coding: residuals t around the true boxes.
    """

    def __init__(self, f: BatchScorer, coding: LocalCoding) -> None:
        self._f, self._coding = f, coding

    def __call__(self, residuals: Tensor) -> Tensor:
        """Evaluate h.

        Args:
            residuals: ``(N, S, 7)``.

        Returns:
            ``(N, S)``; differentiable in the residuals as often as f is in the boxes.

        Raises:
            ValueError: for another shape.
        """
        if residuals.ndim != 3:
            expected = f"({len(self._coding.reference)}, S, 7)"
            raise shape_error("residuals", expected, residuals)
        boxes = self._coding.decode(residuals.transpose(0, 1))
        return self._f(boxes.transpose(0, 1)) + self._coding.log_volume(boxes).transpose(0, 1)
