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

from ebm3d.boxes.local import add_local_offsets, local_offsets
from ebm3d.errors import (
    check_count,
    check_floating_boxes,
    check_positive,
    check_sound_boxes,
    input_error,
    shape_error,
)
from ebm3d.noise.bound_noise import BoundNoise, NoiseSamples

_AXES = ("box", "world")
_SIZES = ("log", "metric")


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
            if value.numel() == 0 or not bool((value > 0).all() & torch.isfinite(value).all()):
                raise input_error(name, "positive and finite", value.tolist())
        if axes not in _AXES:
            raise input_error("axes", f"one of {_AXES}", repr(axes))
        if sizes not in _SIZES:
            raise input_error("sizes", f"one of {_SIZES}", repr(sizes))
        check_positive("min_size", min_size)
        self.stds, self.multipliers = table, factors
        self.axes, self.sizes = axes, sizes
        self.shared_in_scene, self.min_size = shared_in_scene, min_size

    @property
    def base(self) -> BoxNoise:
        """The noise that needs no features: itself."""
        return self

    def class_stds(self, labels: Tensor) -> Tensor:
        """Return the standard deviations of each box's class, as the noise is drawn.

        Units of a ``LocalCoding`` are :meth:`units`, the same for noise in box and log alone.

        Args:
            labels: ``(N,)`` class indices, ignored where one row serves all classes.

        Returns:
            ``(N, 7)``, float64, on the device of ``labels``.

        Raises:
            ValueError: if a label is no class index or has no row.
        """
        if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
            got = f"{labels.dtype} of shape {tuple(labels.shape)}"
            raise input_error("labels", "whole numbers of shape (N,)", got)
        table = self.stds.to(labels.device)
        if len(table) == 1:
            return table.expand(len(labels), 7)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(table):
            raise input_error(
                "labels",
                f"from 0 to {len(table) - 1}",
                f"{int(labels.min())} to {int(labels.max())}",
                "give stds one row per class",
            )
        return table[labels]

    def units(self, boxes: Tensor, labels: Tensor) -> Tensor:
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
        _check_shapes(boxes, labels)
        stds = self.class_stds(labels).to(boxes)
        plane, sizes = stds[:, :2], stds[:, 3:6]
        if self.axes == "world":
            cos, sin = torch.cos(boxes[:, 6:]), torch.sin(boxes[:, 6:])
            turned = torch.cat((cos, sin, sin, cos), dim=1).reshape(-1, 2, 2).square()
            plane = (turned @ plane.square()[..., None])[..., 0].sqrt()
        if self.sizes == "metric":
            sizes = sizes / boxes[:, 3:6]
        return torch.cat((plane, stds[:, 2:3], sizes, stds[:, 6:]), dim=1)

    def narrowed(self, factor: float) -> BoxNoise:
        """Return the noise of all standard deviations times a factor.

        Args:
            factor: positive and finite; M-21's beta.

        Raises:
            ValueError: if it is not.
        """
        check_positive("factor", factor)
        narrow = copy(self)
        narrow.stds = self.stds * factor
        return narrow

    def shared(self) -> BoxNoise:
        """Return the same noise, one set of M offsets for all boxes that are sampled together.

        What a box gets then does not depend on how many others there are: inference wants that,
        training does not.
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
            ValueError: if the frames have another number of boxes in all.
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
            boxes: ``(N, 7)`` true boxes, LiDAR frame, sizes positive.
            labels: ``(N,)`` class indices.
            num_samples: M, at least 1.
            generator: source of randomness on the device of ``boxes``.

        Returns:
            The true boxes and their samples with log densities, in the dtype of ``boxes``.

        Raises:
            ValueError: for a wrong shape, boxes that are not finite or whose sizes are not
                positive, or ``num_samples < 1``.
        """
        _check_shapes(boxes, labels)
        check_count("num_samples", num_samples)
        check_sound_boxes(boxes)
        count = 1 if self.shared_in_scene and len(boxes) else len(boxes)
        device = boxes.device
        component = torch.randint(
            len(self.multipliers), (count, num_samples), generator=generator, device=device
        )
        normal = torch.randn(
            count, num_samples, 7, generator=generator, dtype=boxes.dtype, device=device
        )
        scale = self.multipliers.to(boxes)[component][..., None]
        offsets = scale * normal * self.class_stds(labels).to(boxes)[:, None]
        offsets = torch.cat((torch.zeros_like(offsets[:, :1]), offsets), dim=1)
        log_q = self._log_density_of_offsets(offsets, labels)
        reference = boxes[:, None]
        sizes = reference[..., 3:6].expand_as(offsets[..., 3:6])
        if self.sizes == "log":
            sizes = sizes * torch.exp(offsets[..., 3:6])
            log_q = log_q - torch.log(sizes).sum(-1)
        else:
            noisy = (sizes[:, 1:] + offsets[:, 1:, 3:6]).clamp_min(self.min_size)
            sizes = torch.cat((sizes[:, :1], noisy), dim=1)
        moved = self._move(reference, offsets)
        return NoiseSamples(torch.cat((moved[..., :3], sizes, moved[..., 6:]), dim=-1), log_q)

    def log_prob(self, boxes: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
        """Return the log density of the noise around ``boxes`` at ``samples``.

        Args:
            boxes: ``(N, 7)`` true boxes.
            samples: ``(N, S, 7)`` where the density is wanted.
            labels: ``(N,)`` class indices.

        Returns:
            ``(N, S)`` nats; density in meters and radians.

        Raises:
            ValueError: for a wrong shape.
        """
        _check_shapes(boxes, labels)
        if samples.ndim != 3 or samples.shape[::2] != boxes.shape:
            raise shape_error("samples", f"({len(boxes)}, S, 7)", samples)
        reference = boxes[:, None]
        if self.axes == "box":
            offsets = local_offsets(reference, samples)
        else:
            unturned = torch.cat((reference[..., :6], torch.zeros_like(reference[..., 6:])), -1)
            shifted = torch.cat((samples[..., :6], samples[..., 6:] - reference[..., 6:]), -1)
            offsets = local_offsets(unturned, shifted)
        if self.sizes == "log":
            ratio = torch.log(samples[..., 3:6]) - torch.log(reference[..., 3:6])
            offsets = torch.cat((offsets[..., :3], ratio, offsets[..., 6:]), -1)
            return self._log_density_of_offsets(offsets, labels) - torch.log(samples[..., 3:6]).sum(
                -1
            )
        return self._log_density_of_offsets(offsets, labels)

    def _move(self, reference: Tensor, offsets: Tensor) -> Tensor:
        """Centers and yaws of ``(N, 1, 7)`` boxes moved by ``(N, S, 7)`` in the configured axes."""
        if self.axes == "box":
            return add_local_offsets(reference, offsets)
        unturned = torch.cat((reference[..., :6], torch.zeros_like(reference[..., 6:])), -1)
        yaw = torch.cat((offsets[..., :6], offsets[..., 6:] + reference[..., 6:]), -1)
        return add_local_offsets(unturned, yaw)

    def _log_density_of_offsets(self, offsets: Tensor, labels: Tensor) -> Tensor:
        """Mixture log density of offsets ``(N, S, 7)`` in the drawn coordinates, ``(N, S)``."""
        stds = self.class_stds(labels).to(offsets)
        factors = self.multipliers.to(offsets)
        squared = (offsets / stds[:, None]).square().sum(-1)
        log_norm = -3.5 * math.log(2 * math.pi) - torch.log(stds).sum(-1)
        per_component = -0.5 * squared[..., None] / factors.square() - 7 * torch.log(factors)
        mixed = torch.logsumexp(per_component, dim=-1) - math.log(len(factors))
        return mixed + log_norm[:, None]


def _as_table(name: str, values: Any) -> Tensor:
    """Numbers as float64."""
    try:
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise input_error(name, "numbers, in rows of the same length", repr(values)) from error


def _check_shapes(boxes: Tensor, labels: Tensor) -> None:
    """Raise unless boxes are ``(N, 7)``, of a floating-point type, and labels ``(N,)``."""
    check_floating_boxes(boxes)
    if labels.shape != boxes.shape[:1]:
        raise shape_error("labels", f"({len(boxes)},), one class per box", labels)
