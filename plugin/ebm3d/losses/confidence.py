"""Confidence-based regression: learn how good a box is, then maximize it over the box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_3d
from ebm3d.devices import constant
from ebm3d.errors import check_count, input_error, shape_error
from ebm3d.losses.training import BatchScorer, NoiseAround, TrainingLoss
from ebm3d.registry import register


def confidence_loss(f: Tensor, targets: Tensor) -> Tensor:
    r"""Cross entropy between the confidence sigmoid(f) and its target.

    .. math:: L = -\frac1S\sum_s \big[c_s \log\sigma(f_s) + (1 - c_s)\log(1 - \sigma(f_s))\big]

    Source: the confidence-based regression of the EBM literature (Jiang et al., "Acquisition of
    Localization Confidence for Accurate Object Detection", ECCV 2018: predict the IoU of a box and
    maximize it). docs/method.md, M-15. Deviation: f is the logit of the confidence, so that its
    gradient does not vanish where the confidence saturates; the maximizer is the same.

    Args:
        f: ``(..., S)`` logits of S boxes around each true box.
        targets: ``(..., S)`` confidences in [0, 1].

    Returns:
        ``(...)``, the mean over S, nats; no further reduction. Smallest at sigmoid(f) = targets,
        where it is the mean entropy of the targets, not zero.

    Raises:
        ValueError: if the shapes differ.
    """
    if f.shape != targets.shape:
        raise shape_error("targets", f"{tuple(f.shape)} like f", targets)
    return binary_cross_entropy_with_logits(f, targets, reduction="none").mean(dim=-1)


@register
class ConfidenceLoss:
    """Trains f as the logit of a box's confidence on the noise samples of the true boxes.

    Args:
        target: "iou" for the 3D IoU with the true box; "gaussian" for the pseudo label
            exp(-|t|^2 / 2) of the residuals t in units of ``noise_std``.
        noise_std: seven standard deviations of the pseudo label: along, across, up (m); length, width,
            height (log ratio); yaw (rad). With "gaussian" only.
        num_noise_samples: M per true box.

    Attributes:
        is_density: f is the logit of a confidence, no log density.
        draws_noise, returns_samples: as in :class:`ebm3d.losses.training.TrainingMethod`.

    Raises:
        ValueError: for an unknown target, units that do not go with it, or M below one.
    """

    is_density = False
    draws_noise, returns_samples = True, False

    def __init__(
        self,
        target: str = "iou",
        noise_std: Sequence[float] | None = None,
        num_noise_samples: int = 128,
    ) -> None:
        check_count("num_noise_samples", num_noise_samples)
        if target not in ("iou", "gaussian"):
            raise input_error("target", "'iou' or 'gaussian'", repr(target))
        if (noise_std is not None) != (target == "gaussian"):
            raise input_error("noise_std", "given with target='gaussian', and only then", noise_std)
        if noise_std is not None and (
            len(noise_std) != 7 or not all(0 < unit < math.inf for unit in noise_std)
        ):
            raise input_error("noise_std", "seven positive numbers", noise_std)
        self.target, self.num_noise_samples = target, num_noise_samples
        self.noise_std = None if noise_std is None else tuple(float(unit) for unit in noise_std)

    def __call__(self, f: BatchScorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss.

        Args:
            f: evaluates boxes near the true ones.
            noise: bound to the true boxes, which are examples like its samples.

        Returns:
            Loss per true box; logs ``confidence_error``, the mean absolute error of sigmoid(f).
        """
        samples = noise.sample(self.num_noise_samples)
        targets = self.confidences(samples.boxes)
        logits = f(samples.boxes)
        error = (torch.sigmoid(logits.detach()) - targets).abs().mean(dim=-1)
        return TrainingLoss(confidence_loss(logits, targets), {"confidence_error": error})

    def confidences(self, boxes: Tensor) -> Tensor:
        """Return the targets of boxes.

        Args:
            boxes: ``(N, S, 7)``; index 0 of the second axis is the true box.

        Returns:
            ``(N, S)`` in [0, 1], 1 at the true box.
        """
        true = boxes[:, :1].expand_as(boxes).reshape(-1, 7)
        flat = boxes.reshape(-1, 7)
        if self.noise_std is None:
            return iou_3d(flat, true, aligned=True).reshape(boxes.shape[:2])
        residuals = LocalCoding(true, constant(self.noise_std, true).expand_as(true)).encode(flat)
        return torch.exp(-0.5 * residuals.square().sum(-1)).reshape(boxes.shape[:2])
