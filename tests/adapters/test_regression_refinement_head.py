from __future__ import annotations

import math
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from ebm3d.energy import BoundNetwork
from tests.adapters.distribution import REGRESSIONS
from tests.adapters.refined import (
    REGRESSION_HEAD,
    build_frames,
    build_regression_head,
    losses_of,
    refine,
)

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_DENSITY = ("boxes", "box_std", "box_covariance")


def _local_residuals(boxes: torch.Tensor, target: list[float], noise_std: list[float]) -> list[Any]:
    """Residuals of a true box from noisy boxes, by hand."""
    rows = []
    for x, y, z, *sizes, yaw in boxes.tolist():
        along = math.cos(yaw) * (target[0] - x) + math.sin(yaw) * (target[1] - y)
        across = -math.sin(yaw) * (target[0] - x) + math.cos(yaw) * (target[1] - y)
        logs = [math.log(target[3 + d] / sizes[d]) for d in range(3)]
        turn = math.remainder(target[6] - yaw, 2 * math.pi)
        row = [along, across, target[2] - z, *logs, turn]
        rows.append([r / unit for r, unit in zip(row, noise_std, strict=True)])
    return rows


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_every_regression_is_trained_and_refines_when_built_by_explicit_arguments(regression: str):
    from ebm3d.adapters.refinement_heads import RegressionRefinementHead

    arguments = {key: value for key, value in REGRESSION_HEAD.items() if key != "type"}
    head = RegressionRefinementHead(**{**arguments, "regression": {"type": regression}})
    losses = losses_of(head, build_frames())
    outputs, targets = torch.randn(4, head.regression.num_outputs), torch.randn(4, 7)
    regularizers = head.regression.regularizers(outputs, targets)
    assert bool(regularizers) == (regression == "RLELBoxRegression")
    assert set(losses) == {"loss_regression", *(f"loss_{name}" for name in regularizers)}
    sum(losses.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
    for out in refine(head.eval(), build_frames()):
        assert bool(torch.isfinite(out["boxes"]).all())
        assert bool((out["box_std"] > 0).all())


@pytest.mark.parametrize("regression", ["GaussianBoxRegression", "PROPELBoxRegression"])
def test_loss_is_the_sum_over_residuals_and_the_mean_over_noise_and_boxes(regression: str):
    head, frames = build_regression_head(regression), build_frames((3, 2))
    head.regression.loss_weight = 3.0
    loss = losses_of(head, frames)["loss_regression"]
    torch.manual_seed(0)
    noise_std = head.noise.stds[0].tolist()
    per_sample = []
    for index in range(2):
        one = frames.one(index)
        noisy = head.noise.sample(one.boxes[0], one.labels[0], 8).boxes[:, 1:]
        outputs = head._bound(BoundNetwork, one.bev, one.points, one.boxes, one.labels)(noisy)
        for true, variants, predicted in zip(one.boxes[0].tolist(), noisy, outputs, strict=True):
            targets = torch.tensor(_local_residuals(variants, true, noise_std))
            per_sample.append(head.regression.loss(predicted, targets).sum(dim=1))
    assert len(per_sample) == 5
    torch.testing.assert_close(loss, 3 * torch.stack(per_sample).mean(), rtol=1e-4, atol=1e-4)


def test_training_learns_where_the_true_boxes_lie():
    """From the same noisy boxes at every step."""
    head, frames = build_regression_head(), build_frames((3, 3))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = losses_of(head, frames)["loss_regression"]
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] - 2  # nats, of seven residuals together


def test_densities_are_selected_with_their_boxes():
    from mmengine.structures import InstanceData

    out = refine(build_regression_head(), build_frames((4, 1)))[0]
    torch.testing.assert_close(out["box_distribution"].boxes, out["boxes"])
    part = InstanceData(**out)[torch.tensor([2, 0])]
    for name in _DENSITY:
        assert torch.equal(part[name], out[name][[2, 0]])
    torch.testing.assert_close(part.box_distribution.std, out["box_std"][[2, 0]])
    assert part.box_distribution.yaw_period == math.pi


def test_two_iterations_are_regressions_one_after_the_other():
    frames = build_frames()
    head, twice = build_regression_head(), build_regression_head(num_iterations=2)
    twice.load_state_dict(head.state_dict())
    together = refine(twice, frames)
    frames.boxes = [out["boxes"] for out in refine(head, frames)]
    for one, other in zip(together, refine(head, frames), strict=True):
        for name in _DENSITY:
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-4)


def test_velocities_and_densities_of_the_dense_head_stay_beside_the_refined_boxes():
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    from ebm3d.adapters.dense_heads.refined_dense_head import _set_refined

    head, frames = build_regression_head(), build_frames((3, 1))
    boxes, velocities, std = frames.boxes[0], torch.randn(3, 2), torch.rand(3, 7)
    result = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(torch.cat((boxes, velocities), dim=1), box_dim=9),
        scores_3d=frames.scores[0],
        box_std=std,
    )
    refined = refine(head, frames)[0]
    _set_refined(result, dict(refined))
    assert torch.equal(result.bboxes_3d.tensor, torch.cat((refined["boxes"], velocities), dim=1))
    assert torch.equal(result.initial_bboxes_3d.tensor[:, :7], boxes)
    assert torch.equal(result.initial_box_std, std)
    assert torch.equal(result.box_std, refined["box_std"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_iterations": 0}, ValueError, "num_iterations must be at least 1"),
        ({"score_decay": -0.1}, ValueError, "score_decay must be at least 0"),
        ({"num_noise_samples": 0}, ValueError, "at least 1"),
        ({"noise": {"type": "NCELoss"}}, ValueError, "noise.type must be that of a noise"),
        ({"noise": {"type": "BoxNoise", "stds": [[0.1] * 7] * 3}}, ValueError, "rows of noise"),
        ({"num_iteration": 3}, TypeError, "num_iteration"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], error: type, message: str):
    with pytest.raises(error, match=message):
        build_regression_head(**options)
