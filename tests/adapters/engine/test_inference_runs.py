"""One head under several settings of inference, on the detections of one pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.engine.shifting import frame, instances
from tests.adapters.refined import Frames, build_frames, build_head
from tests.adapters.regressed import refined_by

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

WIDER = {"nms_thr": 0.5, "max_num": 100}
NUM_BOXES, NUM_CANDIDATES = (3, 0, 2), (4, 1, 3)
STILL = {"refiner.num_steps": 0}
STEPS = {"refiner.num_steps": 3}


def model() -> Any:
    """A detector that is asked for its suppression alone."""
    given = {"nms_thr": 0.01, "max_num": 50, "use_rotate_nms": True}
    return SimpleNamespace(bbox_head=SimpleNamespace(dense_head=SimpleNamespace(test_cfg=given)))


def detections(frames: Frames, counts: tuple[int, ...]) -> list[Any]:
    """The first boxes of each frame, with their scores."""
    return [
        instances(b[:count], scores_3d=s[:count])
        for b, s, count in zip(frames.boxes, frames.scores, counts, strict=True)
    ]


def run(
    monkeypatch: pytest.MonkeyPatch, head: Any, settings: dict[str, Any]
) -> tuple[Any, list[float], Frames]:
    """The runs of three frames, the detector's seconds, and the frames of all candidates."""
    from ebm3d.adapters.engine import inference_runs

    torch.manual_seed(2)
    frames = build_frames(NUM_CANDIDATES)
    found, candidates = (detections(frames, n) for n in (NUM_BOXES, NUM_CANDIDATES))
    detected = [
        frame(
            str(i),
            found[i].bboxes_3d.tensor,
            found[i].bboxes_3d.tensor,
            bev=frames.bev[i : i + 1],
            points=frames.points[i : i + 1],
            result=found[i],
            candidates=candidates[i],
            seconds=0.5 + i,
        )
        for i in range(len(found))
    ]
    monkeypatch.setattr(inference_runs, "detect_frames", lambda model, loader, wider: detected)
    runs, seconds = inference_runs.run_settings(model(), detected, head, settings, WIDER)
    return runs, seconds, frames


def taken(frames: Frames, index: int, counts: tuple[int, ...]) -> Frames:
    """One frame, of so many boxes."""
    one, count = frames.one(index), counts[index]
    return Frames(
        one.bev, one.points, *([part[0][:count]] for part in (one.boxes, one.labels, one.scores))
    )


def boxes_of(sample: dict[str, Any]) -> Tensor:
    return sample["pred_instances_3d"].bboxes_3d.tensor


def test_run_of_the_detector_is_what_it_found_and_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    runs, seconds, frames = run(monkeypatch, build_head(), {})
    ((name, alone),) = runs.items()
    assert name == "detector"
    assert seconds == [0.5, 1.5, 2.5]
    assert alone.seconds == [0.0] * 3
    for index, sample in enumerate(alone.samples):
        assert torch.equal(boxes_of(sample), frames.boxes[index][: NUM_BOXES[index]])
        assert sample["lidar_path"] == f"{index}.bin"


def test_every_run_is_that_of_the_head_with_its_settings(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting

    head = build_head()
    settings = {"still": InferenceSetting(STILL), "steps": InferenceSetting(STEPS)}
    runs, _, frames = run(monkeypatch, head, settings)
    assert list(runs) == ["detector", "still", "steps"]
    for name, steps in (("still", 0), ("steps", 3)):
        head.refiner.num_steps = steps
        assert len(runs[name].seconds) == 3
        for index, sample in enumerate(runs[name].samples):
            expected = refined_by(head, taken(frames, index, NUM_BOXES))[0]
            assert torch.equal(boxes_of(sample), expected["boxes"])
            shown = sample["pred_instances_3d"].f_refined
            torch.testing.assert_close(shown, expected["f_refined"], equal_nan=True)


def test_candidates_are_refined_before_the_suppression_alone(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting

    settings = {"after": InferenceSetting(STILL), "before": InferenceSetting(STILL, True)}
    runs, _, frames = run(monkeypatch, build_head(), settings)
    for name, counts in (("after", NUM_BOXES), ("before", NUM_CANDIDATES)):
        for sample, boxes, count in zip(runs[name].samples, frames.boxes, counts, strict=True):
            assert torch.equal(boxes_of(sample), boxes[:count])


def test_run_shows_refined_boxes_as_the_only_stage(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting

    runs, *_ = run(monkeypatch, build_head(), {"steps": InferenceSetting(STEPS)})
    for sample in runs["steps"].samples:
        assert "initial_bboxes_3d" not in sample["pred_instances_3d"]


def test_log_densities_are_those_of_the_head_and_timed_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting
    from ebm3d.energy.log_density import LogDensity

    ways = {
        "sampled": LogDensity("importance", num_samples=8, num_rounds=2),
        "curved": LogDensity("laplace"),
    }
    head = build_head(max_refined=2)
    runs, _, frames = run(monkeypatch, head, {"steps": InferenceSetting(STEPS, densities=ways)})
    found = runs["steps"]
    assert {name: len(seconds) for name, seconds in found.density_seconds.items()} == {
        "sampled": 3,
        "curved": 3,
    }
    for name, way in ways.items():
        head.log_density = way
        for index, sample in enumerate(found.samples):
            expected = refined_by(head, taken(frames, index, NUM_BOXES))[0]["log_density"]
            shown = sample["pred_instances_3d"].get(name)
            assert torch.equal(shown.isnan(), expected.isnan())
            if name == "curved":  # samples are drawn for the boxes in another order
                torch.testing.assert_close(shown, expected, equal_nan=True, rtol=1e-3, atol=1e-3)


def test_box_that_was_not_refined_has_no_log_density(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting
    from ebm3d.energy.log_density import LogDensity

    settings = {"steps": InferenceSetting(STEPS, densities={"p": LogDensity("laplace")})}
    runs, *_ = run(monkeypatch, build_head(max_refined=1), settings)
    known = [int(s["pred_instances_3d"].p.isfinite().sum()) for s in runs["steps"].samples]
    assert known == [1, 0, 1]


def test_setting_of_no_attribute_is_named(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.inference_runs import InferenceSetting

    with pytest.raises(ValueError, match=r"setting refiner\.speed must be an attribute"):
        run(monkeypatch, build_head(), {"fast": InferenceSetting({"refiner.speed": 9})})


def test_detector_without_a_suppression_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine import inference_runs

    bare = model()
    del bare.bbox_head.dense_head.test_cfg["nms_thr"]
    with pytest.raises(ValueError, match="dense_head must be one whose test_cfg has"):
        inference_runs.run_settings(bare, [], build_head(), {}, WIDER)
