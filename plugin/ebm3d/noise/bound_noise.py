"""Noise around true boxes, and samples of it.

N true boxes of D columns; M noise samples of each; S variants of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ebm3d.devices import check_generator
from ebm3d.errors import check_count, check_labels, check_valid_boxes, input_error, shape_error

if TYPE_CHECKING:
    from ebm3d.noise.box_noise import BoxNoise


@dataclass(frozen=True)
class NoiseSamples:
    """True boxes with their noise samples.

    Attributes:
        boxes: ``(N, M + 1, D)``; index 0 of the second axis is the true box.
        log_q: ``(N, M + 1)`` log density of the noise there, nats, in meters, radians and m/s.
    """

    boxes: Tensor
    log_q: Tensor


class BoundNoise:
    """Box noise around true boxes (:class:`ebm3d.losses.training.NoiseAround`).

    Args:
        noise: drawn around each box.
        boxes: ``(N, D)`` true boxes, D as the rows of the noise's stds; velocities known.
        labels: ``(N,)`` class indices.
        frame_sizes: number of boxes of each frame, whose samples are drawn together; one frame if
            left out.
        reference: ``(N, D)``, or None to draw it.
        generator: source of randomness on the device of ``boxes``.

    Raises:
        ValueError: for shapes, types or devices that do not fit, and in main memory for boxes that
            are not valid and labels without a row. On another device reading values would wait for
            it: call :func:`ebm3d.errors.check_valid_boxes` and :func:`ebm3d.errors.check_labels`
            with ``wait=True`` once before.
    """

    def __init__(
        self,
        noise: BoxNoise,
        boxes: Tensor,
        labels: Tensor,
        frame_sizes: Sequence[int] | None = None,
        reference: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_valid_boxes(boxes, columns=(noise.num_columns,))
        check_labels(labels, len(boxes), len(noise.stds), "stds")
        sizes = list(frame_sizes or [len(boxes)])
        for size in sizes:
            check_count("frame_sizes", size, least=0)
        if sum(sizes) != len(boxes):
            raise input_error("frame_sizes", f"of {len(boxes)} boxes in all", sizes)
        if reference is not None and reference.shape != boxes.shape:
            raise shape_error("reference", f"{tuple(boxes.shape)} like boxes", reference)
        check_generator(generator, boxes)
        self.boxes, self.labels, self.generator = boxes, labels, generator
        self._noise, self._frame_sizes, self._reference = noise, sizes, reference

    @property
    def noise_std(self) -> Tensor:
        """``(N, D)``; see :meth:`BoxNoise.noise_std`."""
        return self._noise.noise_std(self.boxes, self.labels)

    @property
    def reference(self) -> Tensor:
        """``(N, D)`` boxes as a detector might predict the true ones, the same at each call.

        A log-normalizer or a proposal is conditioned on them. Drawn from the noise when first
        asked for, so that samples drawn before are the same with and without it.
        """
        if self._reference is None:
            self._reference = self.sample(1).boxes[:, 1]
        return self._reference

    @property
    def reference_noise_std(self) -> Tensor:
        """``(N, D)`` :attr:`noise_std` at the reference: independent of the true box."""
        return self._noise.noise_std(self.reference, self.labels)

    def sample(self, num_samples: int) -> NoiseSamples:
        """Draw M = ``num_samples`` boxes around each true box; see :meth:`BoxNoise.sample`."""
        return self._noise.draw(
            self.boxes, self.labels, num_samples, self._frame_sizes, self.generator
        )

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log densities ``(N, S)`` at boxes ``(N, S, D)``; see :meth:`BoxNoise.log_prob`."""
        return self._noise.log_prob(self.boxes, boxes, self.labels)

    def log_prob_around(self, centers: Tensor) -> Tensor:
        """Log densities ``(N, S)`` of the true boxes under noise around ``(N, S, D)``, nats."""
        if centers.ndim != 3 or centers.shape[::2] != self.boxes.shape:
            num, columns = self.boxes.shape
            raise shape_error("centers", f"({num}, S, {columns})", centers)
        num, variants, columns = centers.shape
        at = self.boxes[:, None].expand_as(centers).reshape(-1, 1, columns)
        labels = self.labels[:, None].expand(num, variants).reshape(-1)
        return self._noise.log_prob(centers.reshape(-1, columns), at, labels).reshape(num, variants)

    def scale_std(self, factor: float) -> BoundNoise:
        """Return noise of scaled deviations around the same boxes, with another reference."""
        noise = self._noise.scale_std(factor)
        return noise.around(self.boxes, self.labels, self._frame_sizes, generator=self.generator)

    def with_centers(self, boxes: Tensor) -> BoundNoise:
        """Return the noise around other boxes ``(N, D)`` of the same classes and frames."""
        if boxes.shape != self.boxes.shape:
            raise shape_error("boxes", f"{tuple(self.boxes.shape)} like the bound ones", boxes)
        return self._noise.around(boxes, self.labels, self._frame_sizes, generator=self.generator)
