from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def _loss(head: Any, frames: Frames, seed: int | None = 0) -> dict[str, Tensor]:
    if seed is not None:
        torch.manual_seed(seed)
    losses: dict[str, Tensor] = head.loss(frames.bev, frames.points, frames.boxes, frames.labels)
    return losses


def _refine(head: Any, frames: Frames) -> list[dict[str, Tensor]]:
    refined: list[dict[str, Tensor]] = head.refine(
        frames.bev, frames.points, frames.boxes, frames.labels, frames.scores
    )
    return refined


def test_head_is_built_by_explicit_arguments():
    from ebm3d.adapters.refinement_heads import EBMRefinementHead

    arguments = {key: value for key, value in REFINEMENT_HEAD.items() if key != "type"}
    loss = _loss(EBMRefinementHead(**arguments), build_frames())["loss_ebm"]
    assert bool(torch.isfinite(loss))


def test_loss_of_a_flat_f_is_the_contrast_of_the_noise_with_itself():
    head, frames = build_head(), build_frames()
    torch.nn.init.zeros_(head.network.layers[-1].weight)
    losses = _loss(head, frames)
    torch.manual_seed(0)
    expected = []
    for boxes, labels in zip(frames.boxes, frames.labels, strict=True):
        log_q = head.noise.sample(boxes, labels, 16).log_q
        expected.append(torch.logsumexp(-log_q, dim=1) + log_q[:, 0])
    torch.testing.assert_close(losses["loss_ebm"], torch.cat(expected).mean())


def test_loss_of_a_batch_is_the_mean_over_all_its_boxes():
    head, frames = build_head(), build_frames((3, 2))
    together = _loss(head, frames)
    first = _loss(head, frames.one(0))
    second = _loss(head, frames.one(1), seed=None)  # goes on where the first left the generator
    for name in ("loss_ebm", "ebm_rank_first"):
        expected = (3 * first[name] + 2 * second[name]) / 5
        torch.testing.assert_close(together[name], expected)


def test_loss_weight_scales_the_loss():
    frames, head = build_frames(), build_head()
    expected = 3 * _loss(head, frames)["loss_ebm"]
    head.loss_weight = 3.0
    torch.testing.assert_close(_loss(head, frames)["loss_ebm"], expected)


def test_training_tells_true_boxes_from_noise():
    head, frames = (
        build_head(loss={"type": "NCELoss", "num_noise_samples": 32}),
        build_frames((6, 6)),
    )
    torch.nn.init.normal_(head.network.layers[-1].weight, std=1e-3)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    torch.manual_seed(0)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        losses = _loss(head, frames, seed=None)
        losses["loss_ebm"].backward()
        optimizer.step()
        history.append(float(losses["loss_ebm"].detach()))
    assert sum(history[-10:]) / 10 < 0.8 * sum(history[:10]) / 10


def test_rank_is_a_share_without_gradient():
    losses = _loss(build_head(), build_frames())
    assert 0 <= float(losses["ebm_rank_first"]) <= 1
    assert not losses["ebm_rank_first"].requires_grad


@pytest.mark.parametrize("counts", [(3, 0), (0, 2), (1, 0)])
def test_frame_without_true_boxes_costs_nothing(counts: tuple[int, int]):
    head, frames = build_head(), build_frames(counts)
    full = frames.one(int(counts[0] == 0))
    torch.testing.assert_close(_loss(head, frames)["loss_ebm"], _loss(head, full)["loss_ebm"])


def test_batch_without_true_boxes_has_zero_loss_that_reaches_every_parameter():
    head, frames = build_head(), build_frames((0, 0))
    losses = _loss(head, frames)
    losses["loss_ebm"].backward()
    assert float(losses["loss_ebm"].detach()) == 0.0
    assert float(losses["ebm_rank_first"]) == 0.0
    # Data-parallel training waits for a gradient of every parameter.
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in head.parameters())


@pytest.mark.parametrize("points", [0, 1])
def test_empty_and_nearly_empty_clouds_are_trained_and_refined(points: int):
    head, frames = build_head(), build_frames()
    frames.points = [cloud[:points] for cloud in frames.points]
    losses = _loss(head, frames)
    losses["loss_ebm"].backward()
    assert math.isfinite(float(losses["loss_ebm"].detach()))
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
    assert all(bool(torch.isfinite(out["boxes"]).all()) for out in _refine(head, frames))


def test_boxes_of_no_class_are_left_out():
    head, frames = build_head(), build_frames()
    expected = _loss(head, frames)["loss_ebm"]
    frames.boxes[0] = torch.cat((frames.boxes[0], torch.zeros(2, 7)))
    frames.labels[0] = torch.cat((frames.labels[0], torch.tensor([-1, -1])))
    torch.testing.assert_close(_loss(head, frames)["loss_ebm"], expected)


def test_velocities_of_true_boxes_do_not_enter():
    head, frames = build_head(), build_frames()
    expected = _loss(head, frames)["loss_ebm"]
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    torch.testing.assert_close(_loss(head, frames)["loss_ebm"], expected)


def test_loss_under_autocast_is_computed_in_float32():
    head, frames = build_head(), build_frames()
    expected = _loss(head, frames)["loss_ebm"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames.bev = frames.bev + 0
        found = _loss(head, frames)["loss_ebm"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_loss_leaves_its_input_alone():
    head, frames = build_head(), build_frames()
    before = copy.deepcopy(frames)
    _loss(head, frames)["loss_ebm"].backward()
    for found, expected in zip(
        (frames.bev, *frames.boxes, *frames.points),
        (before.bev, *before.boxes, *before.points),
        strict=True,
    ):
        assert torch.equal(found, expected)


def test_refined_boxes_have_a_higher_f_and_both_values_are_given():
    head, frames = build_head(), build_frames()
    for index, out in enumerate(_refine(head, frames)):
        assert bool((out["f_refined"] >= out["f_initial"]).all())
        assert float((out["boxes"] - frames.boxes[index]).abs().max()) > 1e-3
        for name, boxes in (("f_initial", frames.boxes[index]), ("f_refined", out["boxes"])):
            one = frames.one(index)
            with torch.no_grad():
                f = head.make_energy(one.bev, one.points, [boxes], one.labels)(boxes)
            torch.testing.assert_close(out[name], f, atol=1e-5, rtol=1e-5)


def test_batch_is_refined_as_frame_by_frame():
    head, frames = build_head(), build_frames((3, 4))
    together = _refine(head, frames)
    for index in range(2):
        alone = _refine(head, frames.one(index))[0]
        for name, value in alone.items():
            torch.testing.assert_close(together[index][name], value, atol=1e-5, rtol=1e-5)


def test_only_the_boxes_of_the_highest_scores_are_refined():
    head, frames = build_head(max_refined=2), build_frames((5, 1))
    frames.scores[0] = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2])
    out = _refine(head, frames)[0]
    assert torch.isnan(out["f_refined"]).tolist() == [True, False, True, False, True]
    assert torch.isnan(out["f_initial"]).tolist() == [True, False, True, False, True]
    rest = [0, 2, 4]
    assert torch.equal(out["boxes"][rest], frames.boxes[0][rest])
    every = _refine(build_head_like(head, max_refined=100), frames)[0]
    torch.testing.assert_close(out["boxes"][[1, 3]], every["boxes"][[1, 3]])


def build_head_like(head: Any, **options: Any) -> Any:
    """Another head of the same weights."""
    other = build_head(**options)
    other.load_state_dict(head.state_dict())
    return other


@pytest.mark.parametrize(("column", "value"), [(0, math.nan), (3, math.inf), (4, 0.0), (5, -1.0)])
def test_unsound_detection_stays_as_it_is_and_does_not_touch_the_others(column: int, value: float):
    head, frames = build_head(), build_frames((3, 2))
    sound = _refine(head, frames)[0]
    frames.boxes[0] = frames.boxes[0].clone()
    frames.boxes[0][1, column] = value
    out = _refine(head, frames)[0]
    torch.testing.assert_close(out["boxes"][1], frames.boxes[0][1], equal_nan=True)
    assert math.isnan(float(out["f_refined"][1]))
    torch.testing.assert_close(out["boxes"][[0, 2]], sound["boxes"][[0, 2]])


@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_frame_without_detections_is_fine(counts: tuple[int, int]):
    refined = _refine(build_head(), build_frames(counts))
    assert [len(out["boxes"]) for out in refined] == list(counts)
    assert [len(out["f_refined"]) for out in refined] == list(counts)


def test_velocities_of_detections_are_not_touched():
    head, frames = build_head(), build_frames()
    expected = _refine(head, frames)[0]["boxes"]
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    found = _refine(head, frames)[0]["boxes"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_refining_works_in_every_mode_and_leaves_no_gradients(mode: Any):
    head = build_head()
    with mode():
        torch.manual_seed(0)
        refined = _refine(head, build_frames())
    torch.manual_seed(0)
    expected = _refine(head, build_frames())
    assert all(p.grad is None for p in head.parameters())
    for out, other in zip(refined, expected, strict=True):
        assert not out["boxes"].requires_grad
        torch.testing.assert_close(out["boxes"], other["boxes"])


def test_f_that_is_not_a_number_leaves_the_boxes():
    head, frames = build_head(), build_frames()
    torch.nn.init.constant_(head.network.layers[-1].bias, math.nan)
    for out, boxes in zip(_refine(head, frames), frames.boxes, strict=True):
        assert torch.equal(out["boxes"], boxes)


def test_huge_slopes_move_no_box_further_than_allowed():
    head, frames = build_head(), build_frames()
    torch.nn.init.normal_(head.network.layers[-1].weight, std=1e20)
    scale = torch.tensor(REFINEMENT_HEAD["refiner"]["step_scale"])
    for out, boxes in zip(_refine(head, frames), frames.boxes, strict=True):
        assert bool(torch.isfinite(out["boxes"]).all())
        moved = out["boxes"] - boxes
        reach = 3 * scale + 1e-4
        assert bool((moved[:, 2:6].abs() <= reach[2:6]).all())
        assert bool((moved[:, :2].norm(dim=1) <= reach[:2].norm()).all())


def test_box_outside_the_map_is_refined_to_a_sound_box():
    head, frames = build_head(), build_frames()
    frames.boxes[0][0, :2] = torch.tensor([500.0, -300.0])
    out = _refine(head, frames)[0]
    assert bool(torch.isfinite(out["boxes"]).all())
    assert bool(torch.isfinite(out["f_refined"]).all())


def test_head_without_pools_is_refused():
    with pytest.raises(ValueError, match="at least one pool"):
        build_head(pooling=[])


@pytest.mark.parametrize("name", ["max_refined", "max_evaluations"])
def test_counts_below_one_are_refused(name: str):
    with pytest.raises(ValueError, match="at least 1"):
        build_head(**{name: 0})


def test_misspelled_option_is_a_type_error():
    with pytest.raises(TypeError, match="max_refine"):
        build_head(max_refine=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": None}, "loss must be a config: a dict with .* but got None"),
        ({"loss": {"num_noise_samples": 4}}, "loss must be a config: a dict with the name"),
        ({"loss": {"type": "NoLoss"}}, r"loss\.type must be the name of a registered class"),
        ({"loss": {"type": "NCELoss", "samples": 4}}, "loss must be arguments of NCELoss"),
        ({"loss": {"type": "BoxNoise", "stds": [1.0] * 7}}, r"loss\.type must be that of a loss"),
        ({"loss": {"type": "NCELoss", "num_noise_samples": "4"}}, "num_noise_samples must be"),
        ({"noise": {"type": "NCELoss"}}, r"noise\.type must be that of a noise, .* without around"),
        ({"noise": {"type": "LearnedProposal", "base": 3}}, r"noise\.base must be a config"),
        ({"refiner": {"type": "BoxNoise", "stds": [1.0] * 7}}, r"refiner\.type must be that of a"),
        ({"network": {"type": "NCELoss"}}, r"network\.type must be that of a network"),
        ({"pooling": {"type": "BEVGridPool"}}, "pooling must be a list"),
        ({"pooling": [3]}, r"pooling\[0\] must be a config"),
        ({"point_cloud_range": [0, 0, 0, 1, 1]}, "point_cloud_range must be six numbers"),
        ({"max_refined": 2.5}, "max_refined must be at least 1, a whole number"),
        ({"max_evaluations": 2.5}, "max_evaluations must be at least 1, a whole number"),
        ({"loss_weight": math.nan}, "loss_weight must be at least 0 and finite"),
        ({"score_decay": "high"}, "score_decay must be at least 0 and finite"),
        ({"log_density": "laplace"}, "log_density must be a dict of method, num_samples"),
        ({"log_density": {"samples": 4}}, "log_density must be a dict of method, num_samples"),
    ],
)
def test_settings_of_another_kind_are_refused_by_name(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_head(**options)
