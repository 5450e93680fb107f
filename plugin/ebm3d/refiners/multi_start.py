"""Ascents from several starts, and the modes they find.

N boxes; S starts of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.devices import constant
from ebm3d.errors import check_count, check_positive, check_valid_boxes, input_error
from ebm3d.refiners.ascent import BoxScorer, Modes, RefinementResult, check_values
from ebm3d.refiners.laplace import laplace_approximation
from ebm3d.refiners.residual_density import VariantScorer
from ebm3d.refiners.steps import scale_of, scale_table


class Refiner(Protocol):
    """Refines N boxes, each by itself (:class:`ebm3d.refiners.Ascent`)."""

    def __call__(
        self, f: BoxScorer, boxes: Tensor, labels: Tensor | None = None
    ) -> RefinementResult:
        """Return refined boxes of boxes ``(N, 7)`` and classes ``(N,)``."""
        ...


class MultiStart:
    r"""Refine each box from several starts; the highest end is the box, all ends are its modes.

    The starts are the box, :math:`K - 1` draws :math:`y(\rho\epsilon)` around it, with
    :math:`\epsilon \sim \mathcal N(0, I)` in units of the noise, and on request the box turned by
    pi: a detector that confuses front and rear leaves f with two modes in the yaw, and no ascent
    gets from one to the other. Ends whose residuals differ by at most a radius in every dimension
    are one mode, the highest of them. docs/method.md, M-29. The draws are the same for every box
    and every call.

    Costs S times the evaluations of ``base``, which f gets as S variants of N boxes.

    Args:
        base: refiner that climbs from each start.
        noise_std: seven standard deviations of the noise: along, across, up (m); length, width, height
            (log ratio); yaw (rad); or one row per class.
        num_starts: K, the box and the draws; at least 1.
        turned: whether to start from the box turned by pi, too.
        spread: rho, standard deviation of the draws, in units.
        merge_radius: largest difference of two residuals of one mode, in units.
        seed: of the draws.

    Raises:
        ValueError: for constants out of range.
    """

    def __init__(
        self,
        base: Refiner,
        noise_std: Sequence[float] | Sequence[Sequence[float]],
        num_starts: int = 4,
        turned: bool = False,
        spread: float = 1.0,
        merge_radius: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not callable(base) or isinstance(base, MultiStart):
            raise input_error("base", "a refiner with one start", repr(base))
        check_count("num_starts", num_starts)
        check_count("seed", seed, least=0)
        check_positive("spread", spread)
        check_positive("merge_radius", merge_radius)
        self.base, self.noise_std = base, scale_table("noise_std", noise_std)
        self.num_starts, self.turned, self.spread = num_starts, turned, spread
        self.merge_radius, self.seed = merge_radius, seed
        generator = torch.Generator().manual_seed(seed)
        # One by one, so that more starts are those of fewer, and others.
        draws = [
            spread * torch.randn(7, generator=generator, dtype=torch.float64)
            for _ in range(num_starts - 1)
        ]
        self._draws = tuple(tuple(residual.tolist()) for residual in draws)

    def __call__(
        self, f: VariantScorer, boxes: Tensor, labels: Tensor | None = None
    ) -> RefinementResult:
        """Refine boxes.

        Args:
            f: evaluates S variants of each box, ``(N, S, 7)`` to ``(N, S)``.
            boxes: ``(N, 7)`` finite boxes, sizes positive.
            labels: ``(N,)`` classes; needed where a table has a row per class.

        Returns:
            The highest end of each box, with all its modes; f nowhere below that of the box, nor
            of what ``base`` makes of the box alone.

        Raises:
            ValueError: for a wrong shape; in main memory also for boxes that are not finite and of
                positive size.
        """
        check_valid_boxes(boxes)
        coding = LocalCoding(boxes.detach(), scale_of("noise_std", self.noise_std, boxes, labels))
        starts = self._starts(coding)
        shape = starts.shape[:2]
        repeated = None if labels is None else labels[:, None].expand(shape).reshape(-1)
        ends = self.base(_flat(f, shape), starts.flatten(0, 1), repeated)
        modes, order = self._merge(coding, ends.boxes.view_as(starts), ends.f_final.view(shape))
        best = order[:, :1]
        return RefinementResult(
            ends.boxes.view_as(starts).gather(1, best[..., None].expand(-1, -1, 7))[:, 0],
            ends.f_initial.view(shape)[:, 0],
            ends.f_final.view(shape).gather(1, best)[:, 0],
            ends.num_accepted.view(shape).gather(1, best)[:, 0],
            modes,
        )

    def _starts(self, coding: LocalCoding) -> Tensor:
        """Boxes to start from, ``(N, S, 7)``; first the box itself, bit by bit."""
        boxes = coding.reference
        parts = [boxes[:, None]]
        if self._draws:
            residuals = constant(self._draws, boxes)[:, None].expand(-1, *boxes.shape)
            parts.append(coding.decode(residuals).transpose(0, 1))
        if self.turned:
            yaw = wrap_to_pi(boxes[:, 6:] + math.pi)
            parts.append(torch.cat((boxes[:, :6], yaw), dim=1)[:, None])
        return torch.cat(parts, dim=1)

    def _merge(self, coding: LocalCoding, ends: Tensor, f: Tensor) -> tuple[Modes, Tensor]:
        """Modes of ends ``(N, S, 7)``, and the order ``(N, S)`` of the ends from the highest."""
        height = torch.where(torch.isfinite(f), f, -math.inf)
        order = height.argsort(dim=1, descending=True, stable=True)
        ends = ends.gather(1, order[..., None].expand(-1, -1, 7))
        height = height.gather(1, order)
        near = self._near(coding, ends)
        kept = torch.isfinite(height)
        kept[:, :1] = True
        for index in range(1, ends.shape[1]):
            kept[:, index] &= ~(near[:, index, :index] & kept[:, :index]).any(dim=1)
        front = (~kept).long().argsort(dim=1, stable=True)
        kept = kept.gather(1, front)
        boxes = ends.gather(1, front[..., None].expand(-1, -1, 7))
        height = torch.where(kept, height.gather(1, front), -math.inf)
        # A single mode without a finite f has all the weight.
        weights = torch.softmax(torch.where(height.isfinite().any(1, True), height, 0.0), dim=1)
        weights = torch.where(kept, weights, 0.0)
        weights = weights / weights.sum(dim=1, keepdim=True)
        return Modes(torch.where(kept[..., None], boxes, math.nan), height, weights), order

    def _near(self, coding: LocalCoding, ends: Tensor) -> Tensor:
        """Whether two ends of a box lie within the radius, ``(N, S, S)``."""
        residuals = coding.encode(ends.transpose(0, 1)).transpose(0, 1)
        difference = residuals[:, :, None] - residuals[:, None]
        unit = coding.yaw_unit[:, None, None, None]
        yaw = wrap_to_pi(difference[..., 6:] * unit) / unit
        largest = torch.cat((difference[..., :6], yaw), dim=-1).abs().amax(dim=-1)
        return largest <= self.merge_radius


def weigh_modes(f: VariantScorer, modes: Modes, noise_std: Tensor) -> Modes:
    """Weigh modes by their masses under exp f instead of their heights.

    The masses are the normalizers of Laplace approximations: a mode twice as wide in each of seven
    dimensions has 128 times the mass of one as high.

    Args:
        f: evaluates S variants of each box, ``(N, S, 7)`` to ``(N, S)``.
        modes: of N boxes.
        noise_std: ``(N, 7)`` standard deviations of the noise.

    Returns:
        The same modes, in the same order, with other weights.
    """
    shape = modes.f.shape
    # Padding is evaluated at the highest mode and has no weight.
    padded = torch.where(torch.isnan(modes.boxes), modes.boxes[:, :1], modes.boxes)

    def variants(boxes: Tensor) -> Tensor:
        variants_of_each = shape[1] * boxes.shape[1]  # no -1: without boxes it is ambiguous
        return f(boxes.reshape(shape[0], variants_of_each, 7)).reshape(boxes.shape[:2])

    repeated = noise_std[:, None].expand_as(padded).flatten(0, 1)
    laplace = laplace_approximation(variants, padded.flatten(0, 1), repeated)
    log_masses = laplace.log_normalizer.view(shape)
    log_masses = torch.where(modes.weights > 0, log_masses, -math.inf)
    return replace(modes, weights=torch.softmax(log_masses, dim=1))


def _flat(f: VariantScorer, shape: torch.Size) -> BoxScorer:
    """Evaluate ``(N * S, 7)`` boxes as S variants of N."""

    def score(boxes: Tensor) -> Tensor:
        variants = boxes.reshape(*shape, 7)
        return check_values(f(variants), variants).reshape(-1)

    return score
