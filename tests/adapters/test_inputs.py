"""What refinement heads are given: checked once, in one read, whatever the number of frames."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head
from tests.adapters.regressed import build_regression_head
from tests.oracles.host_waits import counted_reads

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_HEADS = {"ebm": build_head, "regression": build_regression_head}
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.7]]

every_head = pytest.mark.parametrize("build", _HEADS.values(), ids=_HEADS)


def _loss(head: Any, frames: Frames) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = head.loss(frames.bev, frames.points, frames.boxes, frames.labels)
    return losses


def _refine(head: Any, frames: Frames) -> list[dict[str, Any]]:
    refined: list[dict[str, Any]] = head.refine(
        frames.bev, frames.points, frames.boxes, frames.labels, frames.scores
    )
    return refined


def _reads_of_adapters(call: Any, head: Any, frames: Frames) -> list[str]:
    call(head, frames)  # whatever is made at first use
    with counted_reads("ebm3d/adapters") as reads:
        call(head, frames)
    return reads


@every_head
@pytest.mark.parametrize("call", [_loss, _refine])
@pytest.mark.parametrize("counts", [(4,), (3, 2), (5, 0, 1, 2)], ids=str)
def test_adapter_reads_once_a_batch(build: Any, call: Any, counts: tuple[int, ...]):
    reads = _reads_of_adapters(call, build(), build_frames(counts))
    assert [read.rsplit(maxsplit=1)[1] for read in reads] == ["tolist"], reads


@every_head
@pytest.mark.parametrize("call", [_loss, _refine])
def test_adapter_reads_once_where_boxes_are_left_out(build: Any, call: Any):
    frames = build_frames((4, 3))
    if call is _loss:
        frames.labels[0][2] = -1
    else:
        frames.boxes[0][2, 0] = math.nan
    assert len(_reads_of_adapters(call, build(), frames)) == 1


def test_reads_are_noticed():
    from ebm3d.adapters.refinement_heads import inputs

    boxes = torch.rand(4, 7) + 1
    with counted_reads("ebm3d/adapters") as reads:
        inputs._error([boxes[:, 0] > 0], [boxes], [torch.zeros(4)], None)
    assert {read.rsplit(maxsplit=1)[1] for read in reads} == {"nonzero", "tolist"}
    with counted_reads("ebm3d/energy") as reads:
        inputs._error([boxes[:, 0] > 0], [boxes], [torch.zeros(4)], None)
    assert not reads


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
    with counted_reads("ebm3d/adapters") as reads:
        module["call"](read, values)
    assert len(reads) == 1
    with counted_reads("ebm3d/adapters") as reads:
        module["call"](lambda t: t[torch.arange(2).argsort()] + t.sum() * 2, values)
    assert not reads


@every_head
@pytest.mark.parametrize("call", [_loss, _refine])
def test_labels_beyond_the_classes_are_refused(build: Any, call: Any):
    frames = build_frames((3, 2))
    frames.labels[1][1] = 1
    with pytest.raises(ValueError, match=r"labels must be from 0 to 0, but got 0 to 1; give netw"):
        call(build(), frames)


@every_head
def test_detections_of_no_class_are_refused(build: Any):
    frames = build_frames((3, 2))
    frames.labels[0][2] = -1
    with pytest.raises(ValueError, match="labels must be from 0 to 0, but got -1 to 0"):
        _refine(build(), frames)


@every_head
@pytest.mark.parametrize(("column", "value"), [(1, math.nan), (3, math.inf), (4, 0.0), (5, -1.0)])
def test_true_boxes_that_are_unsound_are_refused_with_their_place(
    build: Any, column: int, value: float
):
    frames = build_frames((3, 2))
    frames.boxes[1][1, column] = value
    with pytest.raises(ValueError, match=r"finite, of positive size, but got boxes\[1\]\[1\] = "):
        _loss(build(), frames)


@every_head
def test_true_boxes_of_no_class_may_be_anything(build: Any):
    frames = build_frames((3, 2))
    frames.boxes[1][1], frames.labels[1][1] = math.nan, -1
    assert all(bool(value.isfinite().all()) for value in _loss(build(), frames).values())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1),
        ({"network": {"type": "EnergyNetwork", "mean_sizes": _SIZES}}, 2),
        ({"network": {"type": "Paper2020EnergyNetwork"}}, None),
        (
            {
                "network": {"type": "Paper2020EnergyNetwork"},
                "noise": {"type": "BoxNoise", "stds": [[0.1] * 7] * 3},
            },
            3,
        ),
    ],
    ids=["one", "two", "any", "of the noise"],
)
def test_the_classes_are_those_of_the_tables(options: dict[str, Any], expected: int | None):
    from mmdet3d.registry import MODELS

    assert MODELS.build({**REFINEMENT_HEAD, **options}).num_classes == expected


def test_tables_of_other_classes_are_refused_without_a_network_of_classes_too():
    noise = {"type": "BoxNoise", "stds": [[0.1] * 7] * 3}
    refiner = {
        "type": "GradientAscent",
        "num_steps": 1,
        "step_size": 1,
        "step_scale": [[1] * 7] * 2,
    }
    with pytest.raises(ValueError, match=r"rows of refiner\.step_scale must be 1 or 3"):
        build_head(network={"type": "Paper2020EnergyNetwork"}, noise=noise, refiner=refiner)


def test_boxes_to_refine_are_the_sound_ones_of_the_highest_scores():
    from ebm3d.adapters.refinement_heads.inputs import select_best

    boxes = torch.ones(5, 9)
    boxes[3, 4], boxes[1, 0] = 0.0, math.nan
    boxes[0, 8] = math.nan  # a velocity
    scores = torch.tensor([0.2, 0.9, 0.7, 0.8, 0.7])
    labels = torch.zeros(5, dtype=torch.int64)
    found = select_best([boxes, boxes[:0]], [labels, labels[:0]], [scores, scores[:0]], 2, 1)
    assert [rows.tolist() for rows in found] == [[2, 4], []]
    (every,) = select_best([boxes], [labels], [scores], 9, None)
    assert every.tolist() == [2, 4, 0]


def test_frames_of_boxes_are_numbered_in_order():
    from ebm3d.adapters.refinement_heads.inputs import frame_index

    found = frame_index([2, 0, 3], torch.device("cpu"))
    assert found.tolist() == [0, 0, 2, 2, 2]
    assert frame_index([0], torch.device("meta")).dtype == torch.int64
