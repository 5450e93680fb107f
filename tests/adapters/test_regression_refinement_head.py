from __future__ import annotations

import math
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from ebm3d.energy import BoundNetwork
from tests.adapters.distribution import REGRESSIONS
from tests.adapters.refined import build_frames
from tests.adapters.regressed import REGRESSION_HEAD, build_regression_head, losses_of, refined_by

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def _local_residuals(boxes: torch.Tensor, target: list[float], noise_std: list[float]) -> list[Any]:
    """Residuals of a true box from noisy boxes, by hand."""
    found = []
    for x, y, z, *sizes, yaw in boxes.tolist():
        along = math.cos(yaw) * (target[0] - x) + math.sin(yaw) * (target[1] - y)
        across = -math.sin(yaw) * (target[0] - x) + math.cos(yaw) * (target[1] - y)
        logs = [math.log(target[3 + d] / sizes[d]) for d in range(3)]
        turn = math.remainder(target[6] - yaw, 2 * math.pi)
        row = [along, across, target[2] - z, *logs, turn]
        found.append([r / unit for r, unit in zip(row, noise_std, strict=True)])
    return found


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_every_regression_is_trained_and_refines_when_built_by_explicit_arguments(regression: str):
    from ebm3d.adapters.refinement_heads import RegressionRefinementHead

    arguments = {key: value for key, value in REGRESSION_HEAD.items() if key != "type"}
    head = RegressionRefinementHead(**{**arguments, "regression": {"type": regression}})
    losses = losses_of(head, build_frames())
    assert set(losses) >= {"loss_regression"}
    sum(losses.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
    for out in refined_by(head.eval(), build_frames()):
        assert bool(torch.isfinite(out["boxes"]).all())
        assert bool((out["box_std"] > 0).all())


@pytest.mark.parametrize("regression", ["GaussianBoxRegression", "PROPELBoxRegression"])
def test_loss_is_the_sum_over_residuals_and_the_mean_over_noise_and_boxes(regression: str):
    head, frames = build_regression_head(regression), build_frames((3, 2))
    head.regression.loss_weight = 3.0
    found = losses_of(head, frames)["loss_regression"]
    torch.manual_seed(0)
    noise_std = head.noise.stds[0].tolist()
    per_sample = []
    for index in range(2):
        one = frames.one(index)
        noisy = head.noise.sample(one.boxes[0], one.labels[0], 8).boxes[:, 1:]
        outputs = head._bound(BoundNetwork, one.bev, one.points, one.boxes, one.labels)(noisy)
        for true, variants, own in zip(one.boxes[0].tolist(), noisy, outputs, strict=True):
            targets = torch.tensor(_local_residuals(variants, true, noise_std))
            per_sample.append(head.regression.loss(own, targets).sum(dim=1))
    assert len(per_sample) == 5
    torch.testing.assert_close(found, 3 * torch.stack(per_sample).mean(), rtol=1e-4, atol=1e-4)


def test_regularizers_are_losses_of_their_own():
    head = build_regression_head("RLELBoxRegression")
    losses = losses_of(head, build_frames())
    outputs, targets = torch.randn(4, head.regression.num_outputs), torch.randn(4, 7)
    names = set(head.regression.regularizers(outputs, targets))
    assert names
    assert set(losses) == {"loss_regression", *(f"loss_{name}" for name in names)}
    assert all(value.shape == () for value in losses.values())


def test_residuals_of_a_class_are_in_units_of_its_noise():
    stds = torch.tensor([[0.25, 0.12, 0.08, 0.06, 0.06, 0.06, 0.06]]).repeat(2, 1)
    stds[1] *= 2
    network = {**REGRESSION_HEAD["network"], "mean_sizes": [[3.9, 1.6, 1.56]] * 2}
    noise = {"type": "BoxNoise", "stds": stds.tolist()}
    head, frames = build_regression_head(network=network, noise=noise), build_frames((2,))
    torch.nn.init.zeros_(head.network.layers[-1].weight)
    head.network.layers[-1].bias.data = 0.5 * torch.ones(14)
    first = refined_by(head, frames)[0]
    frames.labels = [torch.tensor([1, 1])]
    second = refined_by(head, frames)[0]
    moved = [out["boxes"][:, :3] - frames.boxes[0][:, :3] for out in (first, second)]
    torch.testing.assert_close(moved[1], 2 * moved[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        second["box_std"][:, [0, 1, 2, 6]], 2 * first["box_std"][:, [0, 1, 2, 6]]
    )


def test_residuals_of_sizes_are_in_units_of_metric_noise_around_the_box():
    stds = [0.25, 0.25, 0.08, 0.06, 0.05, 0.07, 0.06]
    noise = {"type": "BoxNoise", "stds": stds, "axes": "world", "sizes": "metric"}
    head, frames = build_regression_head(noise=noise), build_frames((2,))
    torch.nn.init.zeros_(head.network.layers[-1].weight)
    head.network.layers[-1].bias.data = 0.5 * torch.ones(14)
    before, after = frames.boxes[0][:, 3:6], refined_by(head, frames)[0]["boxes"][:, 3:6]
    expected = 0.5 * torch.tensor(stds[3:6]).expand_as(before)
    torch.testing.assert_close(before * torch.log(after / before), expected, rtol=1e-4, atol=0)


def test_loss_of_a_batch_is_the_mean_over_all_its_boxes():
    head, frames = build_regression_head(), build_frames((3, 2))
    together = losses_of(head, frames)["loss_regression"]
    first = losses_of(head, frames.one(0))["loss_regression"]
    second = losses_of(head, frames.one(1), seed=None)["loss_regression"]
    torch.testing.assert_close(together, (3 * first + 2 * second) / 5)


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_batch_without_true_boxes_has_zero_loss_that_reaches_every_parameter(regression: str):
    head = build_regression_head(regression)
    losses = losses_of(head, build_frames((0, 0)))
    total = sum(losses.values())
    total.backward()
    assert float(total.detach()) == 0.0
    # Data-parallel training waits for a gradient of every parameter.
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in head.parameters())


def test_frame_without_true_boxes_costs_nothing():
    head, frames = build_regression_head(), build_frames((3, 0))
    alone = losses_of(head, frames.one(0))["loss_regression"]
    torch.testing.assert_close(losses_of(head, frames)["loss_regression"], alone)


def test_boxes_of_no_class_and_velocities_do_not_enter():
    head, frames = build_regression_head(), build_frames()
    expected = losses_of(head, frames)["loss_regression"]
    frames.boxes[0] = torch.cat((frames.boxes[0], torch.zeros(2, 7)))
    frames.labels[0] = torch.cat((frames.labels[0], torch.tensor([-1, -1])))
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    torch.testing.assert_close(losses_of(head, frames)["loss_regression"], expected)


def test_training_learns_where_the_true_boxes_lie():
    """The same noisy boxes at every step: what is learned is their way back."""
    head, frames = build_regression_head(), build_frames((3, 3))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = losses_of(head, frames, seed=0)["loss_regression"]
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] - 2  # nats, of seven residuals together


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_only_the_boxes_of_the_highest_scores_are_refined(regression: str):
    head, frames = build_regression_head(regression, max_refined=2), build_frames((5, 1))
    losses_of(head, frames)  # direct regression learns its scale
    frames.scores[0] = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2])
    out = refined_by(head, frames)[0]
    rest, refined = [0, 2, 4], [1, 3]
    assert torch.equal(out["boxes"][rest], frames.boxes[0][rest])
    assert bool((out["boxes"][refined] != frames.boxes[0][refined]).any(dim=1).all())
    for std in (out["box_std"], out["box_distribution"].std):
        assert bool(torch.isnan(std[rest]).all())
        assert bool((std[refined] > 0).all())
    torch.testing.assert_close(out["box_distribution"].boxes[refined], out["boxes"][refined])


def test_scores_fall_with_the_relative_uncertainty_of_the_refined_boxes():
    from ebm3d.densities.uncertainty import relative_uncertainty

    frames = build_frames((4, 1))
    out = refined_by(build_regression_head(score_decay=2.0, max_refined=2), frames)[0]
    refined = frames.scores[0].argsort(descending=True)[:2]
    uncertainty = relative_uncertainty(out["box_std"][refined], out["boxes"][refined])
    expected = frames.scores[0].clone()
    expected[refined] *= torch.exp(-2 * uncertainty)
    torch.testing.assert_close(out["scores_3d"], expected)
    assert "scores_3d" not in refined_by(build_regression_head(), frames)[0]


def test_batch_is_refined_as_frame_by_frame():
    head, frames = build_regression_head(), build_frames((3, 4))
    together = refined_by(head, frames)
    for index in range(2):
        alone = refined_by(head, frames.one(index))[0]
        for name in ("boxes", "box_std", "box_covariance"):
            torch.testing.assert_close(
                together[index][name], alone[name], atol=1e-5, rtol=1e-5, msg=name
            )


@pytest.mark.parametrize(("column", "value"), [(0, math.nan), (3, math.inf), (5, -1.0)])
def test_unsound_detection_stays_as_it_is_and_does_not_touch_the_others(column: int, value: float):
    head, frames = build_regression_head(), build_frames((3, 2))
    sound = refined_by(head, frames)[0]
    frames.boxes[0] = frames.boxes[0].clone()
    frames.boxes[0][1, column] = value
    out = refined_by(head, frames)[0]
    torch.testing.assert_close(out["boxes"][1], frames.boxes[0][1], equal_nan=True)
    assert bool(torch.isnan(out["box_std"][1]).all())
    for name in ("boxes", "box_std", "box_covariance"):
        torch.testing.assert_close(out[name][[0, 2]], sound[name][[0, 2]])


def test_outputs_that_are_not_numbers_leave_the_boxes_without_a_density():
    head, frames = build_regression_head("DirectBoxRegression", score_decay=2.0), build_frames()
    losses_of(head, frames)
    torch.nn.init.constant_(head.network.layers[-1].bias, math.nan)
    detected = zip(frames.boxes, frames.scores, strict=True)
    for out, (boxes, scores) in zip(refined_by(head, frames), detected, strict=True):
        assert torch.equal(out["boxes"], boxes)
        assert torch.equal(out["scores_3d"], scores)
        assert bool(torch.isnan(out["box_std"]).all())


@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_frame_without_detections_is_fine(counts: tuple[int, int]):
    refined = refined_by(build_regression_head(), build_frames(counts))
    for out, count in zip(refined, counts, strict=True):
        assert all(len(out[name]) == count for name in out)


def test_what_is_said_of_boxes_is_selected_with_them():
    from mmengine.structures import InstanceData

    out = refined_by(build_regression_head(), build_frames((4, 1)))[0]
    assert out["box_std"].shape == (4, 7)
    assert out["box_covariance"].shape == (4, 7, 7)
    part = InstanceData(**out)[torch.tensor([2, 0])]
    for name in ("boxes", "box_std", "box_covariance"):
        assert torch.equal(part[name], out[name][[2, 0]])
    assert len(part.box_distribution) == 2
    torch.testing.assert_close(part.box_distribution.std, out["box_std"][[2, 0]])
    assert part.box_distribution.yaw_period == math.pi


def test_two_iterations_are_regressions_one_after_the_other():
    frames = build_frames()
    head = build_regression_head()
    twice = build_regression_head(num_iterations=2)
    twice.load_state_dict(head.state_dict())
    found = refined_by(twice, frames)
    frames.boxes = [out["boxes"] for out in refined_by(head, frames)]
    for one, other in zip(found, refined_by(head, frames), strict=True):
        for name in ("boxes", "box_std", "box_covariance"):
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-4)


def test_velocities_of_detections_are_not_touched():
    head, frames = build_regression_head(), build_frames()
    expected = refined_by(head, frames)[0]
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    found = refined_by(head, frames)[0]
    for name in ("boxes", "box_std"):
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_refining_works_in_every_mode_and_leaves_no_gradients(mode: Any):
    head, expected = build_regression_head(), None
    with mode():
        torch.manual_seed(0)
        refined = refined_by(head, build_frames())
    torch.manual_seed(0)
    expected = refined_by(head, build_frames())
    assert all(p.grad is None for p in head.parameters())
    for out, other in zip(refined, expected, strict=True):
        assert not out["boxes"].requires_grad
        assert not out["box_std"].requires_grad
        torch.testing.assert_close(out["boxes"], other["boxes"])


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
    refined = refined_by(head, frames)[0]
    found, new = result, refined["boxes"]
    _set_refined(found, dict(refined))
    assert torch.equal(found.bboxes_3d.tensor[:, :7], new)
    assert torch.equal(found.bboxes_3d.tensor[:, 7:], velocities)
    assert torch.equal(found.initial_bboxes_3d.tensor[:, :7], boxes)
    assert torch.equal(found.initial_box_std, std)
    assert torch.equal(found.box_std, refined["box_std"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_iterations": 0}, "num_iterations must be at least 1"),
        ({"score_decay": -0.1}, "score_decay must be at least 0"),
        ({"num_noise_samples": 0}, "at least 1"),
        ({"pooling": []}, "at least one pool"),
        ({"noise": {"type": "NCELoss"}}, "noise.type must be that of a noise"),
        ({"noise": {"type": "BoxNoise", "stds": [[0.1] * 7] * 3}}, "rows of noise.stds"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_regression_head(**options)


def test_misspelled_option_is_a_type_error():
    with pytest.raises(TypeError, match="num_iteration"):
        build_regression_head(num_iteration=3)
