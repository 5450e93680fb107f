"""Laws of NCE with noise around a noisy box."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.losses import ConditionalNCELoss, NCELoss
from ebm3d.noise import BoxNoise

STDS = [0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08]
ANCHOR = [12.0, 3.0, -1.7, 3.9, 1.6, 1.56, 0.7]
LABELS = torch.zeros(1, dtype=torch.long)


def coding() -> LocalCoding:
    """Residuals from one box in standard deviations of the noise."""
    anchor = torch.tensor([ANCHOR], dtype=torch.float64)
    return LocalCoding(anchor, torch.tensor([STDS], dtype=torch.float64))


def slopes_at_the_truth(loss: type[NCELoss] | type[ConditionalNCELoss], num_noise_samples: int):
    """Gradients, one a box, in the precision of f where f is the log density of the boxes."""
    generator = torch.Generator().manual_seed(0)
    residuals = torch.randn(8000, 1, 7, dtype=torch.float64, generator=generator)
    true = coding().decode(residuals)[:, 0]
    # One precision for every box, so that its gradient is the box's own.
    precision = torch.ones(len(true), dtype=torch.float64, requires_grad=True)

    def f(boxes: Tensor) -> Tensor:
        flat = boxes.reshape(-1, 1, 7)
        squared = coding().encode(flat).square().sum(-1) / 2
        log_p = -squared.reshape(boxes.shape[:2]) * precision[:, None]
        return log_p - coding().log_volume(flat).reshape(boxes.shape[:2])

    noise = BoxNoise(STDS).around(true, LABELS.expand(len(true)), generator=generator)
    per_box = loss(num_noise_samples)(f, noise).per_box
    (slopes,) = torch.autograd.grad(per_box.sum(), precision)
    return slopes


@pytest.mark.parametrize("num_noise_samples", [1, 8])
def test_expected_gradient_vanishes_at_the_log_density_for_few_samples(num_noise_samples: int):
    slopes = slopes_at_the_truth(ConditionalNCELoss, num_noise_samples)
    standard_error = float(slopes.std()) / math.sqrt(len(slopes))
    assert abs(float(slopes.mean())) < 5 * standard_error


def test_with_noise_around_the_true_box_it_does_not():
    slopes = slopes_at_the_truth(NCELoss, 8)
    standard_error = float(slopes.std()) / math.sqrt(len(slopes))
    assert float(slopes.mean()) < -5 * standard_error  # the loss falls as f gets narrower


def test_loss_is_bayes_rule_by_hand():
    true = coding().decode(torch.zeros(1, 1, 7, dtype=torch.float64))[:, 0]
    box_noise = BoxNoise(STDS)
    seen: list[Tensor] = []

    def f(boxes: Tensor) -> Tensor:
        seen.append(boxes)
        return boxes.sum(-1)

    noise = box_noise.around(true, LABELS, generator=torch.Generator().manual_seed(3))
    found = ConditionalNCELoss(3)(f, noise)
    # The same draws: the noisy box first, then what lies around it.
    generator = torch.Generator().manual_seed(3)
    reference = box_noise.sample(true, LABELS, 1, generator).boxes[:, 1]
    drawn = box_noise.sample(reference, LABELS, 3, generator).boxes[0, 1:]
    joint = []
    for box in (true[0], *drawn):
        forward = box_noise.log_prob(box[None], reference[:, None], LABELS)
        backward = box_noise.log_prob(reference, box[None, None], LABELS)
        joint.append(float(box.sum() + forward - backward))
    expected = math.log(sum(math.exp(value - joint[0]) for value in joint))
    assert torch.equal(seen[0][0, 0], true[0])
    torch.testing.assert_close(float(found.per_box), expected)


def test_samples_carry_the_density_they_were_drawn_from():
    true = coding().decode(torch.zeros(1, 1, 7, dtype=torch.float64))[:, 0]
    box_noise = BoxNoise(STDS)
    noise = box_noise.around(true, LABELS, generator=torch.Generator().manual_seed(3))
    samples = ConditionalNCELoss(3)(lambda boxes: boxes.sum(-1), noise).samples
    reference = box_noise.sample(true, LABELS, 1, torch.Generator().manual_seed(3)).boxes[:, 1]
    assert samples is not None
    torch.testing.assert_close(samples.log_q, box_noise.log_prob(reference, samples.boxes, LABELS))


def test_no_boxes_have_no_loss():
    noise = BoxNoise(STDS).around(torch.zeros(0, 7), torch.zeros(0, dtype=torch.long))
    assert ConditionalNCELoss(4)(lambda boxes: boxes.sum(-1), noise).per_box.shape == (0,)
