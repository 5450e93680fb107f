"""Quasi-Newton ascent on f: each box learns the curvature of its own f from the steps it tries.

N boxes; T steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.devices import constant
from ebm3d.errors import check_positive, input_error, is_number
from ebm3d.refiners.ascent import Ascent, StepRule, Trial
from ebm3d.refiners.steps import StepLimits
from ebm3d.registry import register

_LEAST_ANGLE = 1e-4  # cosine below which the update divides by next to nothing


@register
class QuasiNewtonAscent(Ascent):
    r"""Refine boxes by steps that the curvature of f scales.

    .. math::
        z \leftarrow z + \alpha B g, \qquad
        B \leftarrow B + \frac{r r^\top}{r^\top c}, \quad r = s - B c, \; c = g(z) - g(z + s)

    in units z, where g is the gradient, s a step that was tried and B, from
    :math:`\lambda I` on, becomes the inverse of minus the Hessian: the symmetric rank-one update,
    Nocedal and Wright, "Numerical Optimization", 2006, section 6.2; docs/method.md, M-28. On a
    quadratic in seven dimensions the eighth step is exact. Costs what :class:`GradientAscent`
    costs, T + 1 evaluations and T gradients, and 7 x 7 products. Deviations: a refused step updates
    B as well, where its gradient is known; :math:`\alpha` is a step of each box, one until a
    refusal; an update whose divisor is next to nothing, or whose f or gradient is not finite, is
    left out; where B g does not climb, the step is :math:`\lambda g`, that of
    :class:`GradientAscent`.

    Args:
        num_steps: T; 0 returns the input boxes.
        step_size: :math:`\lambda`, of the first step; dimensionless with ``step_scale``.
        step_decay: factor of :math:`\alpha` after a refusal, in (0, 1); a success undoes one.
        step_scale: S, seven numbers for along (x), across (y), up, length, width, height (m), yaw
            (rad), or one row per class; None for ones.
        axes: "box" turns the center's gradient into the axes of the input box; "world" leaves
            x and y. A matter of S only.
        max_step: largest move per dimension in one step, in units of S; None for no limit.
        max_displacement: largest move per dimension in all, in units of S; None for no limit.
        min_size: smallest size of an accepted box, meters.

    Raises:
        ValueError: for constants out of range.
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

    def start(self, boxes: Tensor) -> StepRule:
        """Return the rule: along the gradient at first, then as the curvature says."""
        return _CurvedSteps(boxes, self.step_size, self.step_decay)


class _CurvedSteps(StepRule):
    """B ``(N, 7, 7)`` and alpha ``(N, 1)`` of each box."""

    def __init__(self, boxes: Tensor, size: float, decay: float) -> None:
        unit = torch.eye(boxes.shape[1], dtype=boxes.dtype, device=boxes.device)
        self._inverse = size * unit.repeat(len(boxes), 1, 1)
        self._alpha = torch.ones_like(boxes[:, :1])
        self._size = size
        self._growth, self._decay, self._none = constant((1 / decay, decay, 0.0), boxes)

    def move(self, gradient: Tensor) -> Tensor:
        """Along B times the gradient, or the gradient where that does not climb."""
        slope = gradient[..., None]
        move = self._inverse @ slope
        climb = move.mT @ slope
        return self._alpha * torch.where(climb > 0, move, self._size * slope)[..., 0]

    def learn(self, trial: Trial) -> None:
        """Update B by the step and the change of the gradient, alpha by the success."""
        # With c = -change: r = s - B c = s + B change, and r c = -(r change).
        change = trial.change[..., None]
        rest = torch.baddbmm(trial.step[..., None], self._inverse, change)
        scaled = rest / (rest.mT @ change)
        # |r| |c| over |r c|, and NaN where a gradient is not known.
        sizes = (torch.linalg.vector_norm(part, dim=1) for part in (scaled, change))
        inverse_cosine = torch.addcmul(trial.unknown, *sizes)
        valid = (inverse_cosine < 1 / _LEAST_ANGLE)[..., None]
        scaled = torch.where(valid, scaled, self._none)
        self._inverse = torch.baddbmm(self._inverse, rest, scaled.mT, alpha=-1)
        factor = torch.where(trial.accepted, self._growth, self._decay)
        self._alpha = (self._alpha * factor).clamp_max(1)
