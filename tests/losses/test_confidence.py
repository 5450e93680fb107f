from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.losses import ConfidenceLoss, confidence_loss
from ebm3d.noise import BoxNoise, NoiseSamples
from tests.losses.examples import FixedNoise, fixed_noise, random_boxes
from tests.oracles.iou_rational import rational_iou

_UNITS = [0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04]


def _noise(count: int = 3, num: int = 5) -> FixedNoise:
    labels = torch.zeros(count, dtype=torch.int64)
    return fixed_noise(random_boxes(count), labels, BoxNoise(_UNITS), num)


def _samples() -> NoiseSamples:
    return _noise().drawn


def _inputs(*shape: int) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64)


def test_loss_is_the_mean_cross_entropy_of_the_confidences():
    f, targets = _inputs(4, 6)
    expected = torch.zeros(4, dtype=torch.float64)
    for i in range(4):
        for s in range(6):
            confidence, wanted = 1 / (1 + math.exp(-float(f[i, s]))), float(targets[i, s])
            expected[i] -= wanted * math.log(confidence) + (1 - wanted) * math.log(1 - confidence)
    torch.testing.assert_close(confidence_loss(f, targets), expected / 6)


def test_gradient_is_that_of_finite_differences():
    f, targets = _inputs(2, 4)
    assert torch.autograd.gradcheck(lambda x: confidence_loss(x, targets), f.requires_grad_())


def test_loss_is_smallest_at_the_target_and_there_the_entropy_of_the_target():
    _, targets = _inputs(3, 5)
    best = torch.logit(targets).requires_grad_()
    loss = confidence_loss(best, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), best)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-15, rtol=0)
    entropy = torch.distributions.Bernoulli(targets).entropy().mean(dim=-1)
    torch.testing.assert_close(loss, entropy)
    for step in (-0.1, 0.1):
        assert bool((confidence_loss(best + step, targets) > loss).all())


def test_loss_is_finite_where_the_confidence_saturates():
    f, targets = torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(confidence_loss(f, targets), torch.tensor([1e4]))


def test_leading_axes_are_kept_and_no_boxes_cost_nothing():
    assert confidence_loss(*_inputs(2, 3, 5)).shape == (2, 3)
    assert confidence_loss(*_inputs(0, 5)).shape == (0,)


@pytest.mark.parametrize("criterion", [ConfidenceLoss(), ConfidenceLoss("gaussian", _UNITS)])
def test_true_box_has_confidence_one_and_all_others_less(criterion: ConfidenceLoss):
    found = criterion.confidences(_samples().boxes)
    torch.testing.assert_close(found[:, 0], torch.ones(3, dtype=torch.float64))
    assert bool(((found[:, 1:] >= 0) & (found[:, 1:] < 1)).all())


def test_overlap_target_is_the_iou_of_rational_arithmetic():
    boxes = _samples().boxes
    expected = [[rational_iou(box.tolist(), own[0].tolist())[1] for box in own] for own in boxes]
    np.testing.assert_allclose(ConfidenceLoss("iou").confidences(boxes), expected, atol=1e-12)


def test_gaussian_target_falls_with_the_residuals_in_their_units():
    boxes = _samples().boxes
    found = ConfidenceLoss("gaussian", _UNITS).confidences(boxes)
    for i, own in enumerate(boxes.tolist()):
        x, y, z, *sizes, yaw = own[0]
        cos, sin = math.cos(yaw), math.sin(yaw)
        for s, box in enumerate(own):
            residuals = [
                cos * (box[0] - x) + sin * (box[1] - y),
                -sin * (box[0] - x) + cos * (box[1] - y),
                box[2] - z,
                *(math.log(box[3 + d] / sizes[d]) for d in range(3)),
                math.remainder(box[6] - yaw, 2 * math.pi),
            ]
            squared = sum((r / unit) ** 2 for r, unit in zip(residuals, _UNITS, strict=True))
            assert float(found[i, s]) == pytest.approx(math.exp(-squared / 2), rel=1e-9)


def test_callable_form_is_the_function_at_the_targets():
    noise, criterion = _noise(), ConfidenceLoss(num_noise_samples=5)
    samples = noise.drawn
    f, targets = torch.randn(3, 6, dtype=torch.float64), criterion.confidences(samples.boxes)
    result = criterion(lambda boxes: f.reshape(boxes.shape[:2]), noise)
    assert torch.equal(result.per_box, confidence_loss(f, targets))
    expected = np.abs(1 / (1 + np.exp(-f.numpy())) - targets.numpy()).mean(axis=1)
    np.testing.assert_allclose(result.logged["confidence_error"], expected, rtol=1e-12)


def test_descent_of_a_free_f_recovers_the_confidences():
    noise, criterion = _noise(), ConfidenceLoss("gaussian", [10 * u for u in _UNITS], 5)
    f = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([f], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = criterion(lambda _: f, noise).per_box.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    targets = criterion.confidences(noise.drawn.boxes)
    torch.testing.assert_close(torch.sigmoid(f).detach(), targets, atol=2e-3, rtol=0)


def test_no_true_boxes_have_no_loss():
    for criterion in (ConfidenceLoss("iou", None, 5), ConfidenceLoss("gaussian", _UNITS, 5)):
        result = criterion(lambda boxes: boxes.new_zeros(boxes.shape[:2]), _noise(0))
        assert result.per_box.shape == result.logged["confidence_error"].shape == (0,)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 4\) like f"):
        confidence_loss(torch.zeros(2, 4), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "giou"}, "'iou' or 'gaussian'"),
        ({"target": "gaussian"}, "noise_std"),
        ({"target": "iou", "noise_std": _UNITS}, "noise_std"),
        ({"target": "gaussian", "noise_std": _UNITS[:6]}, "seven positive"),
        ({"target": "gaussian", "noise_std": [*_UNITS[:6], 0.0]}, "seven positive"),
        ({"target": "gaussian", "noise_std": [*_UNITS[:6], math.nan]}, "seven positive"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ConfidenceLoss(**options)
