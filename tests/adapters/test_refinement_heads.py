"""Laws of every refinement head: batches, empty frames, invalid boxes, modes, inputs."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from ebm3d.densities.uncertainty import relative_uncertainty
from tests.adapters.distribution import REGRESSIONS
from tests.adapters.refined import (
    PROPOSAL,
    REFINEMENT_HEAD,
    build_frames,
    build_head,
    build_regression_head,
    losses_of,
    refine,
)
from tests.adapters.tiny import sum_losses
from tests.oracles.host_waits import counted_reads

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_HEADS = {"ebm": build_head, "regression": build_regression_head}
_SAMPLES = {"method": "importance", "num_samples": 32, "num_rounds": 3}
_PREDICTING = {
    "ebm": build_head,
    "importance": partial(build_head, uncertainty="importance"),
    "laplace": partial(build_head, uncertainty="laplace"),
    "log density by samples": partial(build_head, log_density=_SAMPLES),
    "log density by curvature": partial(build_head, log_density={"method": "laplace"}),
}
_TRAINED = {kind: partial(build_regression_head, kind) for kind in REGRESSIONS}


def _heads(builders: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("build", builders.values(), ids=list(builders))


every_head = _heads(_HEADS)
every_prediction = _heads({**_PREDICTING, "regression": build_regression_head})


def _tensors(out: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in out.items() if isinstance(value, Tensor)}


@every_head
def test_loss_of_a_batch_is_the_mean_over_all_its_boxes(build: Any):
    head, frames = build(), build_frames((3, 2))
    first = losses_of(head, frames.one(0))
    second = losses_of(head, frames.one(1), seed=None)
    for name, value in losses_of(head, frames).items():
        mean = (3 * first[name] + 2 * second[name]) / 5
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-4)  # sums in float32


@every_head
@pytest.mark.parametrize("counts", [(3, 0), (0, 2)])
def test_frame_without_true_boxes_costs_nothing(build: Any, counts: tuple[int, int]):
    head, frames = build(), build_frames(counts)
    expected = losses_of(head, frames.one(int(counts[0] == 0)))
    torch.testing.assert_close(losses_of(head, frames), expected)


@_heads({"ebm": build_head, "proposal": partial(build_head, noise=PROPOSAL), **_TRAINED})
def test_batch_without_true_boxes_has_zero_loss_that_reaches_every_parameter(build: Any):
    head = build()
    losses = losses_of(head, build_frames((0, 0)))
    sum_losses(losses).backward()
    values = {name: float(value.detach()) for name, value in losses.items()}
    assert all(map(math.isfinite, values.values()))
    assert not any(value for name, value in values.items() if "loss" in name)
    # Data-parallel training waits for a gradient of every parameter.
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in head.parameters())


@every_head
def test_boxes_of_no_class_and_velocities_do_not_enter_and_inputs_stay(build: Any):
    head, frames = build(), build_frames()
    expected = losses_of(head, frames)
    frames.boxes[0] = torch.cat((frames.boxes[0], torch.full((2, 7), math.nan)))
    frames.labels[0] = torch.cat((frames.labels[0], torch.tensor([-1, -1])))
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    before = copy.deepcopy(frames)
    losses = losses_of(head, frames)
    torch.testing.assert_close(losses, expected)
    sum_losses(losses).backward()
    torch.testing.assert_close(vars(frames), vars(before), rtol=0, atol=0, equal_nan=True)


@every_head
@pytest.mark.parametrize("points", [0, 1])
def test_empty_and_nearly_empty_clouds_are_trained_and_refined(build: Any, points: int):
    head, frames = build(), build_frames()
    frames.points = [cloud[:points] for cloud in frames.points]
    sum_losses(losses_of(head, frames)).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
    assert all(bool(torch.isfinite(out["boxes"]).all()) for out in refine(head, frames))


@every_prediction
def test_box_is_refined_the_same_whatever_is_refined_with_it(build: Any):
    few = {"refiner": {**REFINEMENT_HEAD["refiner"], "num_steps": 1}}
    # A few steps: many amplify the rounding that differs with the size of a matrix product.
    head, frames = build(**({} if build is build_regression_head else few)), build_frames((5, 0, 4))
    together = [_tensors(out) for out in refine(head, frames)]
    again = [_tensors(out) for out in refine(head, frames)]
    torch.testing.assert_close(again, together, rtol=0, atol=0)
    for index, rows in ((0, slice(0, 4)), (0, slice(1, 5)), (1, slice(0)), (2, slice(0, 4))):
        frame = frames.one(index)
        parts = {name: [getattr(frame, name)[0][rows]] for name in ("boxes", "labels", "scores")}
        (alone,) = refine(head, replace(frame, **parts))
        expected = {name: value[rows] for name, value in together[index].items()}
        torch.testing.assert_close(_tensors(alone), expected, rtol=1e-3, atol=1e-4)


@_heads({**_PREDICTING, **_TRAINED})
def test_boxes_of_the_highest_scores_alone_are_refined_and_decayed(build: Any):
    plain = build()
    with_std = hasattr(plain, "regression") or plain.uncertainty is not None
    decay = {"score_decay": 2.0} if with_std else {}
    head, frames = build(max_refined=2, **decay), build_frames((5, 1))
    losses_of(head, frames)  # direct regression learns its scale
    frames.scores[0] = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2])
    plain.load_state_dict(head.state_dict())
    out, every = refine(head, frames)[0], refine(plain, frames)[0]
    rest, refined = [0, 2, 4], [1, 3]
    assert torch.equal(out["boxes"][rest], frames.boxes[0][rest])
    assert bool((out["boxes"][refined] != frames.boxes[0][refined]).any(dim=1).all())
    for name in _tensors(every).keys() - {"boxes"}:
        assert bool(torch.isnan(out[name][rest]).all()), name
    for name, value in _tensors(every).items():
        torch.testing.assert_close(out[name][refined], value[refined], rtol=1e-3, atol=1e-4)
    assert ("scores_3d" in out) == with_std
    if with_std:
        expected = frames.scores[0].clone()
        uncertainty = relative_uncertainty(out["box_std"][refined], out["boxes"][refined])
        expected[refined] *= torch.exp(-2 * uncertainty)
        torch.testing.assert_close(out["scores_3d"], expected)


@every_head
@pytest.mark.parametrize(("column", "value"), [(0, math.nan), (3, math.inf), (4, 0.0), (5, -1.0)])
def test_invalid_detection_stays_and_does_not_touch_the_others(
    build: Any, column: int, value: float
):
    head, frames = build(), build_frames((3, 2))
    valid = refine(head, frames)[0]
    frames.boxes[0] = frames.boxes[0].clone()
    frames.boxes[0][1, column] = value
    out = _tensors(refine(head, frames)[0])
    torch.testing.assert_close(out["boxes"][1], frames.boxes[0][1], equal_nan=True)
    for name, values in out.items():
        assert name == "boxes" or bool(torch.isnan(values[1]).all())
        torch.testing.assert_close(values[[0, 2]], valid[name][[0, 2]])


@_heads({"ebm": build_head, "direct": partial(build_regression_head, "DirectBoxRegression")})
def test_network_that_is_not_finite_leaves_the_boxes(build: Any):
    head, frames = build(), build_frames()
    losses_of(head, frames)
    nn.init.constant_(head.network.layers[-1].bias, math.nan)
    head.score_decay = 2.0 * hasattr(head, "regression")
    for out, boxes, scores in zip(refine(head, frames), frames.boxes, frames.scores, strict=True):
        assert torch.equal(out.pop("boxes"), boxes)
        assert torch.equal(out.pop("scores_3d", scores), scores)
        assert all(bool(torch.isnan(value).all()) for value in _tensors(out).values())


@every_prediction
@pytest.mark.parametrize("counts", [(0, 2), (0, 0)])
def test_frame_without_detections_is_refined(build: Any, counts: tuple[int, int]):
    for out, count in zip(refine(build(), build_frames(counts)), counts, strict=True):
        assert all(len(value) == count for value in out.values())


@_heads({**_HEADS, "laplace": _PREDICTING["laplace"]})
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_refinement_works_in_every_mode_and_leaves_no_gradients(build: Any, mode: Any):
    head, frames = build(), build_frames()
    expected = [_tensors(out) for out in refine(head, frames)]
    frames.boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]
    with mode():  # velocities of detections are not read
        found = [_tensors(out) for out in refine(head, frames)]
    torch.testing.assert_close(found, expected)
    assert not any(value.requires_grad for out in found for value in out.values())
    assert all(p.grad is None for p in head.parameters())


@every_head
@pytest.mark.parametrize("call", [losses_of, refine])
@pytest.mark.parametrize("counts", [(4,), (5, 0, 1, 2)], ids=str)
def test_adapter_reads_once_a_batch(build: Any, call: Any, counts: tuple[int, ...]):
    head, frames = build(), build_frames(counts)
    for left_out in (False, True):
        if left_out and call is losses_of:
            frames.labels[0][2] = -1
        elif left_out:
            frames.boxes[0][2, 0] = math.nan
        call(head, frames)  # whatever is made at first use
        with counted_reads("ebm3d/adapters") as reads:
            call(head, frames)
        assert len(reads) == 1, reads


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t[t > 0],
        lambda t: t.sum().item(),
        lambda t: bool((t > 0).all()),
        lambda t: t.new_tensor([1.0]),
        lambda t: torch.repeat_interleave(t, torch.ones(3).long()),
        lambda t: t.numpy(),
    ],
    ids=["mask", "item", "bool", "new_tensor", "repeats", "numpy"],
)
def test_reads_of_every_kind_are_counted(read: Any):
    from ebm3d.adapters.refinement_heads import inputs

    # A function with the file name of the package's calls what is tested.
    values = torch.rand(3) + 1
    module: dict[str, Any] = {}
    exec(compile("def call(read, t): return read(t)", inputs.__file__, "exec"), module)
    for folder, each, expected in (
        ("ebm3d/adapters", read, 1),
        ("ebm3d/energy", read, 0),
        ("ebm3d/adapters", lambda t: t[torch.arange(2).argsort()] + t.sum() * 2, 0),
    ):
        with counted_reads(folder) as reads:
            module["call"](each, values)
        assert len(reads) == expected


@every_head
@pytest.mark.parametrize(
    ("name", "index", "value", "calls", "message"),
    [
        ("labels", 1, 1, (losses_of, refine), r"labels must be from 0 to 0, but got 0 to 1; give"),
        ("labels", 1, -1, (refine,), "labels must be from 0 to 0, but got -1 to 0"),
        ("boxes", (1, 1), math.nan, (losses_of,), r"but got boxes\[1\]\[1\] = "),
        ("boxes", (1, 3), math.inf, (losses_of,), r"but got boxes\[1\]\[1\] = "),
        ("boxes", (1, 4), 0.0, (losses_of,), r"but got boxes\[1\]\[1\] = "),
        ("boxes", (1, 5), -1.0, (losses_of,), r"but got boxes\[1\]\[1\] = "),
    ],
)
def test_invalid_labels_and_true_boxes_are_refused(
    build: Any, name: str, index: Any, value: float, calls: Any, message: str
):
    frames = build_frames((3, 2))
    getattr(frames, name)[1][index] = value
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(build(), frames)


def test_boxes_to_refine_are_the_valid_ones_of_the_highest_scores():
    from ebm3d.adapters.refinement_heads.inputs import select_best

    boxes = torch.ones(5, 9)
    boxes[3, 4], boxes[1, 0] = 0.0, math.nan
    boxes[0, 8] = math.nan  # a velocity
    scores = torch.tensor([0.2, 0.9, 0.7, 0.8, 0.7])
    labels = torch.zeros(5, dtype=torch.int64)
    best = select_best([boxes, boxes[:0]], [labels, labels[:0]], [scores, scores[:0]], 2, 1)
    assert [rows.tolist() for rows in best] == [[2, 4], []]
    (every,) = select_best([boxes], [labels], [scores], 9, None)
    assert every.tolist() == [2, 4, 0]
