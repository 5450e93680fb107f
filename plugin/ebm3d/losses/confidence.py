"""Confidence-based regression: learn how good a box is, then maximize it over the box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_3d
from ebm3d.devices import constant
from ebm3d.errors import check_count, check_positive, input_error, shape_error
from ebm3d.losses.training import NoiseAround, TrainingLoss
from ebm3d.refiners.scorers import Scorer
from ebm3d.registry import register


def confidence_loss(f: Tensor, targets: Tensor) -> Tensor:
    r"""Cross entropy between the confidence sigmoid(f) and its target.

    .. math:: L = -\frac1S\sum_s \big[c_s \log\sigma(f_s) + (1 - c_s)\log(1 - \sigma(f_s))\big]

    Source: Jiang et al., "Acquisition of Localization Confidence for Accurate Object Detection",
    ECCV 2018: predict the IoU of a box and maximize it. docs/method.md, M-15. Deviation: f is the
    logit of the confidence, so that its gradient does not vanish where the confidence saturates.
    Logits f and targets in [0, 1], ``(..., S)`` of S boxes around each true box; returns the mean
    over S, ``(...)``, nats.
    """
    if f.shape != targets.shape:
        raise shape_error("targets", f"{tuple(f.shape)} like f", targets)
    return binary_cross_entropy_with_logits(f, targets, reduction="none").mean(dim=-1)


@register
class ConfidenceLoss:
    """Trains f as the logit of a box's confidence, at the true boxes and their noise samples.

    Logs ``confidence_error``, the mean absolute error of sigmoid(f).

    Args:
        target: "iou" for the 3D IoU with the true box, which no velocity changes; "gaussian" for
            exp(-|t|^2 / 2) of the residuals t in units of ``noise_std``.
        noise_std: seven standard deviations for "gaussian": m, log ratios, rad; nine of boxes with
            velocities, m/s.
        num_noise_samples: M per true box.
    """

    is_density, returns_samples = False, False

    def __init__(
        self,
        target: str = "iou",
        noise_std: Sequence[float] | None = None,
        num_noise_samples: int = 128,
    ) -> None:
        check_count("num_noise_samples", num_noise_samples)
        if target not in ("iou", "gaussian"):
            raise input_error("target", "'iou' or 'gaussian'", repr(target))
        if (target == "gaussian") != (noise_std is not None and len(noise_std) in (7, 9)):
            expected = "seven or nine numbers with target='gaussian', and None otherwise"
            raise input_error("noise_std", expected, noise_std)
        for std in noise_std or ():
            check_positive("noise_std", std)
        self.target, self.num_noise_samples = target, num_noise_samples
        self.noise_std = None if noise_std is None else tuple(float(std) for std in noise_std)

    def __call__(self, f: Scorer, noise: NoiseAround) -> TrainingLoss:
        """Evaluate the loss per true box."""
        samples = noise.sample(self.num_noise_samples)
        targets = self.confidences(samples.boxes)
        logits = f(samples.boxes)
        error = (torch.sigmoid(logits.detach()) - targets).abs().mean(dim=-1)
        return TrainingLoss(confidence_loss(logits, targets), {"confidence_error": error})

    def confidences(self, boxes: Tensor) -> Tensor:
        """Targets ``(N, S)`` of boxes ``(N, S, D)``, of which the first are the true ones."""
        columns = boxes.shape[-1]
        true = boxes[:, :1].expand_as(boxes).reshape(-1, columns)
        flat = boxes.reshape(-1, columns)
        if self.noise_std is None:
            return iou_3d(flat[:, :7], true[:, :7], aligned=True).reshape(boxes.shape[:2])
        if len(self.noise_std) != columns:
            expected = f"{columns} numbers, as boxes have columns"
            raise input_error("noise_std", expected, self.noise_std)
        residuals = LocalCoding(true, constant(self.noise_std, true).expand_as(true)).encode(flat)
        return torch.exp(-0.5 * residuals.square().sum(-1)).reshape(boxes.shape[:2])
