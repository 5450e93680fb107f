"""Two result sets on the same frames: bootstrap, pairs, changed boxes."""

from __future__ import annotations

import numpy as np
import pytest

from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.evaluation import MatchingProblem, compare_kitti, evaluate_kitti
from ebm3d.evaluation.bootstrap import draw_weights, resampled_ap_r40
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES
from tests.evaluation.scenes import make_frames, many_cars, random_scene

_THRESHOLDS = {"Car": (0.5, 0.7)}


def _repeated(frames: KittiFrames, weights: np.ndarray, scores: bool) -> KittiFrames:
    """Every frame as often as its weight says, under new names."""
    times = [(index, k) for index, num in enumerate(weights) for k in range(num)]
    return stack_frames({f"{i}_{k}": frames.frame(i) for i, k in times}, scores=scores)


@pytest.mark.parametrize("metric", ["bbox", "3d"])
def test_a_replicate_scores_as_its_frames_written_out(
    rng: np.random.Generator, metric: str
) -> None:
    labels, detections = random_scene(rng, 80)
    problem = MatchingProblem(labels, detections)
    label_status, detection_status = problem.status("Car", DIFFICULTIES[2])
    changes = problem.match(metric, (0.5,), label_status, detection_status)
    weights = draw_weights(80, 6, seed=3)
    (counts,), (recall_scores,) = changes.counts, changes.recall_scores
    found = resampled_ap_r40(problem, counts, recall_scores, label_status, weights)
    for row, value in zip(weights, found, strict=True):
        again = evaluate_kitti(
            _repeated(labels, row, False),
            _repeated(detections, row, True),
            classes=["Car"],
            iou_thresholds=[0.5],
        )
        assert value == pytest.approx(again.average_precision("Car", metric, 0.5, "hard"), abs=1e-9)
    assert len(set(found)) > 3


def _moved(num: int, shift: float, seed: int) -> list:
    rng = np.random.default_rng(seed)
    return [[{"x": shift * rng.normal(), "score": rng.random()}] for _ in range(num)]


def _compare(first: list, second: list, **options):
    labels = make_frames(many_cars(len(first)), scores=False)
    problems = [MatchingProblem(labels, make_frames(d, scores=True)) for d in (first, second)]
    return compare_kitti(*problems, _THRESHOLDS, num_replicates=200, **options)


def test_a_set_does_not_differ_from_itself() -> None:
    result = _compare(_moved(60, 0.3, 0), _moved(60, 0.3, 0))
    part = result.average_precision["Car"]["3d"]["0.70"]["moderate"]
    assert (part["difference"], part["low"], part["high"]) == (0.0, 0.0, 0.0)
    assert result.same_pairs["Car"]["moderate"]["mean_iou_3d_difference"] == 0.0
    nothing = _compare([[], []], [[], []]).same_pairs["Car"]["easy"]
    assert nothing["mean_iou_3d_difference"] is None


def test_a_better_set_differs_by_more_than_zero() -> None:
    result = _compare(_moved(80, 0.6, 0), _moved(80, 0.1, 1))
    part = result.average_precision["Car"]["3d"]["0.70"]["easy"]
    assert part["difference"] == pytest.approx(part["second"] - part["first"])
    same = result.same_pairs["Car"]["easy"]
    assert min(part["low"], same["low"]) > 0
    assert same["first"]["num_matched"] == same["second"]["num_matched"] > 50


def test_the_boxes_that_changed_most_are_listed() -> None:
    first = [[{"score": 0.9}] for _ in range(4)]
    second = [[{"x": x, "score": 0.9}] for x in (0.1, 0.8, 0.0, 0.4)]
    found = _compare(first, second, num_changed=2)
    assert [box.frame_id for box in found.worsened["Car"]] == ["000001", "000003"]
    assert found.worsened["Car"][0].change == pytest.approx(3.2 / 4.8 - 1.0)
    assert found.improved["Car"] == []
    assert found.as_dict()["Car"]["worsened"][0]["label"] == 0


def test_partners_follow_a_box_wherever_it_goes() -> None:
    # The second box leaves its label for good; matched by itself it would not be a pair.
    first = [[{"score": 0.9}], [{"score": 0.8}]]
    second = [[{"x": 9.0, "score": 0.9}], [{"score": 0.8}]]
    for partners, num in ((None, 1), (np.array([0, 1]), 2), (np.array([-1, 1]), 1)):
        result = _compare(first, second, partners=partners).same_pairs["Car"]["easy"]["second"]
        assert result["num_matched"] == num
        assert result["mean_iou_3d"] == pytest.approx(1 / num)
    with pytest.raises(ValueError, match="partners"):
        _compare(first, second, partners=np.array([0]))


def test_sets_of_other_frames_are_refused() -> None:
    problems = [
        MatchingProblem(*(make_frames(many_cars(num), scores=scores) for scores in (False, True)))
        for num in (2, 3)
    ]
    with pytest.raises(ValueError, match="on the same frames and labels"):
        compare_kitti(*problems, _THRESHOLDS)
