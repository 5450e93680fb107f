"""Quasi-Newton ascent on f: each box learns the curvature of f from the steps it tries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.errors import check_positive, input_error, is_number
from ebm3d.refiners.ascent import Ascent, StepRule
from ebm3d.refiners.steps import StepLimits
from ebm3d.registry import register

_LEAST_COSINE = 1e-4  # below it the update would divide by next to nothing


@register
class QuasiNewtonAscent(Ascent):
    r"""Refine boxes by steps that the curvature of f scales.

    .. math::
        z \leftarrow z + \alpha B g, \qquad
        B \leftarrow B + \frac{r r^\top}{r^\top c}, \quad r = s - B c, \; c = g(z) - g(z + s)

    in units z, with g the gradient, s a step that was tried, and B, at first :math:`\lambda I`, an
    estimate of the inverse of minus the Hessian: the symmetric rank-one update, Nocedal and Wright,
    "Numerical Optimization", 2006, section 6.2; docs/method.md, M-28. On a quadratic of D
    dimensions step D + 1 is exact. Deviations: a refused step updates B as well; :math:`\alpha` is
    a number per box, one until a refusal; an update whose divisor is next to nothing, or whose f or
    gradient is not finite, is left out; where B g does not climb, the step is
    :math:`\alpha\lambda g`.

    Args:
        num_steps: T; the arguments not listed here are those of :class:`GradientAscent`.
        step_size: :math:`\lambda`; dimensionless with ``step_scale``.
        step_decay: factor of :math:`\alpha` after a refusal, in (0, 1); a success undoes one.
    """

    def __init__(
        self,
        num_steps: int = 10,
        step_size: float = 0.1,
        step_decay: float = 0.5,
        step_scale: Sequence[float] | Sequence[Sequence[float]] | None = None,
        axes: str = "box",
        max_step: float | None = 1.0,
        max_displacement: float | None = 3.0,
        min_size: float = 0.05,
    ) -> None:
        limits = StepLimits(step_scale, axes, max_step, max_displacement, min_size)
        super().__init__(num_steps, limits)
        check_positive("step_size", step_size)
        if not (is_number(step_decay) and 0 < step_decay < 1):
            raise input_error("step_decay", "in (0, 1)", step_decay)
        self.step_size, self.step_decay = step_size, step_decay

    def rule(self, boxes: Tensor) -> StepRule:
        """Steps along the gradient at first, then as the curvature says."""
        return _QuasiNewtonSteps(boxes, self.step_size, self.step_decay)


class _QuasiNewtonSteps(StepRule):
    """B ``(N, D, D)`` and alpha ``(N, 1)`` of each box."""

    def __init__(self, boxes: Tensor, size: float, decay: float) -> None:
        identity = torch.eye(boxes.shape[1], dtype=boxes.dtype, device=boxes.device)
        self._inverse = size * identity.repeat(len(boxes), 1, 1)
        self._alpha = torch.ones_like(boxes[:, :1])
        self._size = size
        self._growth, self._decay, self._zero = constant((1 / decay, decay, 0.0), boxes)

    def step(self, gradient: Tensor) -> Tensor:
        """Along B g, or along g where that does not climb."""
        slope = gradient[..., None]
        step = self._inverse @ slope
        climbs = step.mT @ slope > 0
        return self._alpha * torch.where(climbs, step, self._size * slope)[..., 0]

    def update(self, step: Tensor, change: Tensor, unknown: Tensor, accepted: Tensor) -> None:
        """Update B by the step and the change of the gradient, alpha by the success."""
        # With c = -change: r = s + B change, and r' c = -(r' change).
        change = change[..., None]
        r = torch.baddbmm(step[..., None], self._inverse, change)
        scaled = r / (r.mT @ change)
        # |r| |c| over |r' c|, and NaN where a gradient is not known.
        lengths = (torch.linalg.vector_norm(vector, dim=1) for vector in (scaled, change))
        inverse_cosine = torch.addcmul(unknown, *lengths)
        is_valid = (inverse_cosine < 1 / _LEAST_COSINE)[..., None]
        scaled = torch.where(is_valid, scaled, self._zero)
        self._inverse = torch.baddbmm(self._inverse, r, scaled.mT, alpha=-1)
        factor = torch.where(accepted, self._growth, self._decay)
        self._alpha = (self._alpha * factor).clamp_max(1)
