"""Noise that covers what the detector found: hard negatives, with their density.

N true boxes; M noise samples and S boxes of each; P detections near a box; D = 7 box parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_bev
from ebm3d.devices import standard_normal, uniform
from ebm3d.errors import (
    check_boxes,
    check_count,
    check_positive,
    input_error,
    is_number,
    shape_error,
)
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
        max_detections: of one true box, those that overlap it most; a bound on the memory, as the
            densities of S boxes around P detections take N S P 7 numbers.

    Raises:
        ValueError: for numbers out of range.
    """

    def __init__(
        self,
        base: BoxNoise,
        share: float = 0.5,
        width: float = 0.5,
        min_iou: float = 0.1,
        max_detections: int = 16,
    ) -> None:
        if not isinstance(base, BoxNoise):
            raise input_error("base", "a BoxNoise", type(base).__name__)
        if not (is_number(share) and 0 < share < 1):
            raise input_error("share", "in (0, 1)", share)
        check_positive("width", width)
        if not (is_number(min_iou) and 0 < min_iou <= 1):
            raise input_error("min_iou", "in (0, 1]", min_iou)
        check_count("max_detections", max_detections)
        self.base, self.share, self.width, self.min_iou = base, share, width, min_iou
        self.max_detections = max_detections

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
        near = self._near(detections, boxes, labels, sizes)
        return BoundDetectionNoise(self, around, *near, reference)

    def _near(
        self,
        detections: Sequence[Detections],
        boxes: Tensor,
        labels: Tensor,
        frame_sizes: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Detections ``(N, P, 7)`` of each true box, by overlap, and how many count, ``(N,)``."""
        number = max((len(frame.boxes) for frame in detections), default=0)
        found, same_class = [], []
        for frame, size, classes in zip(
            detections, frame_sizes, labels.split(list(frame_sizes)), strict=True
        ):
            missing = number - len(frame.boxes)
            given = pad(frame.boxes.detach().to(boxes), (0, 0, 0, missing))
            found.append(given.expand(size, -1, -1))
            same = classes[:, None] == frame.labels.to(labels)
            same_class.append(pad(same, (0, missing)))
        candidates = torch.cat(found)
        sound = torch.isfinite(candidates).all(-1) & (candidates[..., 3:6] > 0).all(-1)
        # Nothing overlaps a box of zeros.
        candidates = torch.where(sound[..., None], candidates, 0.0)
        true = boxes.detach()[:, None].expand_as(candidates)
        pairs = (t.double().reshape(-1, 7) for t in (true, candidates))
        overlap = iou_bev(*pairs, aligned=True).reshape(sound.shape)
        counts = torch.cat(same_class) & sound & (overlap >= self.min_iou)
        order = torch.where(counts, overlap, -1.0).argsort(dim=1, descending=True, stable=True)
        order = order[:, : self.max_detections]
        near = candidates.gather(1, order[..., None].expand(-1, -1, 7))
        yaw, true_yaw = near[..., 6:], boxes[:, None, 6:]
        turned = wrap_to_pi(true_yaw + 0.5 * wrap_to_pi(2 * (yaw - true_yaw)))
        near = torch.cat((near[..., :6], turned), dim=-1)
        return near, counts.sum(dim=1).clamp_max(self.max_detections)


class BoundDetectionNoise:
    """Detection noise around given true boxes (:class:`ebm3d.losses.training.NoiseAround`).

    Args:
        noise: shares and widths.
        around: base noise around the true boxes.
        near: detections ``(N, P, 7)`` near each of the N boxes, the one that overlaps it most
            first.
        counts: ``(N,)`` how many of them there are; the rest says nothing.
        reference: ``(N, 7)``, or None for the nearest detections.

    Attributes:
        boxes: ``(N, 7)``.
        labels: ``(N,)``.
        generator: as given.
    """

    def __init__(
        self,
        noise: DetectionNoise,
        around: BoundNoise,
        near: Tensor,
        counts: Tensor,
        reference: Tensor | None = None,
    ) -> None:
        self.boxes, self.labels, self.generator = around.boxes, around.labels, around.generator
        self._noise, self._around, self._counts = noise, around, counts
        self._coding = LocalCoding(self.boxes, around.noise_std)
        # One place at least, and beyond the count the true box.
        near = torch.cat((near, self.boxes[:, None]), dim=1)
        place = torch.arange(near.shape[1], device=near.device)
        self._is_detection = place < counts[:, None]
        self._detected = torch.where(self._is_detection[..., None], near, self.boxes[:, None])
        self._centers = self._coding.encode(self._detected.transpose(0, 1)).transpose(0, 1)
        self._reference = reference

    @property
    def noise_std(self) -> Tensor:
        """``(N, 7)``, those of the base noise; see :meth:`BoxNoise.noise_std`."""
        return self._around.noise_std

    @property
    def reference_units(self) -> Tensor:
        """``(N, 7)``, the same at the reference."""
        return self._noise.base.noise_std(self.reference, self.labels)

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
        shape = (len(from_base), num_samples)
        chance, level = uniform((2, *shape), from_base, self.generator)
        normal = standard_normal((*shape, 7), from_base, self.generator)
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
        components = torch.where(self._is_detection, components, -math.inf)
        summed = torch.logsumexp(components, dim=-1)
        log_share = math.log(self._noise.share) - torch.log(self._counts.clamp_min(1).to(boxes))
        around_detections = (summed + log_share - self._coding.log_volume(flat)).transpose(0, 1)
        mixed = torch.logaddexp(math.log1p(-self._noise.share) + base, around_detections)
        return torch.where((self._counts > 0)[:, None], mixed, base)

    def scale_std(self, factor: float) -> BoundNoise:
        """Return the base noise around the true boxes; see :meth:`BoxNoise.scale_std`.

        What is drawn around detections does not lie around the true box.
        """
        return self._around.scale_std(factor)
