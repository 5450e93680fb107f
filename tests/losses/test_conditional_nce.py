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
BOX = torch.tensor([[12.0, 3.0, -1.7, 3.9, 1.6, 1.56, 0.7]], dtype=torch.float64)
CODING = LocalCoding(BOX, torch.tensor([STDS], dtype=torch.float64))
LABELS = torch.zeros(1, dtype=torch.long)


@pytest.mark.parametrize(
    ("loss", "vanishes"),
    [(ConditionalNCELoss(1), True), (ConditionalNCELoss(8), True), (NCELoss(8), False)],
)
def test_expected_gradient_vanishes_at_the_log_density_and_that_of_nce_does_not(
    loss: ConditionalNCELoss | NCELoss, vanishes: bool
):
    generator = torch.Generator().manual_seed(0)
    residuals = torch.randn(1, 8000, 7, dtype=torch.float64, generator=generator)
    true = CODING.decode(residuals)[0]
    # One precision for every box, so that its gradient is the box's.
    precision = torch.ones(len(true), dtype=torch.float64, requires_grad=True)

    def f(boxes: Tensor) -> Tensor:
        flat = boxes.reshape(1, -1, 7)
        squared = CODING.encode(flat).square().sum(-1) / 2
        log_p = -squared.reshape(boxes.shape[:2]) * precision[:, None]
        return log_p - CODING.log_volume(flat).reshape(boxes.shape[:2])

    noise = BoxNoise(STDS).around(true, LABELS.expand(len(true)), generator=generator)
    (slopes,) = torch.autograd.grad(loss(f, noise).per_box.sum(), precision)
    bound = 5 * float(slopes.std()) / math.sqrt(len(slopes))
    if vanishes:
        assert abs(float(slopes.mean())) < bound
    else:
        assert float(slopes.mean()) < -bound  # the loss falls as f gets narrower


def test_loss_is_bayes_rule_by_hand():
    box_noise = BoxNoise(STDS)
    noise = box_noise.around(BOX, LABELS, generator=torch.Generator().manual_seed(3))
    loss = ConditionalNCELoss(3)(lambda boxes: boxes.sum(-1), noise)
    # The same draws: the noisy box first, then what lies around it.
    generator = torch.Generator().manual_seed(3)
    reference = box_noise.sample(BOX, LABELS, 1, generator).boxes[:, 1]
    drawn = box_noise.sample(reference, LABELS, 3, generator).boxes[0, 1:]
    joint = []
    for box in (BOX[0], *drawn):
        forward = box_noise.log_prob(box[None], reference[:, None], LABELS)
        backward = box_noise.log_prob(reference, box[None, None], LABELS)
        joint.append(float(box.sum() + forward - backward))
    expected = math.log(sum(math.exp(value - joint[0]) for value in joint))
    torch.testing.assert_close(float(loss.per_box), expected)
    # The samples carry the density that they were drawn from.
    assert loss.samples is not None
    assert torch.equal(loss.samples.boxes[0], torch.cat((BOX, drawn)))
    log_q = box_noise.log_prob(reference, loss.samples.boxes, LABELS)
    torch.testing.assert_close(loss.samples.log_q, log_q)
