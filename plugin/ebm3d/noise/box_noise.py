"""Gaussian mixture noise around boxes, in units scaled to the class.

N true boxes; M noise samples per box; K mixture components; D = 7 box parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.boxes.local import add_local_offsets, local_offsets
from ebm3d.devices import standard_normal, whole_numbers
from ebm3d.errors import (
    check_count,
    check_floating_boxes,
    check_labels,
    check_positive,
    input_error,
    shape_error,
)
from ebm3d.noise.bound_noise import BoundNoise, NoiseSamples
from ebm3d.noise.mixture_tables import MixtureTables
from ebm3d.registry import register

_AXES = ("box", "world")
_SIZES = ("log", "metric")


@register
class BoxNoise:
    r"""Mixture of Gaussians around each true box, one component index for all seven dimensions.

    .. math::
        q(\tilde y\,|\,y_i) = \frac1K\sum_{k=1}^{K} N\!\left(T(\tilde y; y_i);\, 0,\,
        \mathrm{diag}(m_k \sigma_{c_i})^2\right) \left|\det \partial T/\partial \tilde y\right|

    Source: Gustafsson et al. 2020 (docs/method.md, M-2). Deviations: the standard deviations
    :math:`\sigma_c` belong to the class; center offsets are drawn along and across the heading
    (``axes="box"``); sizes are drawn as log ratios (``sizes="log"``), which keeps them positive
    without a clamp, and the density then carries the Jacobian, so that f stays a log density in
    meters. ``axes="world", sizes="metric"`` is the paper's noise: x, y, z offsets, sizes clamped at
    ``min_size`` after the density has been taken, as published. Wrapped tails of the yaw (beyond
    pi, ten standard deviations and more away) are left out of the density.

    Args:
        stds: standard deviations, one row of 7 for all classes or ``(num_classes, 7)``: along,
            across, up (m); length, width, height (dimensionless log ratio, or m for "metric"); yaw
            (rad).
        multipliers: :math:`m_k`, one per component.
        axes: "box" or "world", the axes of the center offsets.
        sizes: "log" or "metric".
        shared_in_scene: draw one set of M offsets and use it for every box (the paper); cheaper,
            but the samples of a frame are then not independent.
        min_size: smallest size in meters after "metric" noise.

    Raises:
        ValueError: for stds or multipliers that are not positive, of a wrong shape, or an unknown
            option.
    """

    def __init__(
        self,
        stds: Sequence[float] | Sequence[Sequence[float]],
        multipliers: Sequence[float] = (0.5, 1.0, 2.0),
        axes: str = "box",
        sizes: str = "log",
        shared_in_scene: bool = False,
        min_size: float = 0.05,
    ) -> None:
        table = _as_table("stds", stds)
        table = table[None] if table.ndim == 1 else table
        if table.ndim != 2 or table.shape[1] != 7:
            raise shape_error("stds", "(7,) or (num_classes, 7)", table)
        factors = _as_table("multipliers", multipliers)
        if factors.ndim != 1:
            raise shape_error("multipliers", "(K,), one per component", factors)
        for name, value in (("stds", table), ("multipliers", factors)):
            if value.numel() == 0 or not bool(((value > 0) & (value < math.inf)).all()):
                raise input_error(name, "positive and finite", value.tolist())
        if axes not in _AXES:
            raise input_error("axes", f"one of {_AXES}", repr(axes))
        if sizes not in _SIZES:
            raise input_error("sizes", f"one of {_SIZES}", repr(sizes))
        check_positive("min_size", min_size)
        self.stds, self.multipliers = table, factors
        self._rows, self._factors = _rows_of(table), tuple(factors.tolist())
        self.axes, self.sizes = axes, sizes
        self.shared_in_scene, self.min_size = shared_in_scene, min_size

    @property
    def base(self) -> BoxNoise:
        """The noise that needs no features: itself."""
        return self

    def noise_std(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the standard deviations as units of a ``LocalCoding`` around boxes.

        Args:
            boxes: ``(N, 7)``.
            labels: ``(N,)`` class indices.

        Returns:
            ``(N, 7)``: along, across, up (m); length, width, height (log ratio, to first order
            where the noise is metric); yaw (rad). In the dtype of ``boxes``.

        Raises:
            ValueError: for a wrong shape.
        """
        self._check(boxes, labels)
        stds = MixtureTables.of(self._rows, self._factors, boxes).class_stds(labels)
        if self.axes == "box" and self.sizes == "log":
            return stds
        plane, sizes = stds[:, :2], stds[:, 3:6]
        if self.axes == "world":
            cos, sin = torch.cos(boxes[:, 6:]), torch.sin(boxes[:, 6:])
            turned = torch.cat((cos, sin, sin, cos), dim=1).reshape(-1, 2, 2).square()
            plane = (turned @ plane.square()[..., None])[..., 0].sqrt()
        if self.sizes == "metric":
            sizes = sizes / boxes[:, 3:6]
        return torch.cat((plane, stds[:, 2:3], sizes, stds[:, 6:]), dim=1)

    def scale_std(self, factor: float) -> BoxNoise:
        """Return the noise of all standard deviations times a factor.

        Args:
            factor: positive and finite; M-21's beta.

        Raises:
            ValueError: if it is not.
        """
        check_positive("factor", factor)
        narrow = copy(self)
        narrow.stds = self.stds * factor
        narrow._rows = _rows_of(narrow.stds)
        return narrow

    def shared(self) -> BoxNoise:
        """Return the same noise, one set of M offsets for all boxes that are sampled together.

        What a box gets then does not depend on how many others there are, as inference wants it.
        """
        alike = copy(self)
        alike.shared_in_scene = True
        return alike

    def around(
        self,
        boxes: Tensor,
        labels: Tensor,
        frame_sizes: Sequence[int] | None = None,
        reference: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BoundNoise:
        """Bind the noise to true boxes, as training methods take it.

        Args:
            boxes: ``(N, 7)`` true boxes.
            labels: ``(N,)`` class indices.
            frame_sizes: number of boxes of each frame; one frame if left out.
            reference: see :attr:`BoundNoise.reference`; drawn if left out.
            generator: source of randomness on the device of ``boxes``.

        Raises:
            ValueError: as :class:`BoundNoise`.
        """
        return BoundNoise(self, boxes, labels, frame_sizes, reference, generator)

    def sample(
        self,
        boxes: Tensor,
        labels: Tensor,
        num_samples: int,
        generator: torch.Generator | None = None,
    ) -> NoiseSamples:
        """Draw noise samples around the true boxes.

        Args:
            boxes: ``(N, 7)`` true boxes, LiDAR frame, finite, sizes positive.
            labels: ``(N,)`` class indices.
            num_samples: M, at least 1.
            generator: source of randomness on the device of ``boxes``.

        Returns:
            The true boxes and their samples with log densities, in the dtype of ``boxes``.

        Raises:
            ValueError: as :meth:`around`, and for ``num_samples < 1``.
        """
        return self.around(boxes, labels, generator=generator).sample(num_samples)

    def draw(
        self,
        boxes: Tensor,
        labels: Tensor,
        num_samples: int,
        frame_sizes: Sequence[int],
        generator: torch.Generator | None,
    ) -> NoiseSamples:
        """Draw as :meth:`sample`, for frames in turn; boxes and labels are not checked again.

        Args:
            boxes: ``(N, 7)``.
            labels: ``(N,)``.
            num_samples: M, at least 1.
            frame_sizes: number of boxes of each frame, N in all.
            generator: as for :meth:`sample`.
        """
        check_count("num_samples", num_samples)
        tables = MixtureTables.of(self._rows, self._factors, boxes)
        drawn = [self._numbers(size, num_samples, boxes, generator) for size in frame_sizes]
        component, normal = map(torch.cat, zip(*drawn, strict=True)) if drawn[1:] else drawn[0]
        # In standard deviations; the true box is at index 0.
        z = pad(tables.scales[component][..., None] * normal, (0, 0, 1, 0))
        log_q = tables.log_density(z, labels)
        offsets = z * tables.class_stds(labels)[:, None]
        reference = boxes[:, None]
        if self.sizes == "log":
            lengths = reference[..., 3:6] * torch.exp(offsets[..., 3:6])
            log_q = log_q - torch.log(lengths).sum(-1)
        else:
            noisy = (reference[..., 3:6] + offsets[:, 1:, 3:6]).clamp_min(self.min_size)
            lengths = torch.cat((reference[..., 3:6], noisy), dim=1)
        moved = self._move(reference, offsets)
        return NoiseSamples(torch.cat((moved[..., :3], lengths, moved[..., 6:]), dim=-1), log_q)

    def log_prob(self, boxes: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
        """Return the log density of the noise around ``boxes`` at ``samples``.

        Args:
            boxes: ``(N, 7)`` true boxes.
            samples: ``(N, S, 7)`` where the density is wanted.
            labels: ``(N,)`` class indices.

        Returns:
            ``(N, S)`` nats; density in meters and radians.

        Raises:
            ValueError: for a wrong shape, and in main memory for labels without a row.
        """
        self._check(boxes, labels)
        if samples.ndim != 3 or samples.shape[::2] != boxes.shape:
            raise shape_error("samples", f"({len(boxes)}, S, 7)", samples)
        reference = boxes[:, None]
        if self.axes == "box":
            offsets = local_offsets(reference, samples)
        else:
            shifted = torch.cat((samples[..., :6], samples[..., 6:] - reference[..., 6:]), -1)
            offsets = local_offsets(_unturned(reference), shifted)
        tables = MixtureTables.of(self._rows, self._factors, boxes)
        stds = tables.class_stds(labels)[:, None]
        if self.sizes == "metric":
            return tables.log_density(offsets / stds, labels)
        log_sizes = torch.log(samples[..., 3:6])
        ratio = log_sizes - torch.log(reference[..., 3:6])
        offsets = torch.cat((offsets[..., :3], ratio, offsets[..., 6:]), -1)
        return tables.log_density(offsets / stds, labels) - log_sizes.sum(-1)

    def _move(self, reference: Tensor, offsets: Tensor) -> Tensor:
        """Centers and yaws of ``(N, 1, 7)`` boxes moved by ``(N, S, 7)`` in the configured axes."""
        if self.axes == "box":
            return add_local_offsets(reference, offsets)
        yaw = torch.cat((offsets[..., :6], offsets[..., 6:] + reference[..., 6:]), -1)
        return add_local_offsets(_unturned(reference), yaw)

    def _numbers(
        self, size: int, num_samples: int, like: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Components ``(size, M)`` and standard normal numbers ``(size, M, 7)`` of a frame."""
        count = 1 if self.shared_in_scene and size else size
        shape = (count, num_samples)
        component = whole_numbers(len(self.multipliers), shape, like, generator)
        normal = standard_normal((*shape, 7), like, generator)
        return component.expand(size, -1), normal.expand(size, -1, -1)

    def _check(self, boxes: Tensor, labels: Tensor) -> None:
        """Raise unless boxes are ``(N, 7)``, of a floating-point type, and labels have rows."""
        check_floating_boxes(boxes)
        check_labels(labels, len(boxes), len(self.stds), "stds")


def _as_table(name: str, values: Any) -> Tensor:
    """Numbers as float64."""
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise input_error(name, "numbers, in rows of the same length", repr(values)) from error


def _rows_of(table: Tensor) -> tuple[tuple[float, ...], ...]:
    """Rows of a table in main memory as numbers."""
    return tuple(map(tuple, table.tolist()))


def _unturned(boxes: Tensor) -> Tensor:
    """Boxes ``(..., 7)`` that head along x."""
    return torch.cat((boxes[..., :6], torch.zeros_like(boxes[..., 6:])), dim=-1)
