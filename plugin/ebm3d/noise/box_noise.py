"""Gaussian mixture noise around boxes, with standard deviations per class.

N true boxes of D columns, 9 with velocities; M noise samples and S variants of each; K mixture
components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.boxes.angles import wrap_yaw
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
    r"""Mixture of Gaussians around each true box, one component index for all D dimensions.

    .. math::
        q(\tilde y\,|\,y_i) = \frac1K\sum_{k=1}^{K} N\!\left(T(\tilde y; y_i);\, 0,\,
        \mathrm{diag}(m_k \sigma_{c_i})^2\right) \left|\det \partial T/\partial \tilde y\right|

    Source: Gustafsson et al. 2020 (docs/method.md, M-2). Deviations: standard deviations
    :math:`\sigma_c` per class; center offsets along and across the heading (``axes="box"``); sizes
    as log ratios (``sizes="log"``), positive without a clamp, the density in meters by the
    Jacobian. ``axes="world", sizes="metric"`` is the paper's noise: x, y, z offsets, sizes clamped
    at ``min_size`` after the density has been taken. The density leaves out the wrapped tails of
    the yaw (beyond pi).

    Args:
        stds: standard deviations, one row of D for all classes or ``(num_classes, D)``: along,
            across, up (m); length, width, height (dimensionless log ratio, or m for "metric"); yaw
            (rad); for boxes with velocities also those along and across the heading (m/s).
        multipliers: :math:`m_k`, one per component.
        axes: "box" or "world", the axes of the offsets of center and velocity.
        sizes: "log" or "metric".
        shared_in_scene: draw one set of M offsets for all boxes of a frame (the paper); cheaper,
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
        table, factors = _as_table("stds", stds), _as_table("multipliers", multipliers)
        table = table[None] if table.ndim == 1 else table
        if table.ndim != 2 or table.shape[1] not in (7, 9):
            raise shape_error("stds", "(7,) or (num_classes, 7), or 9 with velocities", table)
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
        self.num_columns = table.shape[1]
        self._constants = tuple(map(tuple, table.tolist())), tuple(factors.tolist())
        self.axes, self.sizes = axes, sizes
        self.shared_in_scene, self.min_size = shared_in_scene, min_size

    @property
    def base(self) -> BoxNoise:
        """Itself: the noise that needs no features."""
        return self

    def noise_std(self, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return standard deviations ``(N, D)`` for a ``LocalCoding`` around boxes ``(N, D)``.

        Along, across, up (m); length, width, height (log ratio, to first order where the noise is
        metric); yaw (rad); velocity along and across (m/s).
        """
        self._check(boxes, labels)
        stds = self._tables(boxes).class_stds(labels)
        if self.axes == "box" and self.sizes == "log":
            return stds
        plane, sizes, velocity = stds[:, :2], stds[:, 3:6], stds[:, 7:]
        if self.axes == "world":
            cos, sin = torch.cos(boxes[:, 6:7]), torch.sin(boxes[:, 6:7])
            squared = torch.cat((cos, sin, sin, cos), dim=1).reshape(-1, 2, 2).square()
            plane = (squared @ plane.square()[..., None])[..., 0].sqrt()
            if self.num_columns > 7:
                velocity = (squared @ velocity.square()[..., None])[..., 0].sqrt()
        if self.sizes == "metric":
            sizes = sizes / boxes[:, 3:6]
        return torch.cat((plane, stds[:, 2:3], sizes, stds[:, 6:7], velocity), dim=1)

    def scale_std(self, factor: float) -> BoxNoise:
        """Return the noise with all standard deviations times a positive factor."""
        check_positive("factor", factor)
        return BoxNoise(
            (self.stds * factor).tolist(),
            self.multipliers.tolist(),
            self.axes,
            self.sizes,
            self.shared_in_scene,
            self.min_size,
        )

    def without_velocity(self) -> BoxNoise:
        """Return the noise of the first seven columns, its marginal."""
        options = self.axes, self.sizes, self.shared_in_scene, self.min_size
        return BoxNoise(self.stds[:, :7].tolist(), self.multipliers.tolist(), *options)

    def shared(self) -> BoxNoise:
        """Return the noise with ``shared_in_scene``: no box depends on the number of others."""
        noise = copy(self)
        noise.shared_in_scene = True
        return noise

    def around(
        self,
        boxes: Tensor,
        labels: Tensor,
        frame_sizes: Sequence[int] | None = None,
        reference: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BoundNoise:
        """Bind the noise to true boxes; see :class:`BoundNoise`."""
        return BoundNoise(self, boxes, labels, frame_sizes, reference, generator)

    def sample(
        self,
        boxes: Tensor,
        labels: Tensor,
        num_samples: int,
        generator: torch.Generator | None = None,
    ) -> NoiseSamples:
        """Draw M = ``num_samples`` boxes around each true box of one frame."""
        return self.around(boxes, labels, generator=generator).sample(num_samples)

    def draw(
        self,
        boxes: Tensor,
        labels: Tensor,
        num_samples: int,
        frame_sizes: Sequence[int],
        generator: torch.Generator | None,
    ) -> NoiseSamples:
        """Draw as :meth:`sample` for several frames; boxes and labels are not checked."""
        check_count("num_samples", num_samples)
        tables = self._tables(boxes)
        frames = [self._draw_frame(size, num_samples, boxes, generator) for size in frame_sizes]
        component, normal = map(torch.cat, zip(*frames, strict=True)) if frames[1:] else frames[0]
        # In standard deviations; the true box is at index 0.
        z = pad(tables.multipliers[component][..., None] * normal, (0, 0, 1, 0))
        log_q = tables.log_density(z, labels)
        offsets = z * tables.class_stds(labels)[:, None]
        center = boxes[:, None]
        if self.sizes == "log":
            sizes = center[..., 3:6] * torch.exp(offsets[..., 3:6])
            log_q = log_q - torch.log(sizes).sum(-1)
        else:
            noisy = (center[..., 3:6] + offsets[:, 1:, 3:6]).clamp_min(self.min_size)
            sizes = torch.cat((center[..., 3:6], noisy), dim=1)
        moved = self._add_offsets(center, offsets)
        return NoiseSamples(torch.cat((moved[..., :3], sizes, moved[..., 6:]), dim=-1), log_q)

    def log_prob(self, boxes: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
        """Return log densities ``(N, S)`` at ``samples``, nats, in meters, radians and m/s.

        Args:
            boxes: ``(N, D)`` true boxes.
            samples: ``(N, S, D)``.
            labels: ``(N,)`` class indices.

        Raises:
            ValueError: for a wrong shape, and in main memory for labels without a row.
        """
        self._check(boxes, labels)
        if samples.ndim != 3 or samples.shape[::2] != boxes.shape:
            raise shape_error("samples", f"({len(boxes)}, S, {self.num_columns})", samples)
        center = boxes[:, None]
        offsets = self._offsets(center, samples)
        tables = self._tables(boxes)
        stds = tables.class_stds(labels)[:, None]
        if self.sizes == "metric":
            return tables.log_density(offsets / stds, labels)
        log_sizes = torch.log(samples[..., 3:6])
        ratio = log_sizes - torch.log(center[..., 3:6])
        offsets = torch.cat((offsets[..., :3], ratio, offsets[..., 6:]), -1)
        return tables.log_density(offsets / stds, labels) - log_sizes.sum(-1)

    def _tables(self, like: Tensor) -> MixtureTables:
        """The constants in the type and on the device of a tensor."""
        return MixtureTables.of(*self._constants, like.dtype, like.device)

    def _draw_frame(
        self, size: int, num_samples: int, like: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Components ``(size, M)`` and standard normal numbers ``(size, M, D)`` of a frame."""
        shape = (1 if self.shared_in_scene and size else size, num_samples)
        component = whole_numbers(len(self.multipliers), shape, like, generator)
        normal = standard_normal((*shape, self.num_columns), like, generator)
        return component.expand(size, -1), normal.expand(size, -1, -1)

    def _add_offsets(self, center: Tensor, offsets: Tensor) -> Tensor:
        """Boxes ``(N, 1, D)`` moved by ``(N, S, D)`` along the configured axes."""
        if self.axes == "box":
            return add_local_offsets(center, offsets)
        return wrap_yaw(center + offsets)

    def _offsets(self, center: Tensor, samples: Tensor) -> Tensor:
        """Offsets of ``(N, S, D)`` boxes from ``(N, 1, D)`` along the configured axes."""
        if self.axes == "box":
            return local_offsets(center, samples)
        return wrap_yaw(samples - center)

    def _check(self, boxes: Tensor, labels: Tensor) -> None:
        """Raise unless boxes are ``(N, D)``, of a floating-point type, and labels have rows."""
        check_floating_boxes(boxes, columns=(self.num_columns,))
        check_labels(labels, len(boxes), len(self.stds), "stds")


def _as_table(name: str, values: Any) -> Tensor:
    """Numbers as float64."""
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise input_error(name, "numbers, in rows of the same length", repr(values)) from error
