"""Noise that covers what the detector found: hard negatives, with their density.

N true boxes; M noise samples and S boxes of each; P detections near a box; D = 7 box parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_bev
from ebm3d.errors import check_boxes, check_positive, input_error, is_number, shape_error
from ebm3d.noise.bound_noise import BoundNoise, NoiseSamples
from ebm3d.noise.box_noise import BoxNoise


@dataclass(frozen=True)
class Detections:
    """What a detector found in one frame.

    Attributes:
        boxes: ``(P, 7)``, LiDAR frame.
        labels: ``(P,)`` class indices.

    Raises:
        ValueError: for other shapes.
    """

    boxes: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        check_boxes(self.boxes, "boxes")
        if self.labels.shape != self.boxes.shape[:1]:
            raise shape_error("labels", f"({len(self.boxes)},), one class per box", self.labels)


class DetectionNoise:
    r"""Box noise, mixed with narrow Gaussians around the detector's own predictions.

    .. math::
        q(\tilde y\,|\,y_i) = (1 - \alpha_i)\, q_\mathrm{base}(\tilde y\,|\,y_i) +
        \frac{\alpha_i}{P_i} \sum_{p=1}^{P_i} N\!\left(t(\tilde y);\, t(d_{ip}),\,
        w^2 I\right) \left|\det \partial t/\partial \tilde y\right|

    with the residuals t from the true box in the standard deviations of the base noise, the
    :math:`P_i` detections :math:`d_{ip}` of its class that overlap it, and :math:`\alpha_i` =
    ``share``, 0 where there is none. Source: our own; docs/method.md,
    M-27. A detection is what f is climbed from at inference; as its density is
    part of q, the losses stay those of a known noise. Detections that look backwards are turned
    first, as errors of the direction are in no noise (M-2).

    Args:
        base: noise around the true box.
        share: :math:`\alpha`, in (0, 1).
        width: w, standard deviation around a detection, in standard deviations of the base.
        min_iou: least overlap of a detection with the true box, seen from above, in (0, 1].

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self, base: BoxNoise, share: float = 0.5, width: float = 0.5, min_iou: float = 0.1
    ) -> None:
        if not isinstance(base, BoxNoise):
            raise input_error("base", "a BoxNoise", type(base).__name__)
        if not (is_number(share) and 0 < share < 1):
            raise input_error("share", "in (0, 1)", share)
        check_positive("width", width)
        if not (is_number(min_iou) and 0 < min_iou <= 1):
            raise input_error("min_iou", "in (0, 1]", min_iou)
        self.base, self.share, self.width, self.min_iou = base, share, width, min_iou

    def around(
        self,
        boxes: Tensor,
        labels: Tensor,
        detections: Sequence[Detections],
        frame_sizes: Sequence[int] | None = None,
        reference: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BoundDetectionNoise:
        """Bind the noise to true boxes and to what was detected near them.

        Args:
            boxes: ``(N, 7)`` true boxes.
            labels: ``(N,)`` class indices.
            detections: of each frame.
            frame_sizes: number of boxes of each frame; one frame if left out.
            reference: see :attr:`BoundDetectionNoise.reference`; detected or drawn if left out.
            generator: source of randomness on the device of ``boxes``.

        Raises:
            ValueError: if the frames have another number of boxes in all, or there are not
                detections for each of them.
        """
        around = self.base.around(boxes, labels, frame_sizes, reference, generator)
        sizes = around.frame_sizes
        if not isinstance(detections, list | tuple) or len(detections) != len(sizes):
            got = len(detections) if hasattr(detections, "__len__") else detections
            raise input_error("detections", f"a list of {len(sizes)} frames", got)
        for frame in detections:
            if not isinstance(frame, Detections):
                raise input_error("detections", "a list of Detections", type(frame).__name__)
        near = [
            self._near(frame, mine, classes)
            for frame, mine, classes in zip(
                detections, boxes.split(sizes), labels.split(sizes), strict=True
            )
        ]
        own = [found for frame in near for found in frame]
        return BoundDetectionNoise(self, around, own, reference, generator)

    def _near(self, detections: Detections, boxes: Tensor, labels: Tensor) -> list[Tensor]:
        """Detections ``(P_n, 7)`` of each true box of a frame, those that overlap most first."""
        found = detections.boxes.detach().to(boxes)
        sound = torch.isfinite(found).all(dim=1) & (found[:, 3:6] > 0).all(dim=1)
        found, classes = found[sound], detections.labels[sound].to(labels)
        overlap = iou_bev(boxes.detach().double().cpu().numpy(), found.double().cpu().numpy())
        alike = (labels[:, None] == classes).cpu()
        overlaps = torch.where(alike, torch.from_numpy(overlap), 0.0)
        near = []
        for row, box in zip(overlaps, boxes, strict=True):
            order = row.argsort(descending=True, stable=True)
            order = order[row[order] >= self.min_iou].to(found.device)
            own = found[order]
            axis = box[6] + 0.5 * wrap_to_pi(2 * (own[:, 6:] - box[6]))
            near.append(torch.cat((own[:, :6], wrap_to_pi(axis)), dim=1))
        return near


class BoundDetectionNoise:
    """Detection noise around given true boxes (:class:`ebm3d.losses.training.NoiseAround`).

    Args:
        noise: shares and widths.
        around: base noise around the true boxes.
        near: detections ``(P_n, 7)`` near each of the N boxes, the one that overlaps it most first.
        reference: ``(N, 7)``, or None for the nearest detections.
        generator: source of randomness on the device of the boxes.

    Attributes:
        boxes: ``(N, 7)``.
        labels: ``(N,)``.
        generator: as given.
    """

    def __init__(
        self,
        noise: DetectionNoise,
        around: BoundNoise,
        near: Sequence[Tensor],
        reference: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.boxes, self.labels = around.boxes, around.labels
        self._noise, self._around, self.generator = noise, around, generator
        self._coding = LocalCoding(self.boxes, around.units)
        counts = torch.tensor([len(own) for own in near], dtype=torch.int64)
        width = max(1, int(counts.max())) if len(counts) else 1
        padded = self.boxes[:, None].repeat(1, width, 1)  # beyond the count, the true box
        for row, own in enumerate(near):
            padded[row, : len(own)] = own
        self._counts = counts.to(self.boxes.device)
        self._detected = padded
        self._centers = self._coding.encode(padded.transpose(0, 1)).transpose(0, 1)
        self._reference = reference

    @property
    def units(self) -> Tensor:
        """``(N, 7)``, those of the base noise; see :meth:`BoxNoise.units`."""
        return self._around.units

    @property
    def reference_units(self) -> Tensor:
        """``(N, 7)``, the same at the reference."""
        return self._noise.base.units(self.reference, self.labels)

    @property
    def reference(self) -> Tensor:
        """``(N, 7)``: the detection that overlaps the true box most, or a draw of the base."""
        if self._reference is None:
            detected = (self._counts > 0)[:, None]
            self._reference = torch.where(detected, self._detected[:, 0], self._around.reference)
        return self._reference

    def sample(self, num_samples: int) -> NoiseSamples:
        """Draw boxes around each true box and around what was detected for it.

        Args:
            num_samples: M, at least 1.

        Raises:
            ValueError: for fewer; see :meth:`BoxNoise.sample` for the others.
        """
        from_base = self._around.sample(num_samples).boxes
        shape = from_base[:, 1:].shape
        source, dtype, device = self.generator, from_base.dtype, from_base.device
        chance, level = torch.rand((2, *shape[:2]), generator=source, dtype=dtype, device=device)
        normal = torch.randn(shape, generator=source, dtype=dtype, device=device)
        # Rounding may lift the level's product with the count to the count itself.
        last = (self._counts[:, None] - 1).clamp_min(0)
        chosen = torch.minimum((level * self._counts[:, None]).long(), last)
        index = chosen[..., None].expand(-1, -1, 7)
        residuals = self._centers.gather(1, index) + self._noise.width * normal
        moved = self._coding.decode(residuals.transpose(0, 1)).transpose(0, 1)
        detected = (chance < self._noise.share) & (self._counts > 0)[:, None]
        drawn = torch.where(detected[..., None], moved, from_base[:, 1:])
        boxes = torch.cat((from_base[:, :1], drawn), dim=1)
        return NoiseSamples(boxes, self.log_prob(boxes))

    def log_prob(self, boxes: Tensor) -> Tensor:
        """Return the log density of the noise.

        Args:
            boxes: ``(N, S, 7)``.

        Returns:
            ``(N, S)`` nats; density in meters and radians.
        """
        base = self._around.log_prob(boxes)
        flat = boxes.transpose(0, 1)
        residuals = self._coding.encode(flat)
        offsets = (residuals[:, :, None] - self._centers) / self._noise.width
        log_peak = -7 * (0.5 * math.log(2 * math.pi) + math.log(self._noise.width))
        components = log_peak - 0.5 * offsets.square().sum(-1)
        padding = torch.arange(self._centers.shape[1], device=boxes.device) >= self._counts[:, None]
        summed = torch.logsumexp(components.masked_fill(padding, -math.inf), dim=-1)
        log_share = math.log(self._noise.share) - torch.log(self._counts.clamp_min(1).to(boxes))
        around_detections = (summed + log_share - self._coding.log_volume(flat)).transpose(0, 1)
        mixed = torch.logaddexp(math.log1p(-self._noise.share) + base, around_detections)
        return torch.where((self._counts > 0)[:, None], mixed, base)

    def narrowed(self, factor: float) -> BoundNoise:
        """Return the base noise around the true boxes; see :meth:`BoxNoise.narrowed`.

        What is drawn around detections does not lie around the true box.
        """
        return self._around.narrowed(factor)
