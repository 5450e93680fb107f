from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.losses import ConfidenceLoss, confidence_loss
from ebm3d.noise import BoxNoise
from tests.losses.examples import FixedNoise, fixed_noise, random_boxes
from tests.oracles.iou_rational import rational_iou

_STDS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]


def _noise() -> FixedNoise:
    labels = torch.zeros(3, dtype=torch.int64)
    return fixed_noise(random_boxes(3), labels, BoxNoise(_STDS), 5)


def _inputs(*shape: int) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64)


def test_loss_is_the_mean_cross_entropy_of_the_confidences():
    f, targets = _inputs(4, 6)
    confidence, c = 1 / (1 + np.exp(-f.numpy())), targets.numpy()
    expected = -(c * np.log(confidence) + (1 - c) * np.log(1 - confidence)).mean(axis=1)
    np.testing.assert_allclose(confidence_loss(f, targets), expected)


def test_targets_are_the_iou_of_rational_arithmetic():
    boxes = _noise().drawn.boxes
    expected = [[rational_iou(box.tolist(), row[0].tolist())[1] for box in row] for row in boxes]
    targets = ConfidenceLoss("iou").confidences(boxes)
    np.testing.assert_allclose(targets, expected, atol=1e-12)
    torch.testing.assert_close(targets[:, 0], torch.ones(3, dtype=torch.float64))


def test_velocities_change_gaussian_targets_alone():
    boxes = _noise().drawn.boxes
    moving = torch.cat((boxes, torch.randn(*boxes.shape[:2], 2, dtype=torch.float64)), dim=-1)
    iou = ConfidenceLoss("iou")
    assert torch.equal(iou.confidences(moving), iou.confidences(boxes))
    offset = (moving - moving[:, :1])[..., 7:].square().sum(-1)
    confidences = ConfidenceLoss("gaussian", [*_STDS, 0.5, 0.5]).confidences(moving)
    expected = ConfidenceLoss("gaussian", _STDS).confidences(boxes) * torch.exp(-2 * offset)
    torch.testing.assert_close(confidences, expected)
    with pytest.raises(ValueError, match="noise_std must be 9 numbers"):
        ConfidenceLoss("gaussian", _STDS).confidences(moving)


def test_gaussian_targets_fall_with_the_residuals_in_their_units():
    boxes = _noise().drawn.boxes
    targets = ConfidenceLoss("gaussian", _STDS).confidences(boxes)
    for i, row in enumerate(boxes.tolist()):
        x, y, z, *sizes, yaw = row[0]
        cos, sin = math.cos(yaw), math.sin(yaw)
        for s, box in enumerate(row):
            residuals = [
                cos * (box[0] - x) + sin * (box[1] - y),
                -sin * (box[0] - x) + cos * (box[1] - y),
                box[2] - z,
                *(math.log(box[3 + d] / sizes[d]) for d in range(3)),
                math.remainder(box[6] - yaw, 2 * math.pi),
            ]
            squared = sum((r / std) ** 2 for r, std in zip(residuals, _STDS, strict=True))
            assert float(targets[i, s]) == pytest.approx(math.exp(-squared / 2), rel=1e-9)


def test_method_is_the_function_at_the_targets():
    noise, criterion = _noise(), ConfidenceLoss(num_noise_samples=5)
    f, targets = torch.randn(3, 6).double(), criterion.confidences(noise.drawn.boxes)
    result = criterion(lambda boxes: f.reshape(boxes.shape[:2]), noise)
    assert torch.equal(result.per_box, confidence_loss(f, targets))
    expected = np.abs(1 / (1 + np.exp(-f.numpy())) - targets.numpy()).mean(axis=1)
    np.testing.assert_allclose(result.logged["confidence_error"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("target", {"target": "giou"}),
        ("noise_std", {"target": "gaussian"}),
        ("noise_std", {"target": "iou", "noise_std": _STDS}),
        ("noise_std", {"target": "gaussian", "noise_std": [*_STDS[:6], math.nan]}),
    ],
)
def test_wrong_settings_are_refused(name: str, options: dict[str, Any]):
    with pytest.raises(ValueError, match=name):
        ConfidenceLoss(**options)
