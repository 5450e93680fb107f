"""Box noise bound to true boxes, and the samples it gives.

N true boxes; M noise samples per box; S variants of each.
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
        boxes: ``(N, M + 1, 7)``; index 0 of the second axis is the true box.
        log_q: ``(N, M + 1)`` log density of the noise at those boxes, nats, in meters and radians.
    """

    boxes: Tensor
    log_q: Tensor

    @staticmethod
    def cat(parts: Sequence[NoiseSamples]) -> NoiseSamples:
        """Join the samples of several frames, at least one.

        Args:
            parts: of the same number of samples per box.
        """
        return NoiseSamples(
            torch.cat([part.boxes for part in parts]), torch.cat([part.log_q for part in parts])
        )


class BoundNoise:
    """Box noise around given true boxes (:class:`ebm3d.losses.training.NoiseAround`).

    Samples of a frame are drawn together, frame after frame. The reference is drawn when it is
    first asked for, so that samples drawn before are the same with and without it.

    Args:
        noise: drawn around each box.
        boxes: ``(N, 7)`` true boxes.
        labels: ``(N,)`` class indices.
        frame_sizes: number of boxes of each frame; one frame if left out.
        reference: ``(N, 7)``, or None to draw it.
        generator: source of randomness on the device of ``boxes``.

    Attributes:
        boxes: ``(N, 7)``.
        labels: ``(N,)``.
        generator: as given.

    Raises:
        ValueError: for a wrong shape, another number of labels or references, frames that have
            another number of boxes in all, or a generator of another device. In main memory also
            for boxes that are not finite or whose sizes are not positive, and labels without a row;
            on another device looking would wait for it: call :func:`ebm3d.errors.check_valid_boxes`
            and :func:`ebm3d.errors.check_labels` with ``wait=True`` once before.
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
        check_valid_boxes(boxes)
        check_labels(labels, len(boxes), len(noise.stds), "stds")
        self.boxes, self.labels = boxes, labels
        self.frame_sizes = [len(boxes)] if not frame_sizes else list(frame_sizes)
        for size in self.frame_sizes:
            check_count("frame_sizes", size, least=0)
        if sum(self.frame_sizes) != len(boxes):
            raise input_error("frame_sizes", f"of {len(boxes)} boxes in all", self.frame_sizes)
        if reference is not None and reference.shape != boxes.shape:
            raise shape_error("reference", f"{tuple(boxes.shape)} like boxes", reference)
        check_generator(generator, boxes)
        self._noise, self._reference, self.generator = noise, reference, generator

    @property
    def noise_std(self) -> Tensor:
        """``(N, 7)``; see :meth:`BoxNoise.noise_std`."""
        return self._noise.noise_std(self.boxes, self.labels)

    @property
    def reference_units(self) -> Tensor:
        """``(N, 7)``, the same at the reference: they say nothing of the true box."""
        return self._noise.noise_std(self.reference, self.labels)

    @property
    def reference(self) -> Tensor:
        """``(N, 7)`` a box of the noise for each true one, the same at each call.

        As a detector might have found it: what a log-normalizer or a proposal is conditioned on.
        """
        if self._reference is None:
            self._reference = self.sample(1).boxes[:, 1]
        return self._reference

    def sample(self, num_samples: int) -> NoiseSamples:
        """Draw boxes around each true box; see :meth:`BoxNoise.sample`.

        Args:
            num_samples: M, at least 1.
        """
        return self._noise.draw(
            self.boxes, self.labels, num_samples, self.frame_sizes, self.generator
        )

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Log densities ``(N, S)`` at boxes ``(N, S, 7)``; see :meth:`BoxNoise.log_prob`."""
        return self._noise.log_prob(self.boxes, boxes, self.labels)

    def scale_std(self, factor: float) -> BoundNoise:
        """Return noise around the same boxes; see :meth:`BoxNoise.scale_std`."""
        noise = self._noise.scale_std(factor)
        return noise.around(self.boxes, self.labels, self.frame_sizes, generator=self.generator)

    def with_centers(self, boxes: Tensor) -> BoundNoise:
        """Return the same noise around other boxes.

        Args:
            boxes: ``(N, 7)``, of the same classes in the same frames.
        """
        if boxes.shape != self.boxes.shape:
            raise shape_error("boxes", f"{tuple(self.boxes.shape)} like the bound ones", boxes)
        return self._noise.around(boxes, self.labels, self.frame_sizes, generator=self.generator)

    def log_prob_around(self, centers: Tensor) -> Tensor:
        """Log densities of the bound boxes under noise around given ones.

        Args:
            centers: ``(N, S, 7)``.

        Returns:
            ``(N, S)`` nats, densities in meters and radians.
        """
        if centers.ndim != 3 or centers.shape[::2] != self.boxes.shape:
            raise shape_error("centers", f"({len(self.boxes)}, S, 7)", centers)
        variants = centers.shape[1]
        at = self.boxes[:, None].expand_as(centers).reshape(-1, 1, 7)
        labels = self.labels[:, None].expand(-1, variants).reshape(-1)
        return self._noise.log_prob(centers.reshape(-1, 7), at, labels).reshape(-1, variants)
