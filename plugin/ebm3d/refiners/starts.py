"""Starts of an ascent: the best of many boxes around each detected one.

N boxes of D columns, 9 with velocities; K candidates and P starts of each.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ebm3d.boxes.codings import LocalCoding
from ebm3d.devices import Matrix, constant
from ebm3d.errors import check_count, input_error
from ebm3d.refiners.ascent import Ascent, RefinementResult
from ebm3d.refiners.scorers import Scorer, check_values

_CHILDREN = 16  # of a start in each further round
_SHRINKING = 0.5  # of the standard deviations from round to round
_PARKED, _KEPT = 0.2, 0.2  # shares of candidates without velocity, and with the detected one
_LEAST = 1e-6  # of a uniform draw: 4.75 standard deviations


class StartSearch:
    r"""Search for boxes from which to climb, without gradients.

    Candidates of a box are itself, and K draws around it: center and size of the detector's errors;
    the heading uniform over the circle; the velocity the detected one, or along the heading with a
    speed of its errors, or zero. Each further round draws around the best P with half the standard
    deviations of the round before. All boxes share the draws, points of a Sobol sequence of a
    fixed seed: a box has the same starts at every call, whatever others there are.
    docs/method.md, M-36.

    Args:
        num_candidates: K, of the first round; at least 1.
        num_rounds: further rounds, of 16 draws around each of P boxes.
        num_starts: P, each climbed; the result is the highest.

    Raises:
        ValueError: for numbers below one (zero for ``num_rounds``).
    """

    def __init__(self, num_candidates: int = 128, num_rounds: int = 2, num_starts: int = 4) -> None:
        check_count("num_candidates", num_candidates)
        check_count("num_rounds", num_rounds, least=0)
        check_count("num_starts", num_starts)
        if num_starts > num_candidates + 1:
            expected = f"at most {num_candidates + 1}, the candidates and the box itself"
            raise input_error("num_starts", expected, num_starts)
        self.num_candidates, self.num_rounds = num_candidates, num_rounds
        self.num_starts = num_starts

    @torch.no_grad()
    def __call__(self, f: Scorer, coding: LocalCoding) -> Tensor:
        """Return starts ``(N, P, D)``, from the highest f down.

        Args:
            f: evaluates boxes ``(N, S, D)``; what is not a number counts as the lowest.
            coding: around N detected boxes, in standard deviations of the detector's errors.
        """
        num = self.num_starts
        boxes = torch.cat((coding.reference[:, None], self.candidates(coding)), dim=1)
        boxes, values = _highest(boxes, check_values(f(boxes), boxes), num)
        for index in range(1, self.num_rounds + 1):
            std = (coding.noise_std * _SHRINKING**index).repeat_interleave(num, dim=0)
            near = LocalCoding(boxes.flatten(0, 1), std)
            z = _normal(num * _CHILDREN, boxes, index).unflatten(0, (num, _CHILDREN))
            draws = near.decode(z.repeat(len(boxes), 1, 1))
            draws = draws.reshape(len(boxes), num * _CHILDREN, boxes.shape[2])
            both = values, check_values(f(draws), draws)
            boxes, values = _highest(torch.cat((boxes, draws), dim=1), torch.cat(both, dim=1), num)
        return boxes

    def candidates(self, coding: LocalCoding) -> Tensor:
        """Return the draws ``(N, K, D)`` of the first round."""
        reference, std = coding.reference, coding.noise_std[:, None]
        z = _normal(self.num_candidates, reference, 0)
        heading, kind = _uniform(self.num_candidates, reference, 0).unbind(dim=1)
        residuals = z.expand(len(reference), -1, -1)
        yaw = (2 * heading - 1) * math.pi / std[..., 6]
        parts = residuals[..., :6], yaw[..., None], residuals[..., 7:]
        boxes = coding.decode(torch.cat(parts, dim=2))
        if boxes.shape[2] == 7:
            return boxes
        yaw = boxes[..., 6]
        speed = (kind > _PARKED + _KEPT) * (std[..., 7] * z[:, 7]).abs()
        along = speed[..., None] * torch.stack((torch.cos(yaw), torch.sin(yaw)), dim=-1)
        kept = ((kind > _PARKED) & (kind < _PARKED + _KEPT))[:, None]
        return torch.cat((boxes[..., :7], torch.where(kept, reference[:, None, 7:], along)), dim=2)

    def climb(
        self, ascent: Ascent, f: Scorer, coding: LocalCoding, labels: Tensor | None = None
    ) -> RefinementResult:
        """Climb from each start and keep the highest; ``f_initial`` is that of its start.

        ``labels`` ``(N,)`` as in :meth:`Ascent.__call__`.
        """
        starts = self(f, coding)
        sizes = starts.shape[:2]
        labels = None if labels is None else labels.repeat_interleave(sizes[1])
        result = ascent(
            lambda boxes: f(boxes.unflatten(0, sizes)).flatten(), starts.flatten(0, 1), labels
        )
        best = _order(result.f_final.unflatten(0, sizes))[:, 0]
        rows = best + sizes[1] * torch.arange(len(best), device=best.device)
        fields = result.boxes, result.f_initial, result.f_final, result.num_accepted
        return RefinementResult(*(field[rows] for field in fields))


def _highest(boxes: Tensor, values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The boxes of the highest values ``(N, S)``, from the highest down, and these."""
    rows = _order(values)[:, :num]
    return boxes.gather(1, rows[..., None].expand(-1, -1, boxes.shape[2])), values.gather(1, rows)


def _order(values: Tensor) -> Tensor:
    """Indices of values ``(N, S)`` from the highest down, what is not finite last."""
    finite = torch.where(values.isfinite(), values, -math.inf)
    return finite.argsort(dim=1, descending=True, stable=True)


def _normal(num: int, like: Tensor, seed: int) -> Tensor:
    """Standard normal draws ``(num, D)``."""
    return constant(_draws(num, like.shape[-1], seed)[0], like)


def _uniform(num: int, like: Tensor, seed: int) -> Tensor:
    """Draws ``(num, 2)`` from (0, 1), of the same sequence."""
    return constant(_draws(num, like.shape[-1], seed)[1], like)


@functools.cache
def _draws(num: int, columns: int, seed: int) -> tuple[Matrix, Matrix]:
    """The first points of a scrambled Sobol sequence: D columns as normal ones, two more."""
    points = SobolEngine(columns + 2, scramble=True, seed=seed).draw(num, dtype=torch.float64)
    points = points.clamp(_LEAST, 1 - _LEAST)
    normal = torch.special.ndtri(points[:, :columns])
    return tuple(map(tuple, normal.tolist())), tuple(map(tuple, points[:, columns:].tolist()))
