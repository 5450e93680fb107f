"""Fused scores, and refinement before NMS."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.boxes.iou import iou_bev
from ebm3d.densities.uncertainty import relative_uncertainty
from tests.adapters.refined import REFINEMENT_HEAD, build_frames
from tests.adapters.test_refined_dense_head import _build, _map, _samples

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
]

FUSION = {"features": ("f_refined",), "weights": (0.5, 0.8, -0.2), "alone": (1.0, -1.0)}
EVERYTHING = {"nms_thr": 1.0, "max_num": 1000}


def _predict(head: Any, bev: Tensor, frames: Any = None) -> list[Any]:
    torch.manual_seed(5)
    with torch.no_grad():
        return head.predict([bev], _samples(build_frames() if frames is None else frames))


def _still(head: Any) -> Any:
    head.refinement_head.refiner.num_steps = 0
    return head


def _instances(boxes: Tensor, scores: Tensor, labels: Tensor, **fields: Any) -> Any:
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    return InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes), scores_3d=scores, labels_3d=labels, **fields
    )


def _config(**changes: Any) -> Any:
    from mmengine.config import ConfigDict

    return ConfigDict({"nms_thr": 0.1, "max_num": 100, "use_rotate_nms": True, **changes})


def _crowd(number: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    low = torch.tensor([3.0, -4, -2, 3, 1.4, 1.2, -3])
    spread = torch.tensor([7.0, 8, 0.5, 1.5, 0.5, 0.5, 6])
    boxes = low + spread * torch.rand(number, 7, generator=generator)
    scores = torch.rand(number, generator=generator)
    return boxes, scores, torch.randint(0, 2, (number,), generator=generator)


def test_fusion_changes_the_scores_alone():
    bev = _map()
    plain, fused = _predict(_build().eval(), bev), _predict(_build(score_fusion=FUSION).eval(), bev)
    for one, other in zip(plain, fused, strict=True):
        assert set(other.keys()) == {*one.keys(), "initial_scores_3d"}
        assert torch.equal(other.bboxes_3d.tensor, one.bboxes_3d.tensor)
        assert torch.equal(other.labels_3d, one.labels_3d)
        assert torch.equal(other.initial_scores_3d, one.scores_3d)
        odds = 0.5 * torch.logit(one.scores_3d) + 0.8 * one.f_refined - 0.2
        torch.testing.assert_close(other.scores_3d, torch.sigmoid(odds))


def test_box_that_was_not_refined_gets_what_its_score_alone_says():
    head = _build(score_fusion=FUSION).eval()
    head.refinement_head.max_refined = 3
    for result in _predict(head, _map()):
        left = torch.isnan(result.f_refined)
        assert int(left.sum()) == len(left) - 3 > 0
        alone = torch.sigmoid(torch.logit(result.initial_scores_3d) - 1.0)
        torch.testing.assert_close(result.scores_3d[left], alone[left])


def test_without_refinement_nothing_is_fused_nor_looked_for():
    bev = _map()
    options = {"score_fusion": FUSION, "refine_before_nms": EVERYTHING}
    head = _build(refine=False, **options).eval()
    for one, other in zip(_predict(head, bev), _predict(_build().eval(), bev), strict=True):
        assert torch.equal(one.bboxes_3d.tensor, other.initial_bboxes_3d.tensor)
        assert torch.equal(one.scores_3d, other.scores_3d)


def test_weights_come_from_a_file_as_from_the_config(tmp_path: Path):
    file = tmp_path / "fusion.json"
    names = ("logit", *FUSION["features"], "bias")
    tree = {"weights": dict(zip(names, FUSION["weights"], strict=True))}
    tree["alone"] = {"logit": 1.0, "bias": -1.0}
    file.write_text(json.dumps(tree))
    assert _build(score_fusion=str(file)).score_fusion == _build(score_fusion=FUSION).score_fusion


def test_missing_file_of_weights_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        _build(score_fusion="nowhere.json")


def test_feature_that_the_head_does_not_give_is_named_with_those_it_gives():
    head = _build(score_fusion={**FUSION, "features": ("log_density",)}).eval()
    with pytest.raises(ValueError, match=r"'log_density'.*f_refined.*log_density=dict"):
        _predict(head, _map())


def test_boxes_that_do_not_move_are_suppressed_as_the_host_suppresses_them():
    bev = _map()
    before = _predict(_still(_build(refine_before_nms=EVERYTHING).eval()), bev)
    after = _predict(_still(_build().eval()), bev)
    for one, other in zip(before, after, strict=True):
        assert len(one.scores_3d) == 12
        order = one.scores_3d.argsort(descending=True)
        torch.testing.assert_close(one.scores_3d[order], other.scores_3d)
        torch.testing.assert_close(one.bboxes_3d.tensor[order], other.bboxes_3d.tensor)


def test_more_boxes_are_refined_before_nms_than_after(monkeypatch: pytest.MonkeyPatch):
    head, seen = _build(refine_before_nms=EVERYTHING).eval(), []
    refine = head.refinement_head.refine

    def watched(bev: Tensor, points: Any, boxes: Any, *rest: Any) -> Any:
        seen.extend(len(b) for b in boxes)
        return refine(bev, points, boxes, *rest)

    monkeypatch.setattr(head.refinement_head, "refine", watched)
    results = _predict(head, _map())
    assert seen == [40, 40]  # nms_pre
    assert all(len(r.scores_3d) <= 12 for r in results)


def test_every_field_follows_its_box():
    head, bev, frames = _build(refine_before_nms=EVERYTHING).eval(), _map(), build_frames()
    results = _predict(head, bev, frames)
    for index, result in enumerate(results):
        one = frames.one(index)
        # Bound to the detected boxes, as in the head.
        found = head.refinement_head.bind(
            bev[index : index + 1],
            one.points,
            [result.initial_bboxes_3d.tensor],
            [result.labels_3d],
        )
        with torch.no_grad():
            f = found(result.bboxes_3d.tensor)
            f_initial = found(result.initial_bboxes_3d.tensor)
        torch.testing.assert_close(result.f_refined, f, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(result.f_initial, f_initial, atol=1e-4, rtol=1e-4)


def test_modes_follow_their_box_through_nms():
    starts = {
        "type": "MultiStart",
        "base": REFINEMENT_HEAD["refiner"],
        "noise_std": REFINEMENT_HEAD["noise"]["stds"],
        "num_starts": 2,
    }
    head = {**REFINEMENT_HEAD, "refiner": starts}
    for result in _predict(
        _build(refinement_head=head, refine_before_nms=EVERYTHING).eval(), _map()
    ):
        assert 1 < len(result.modes) == len(result.bboxes_3d) < 40
        assert torch.equal(result.modes.boxes[:, 0], result.bboxes_3d.tensor)
        assert torch.equal(result.modes.f[:, 0], result.f_refined)


def test_the_hosts_settings_are_its_own_again_whatever_happens():
    head = _build(refine_before_nms=EVERYTHING).eval()
    own = head.dense_head.test_cfg
    _predict(head, _map())
    assert head.dense_head.test_cfg is own
    with pytest.raises(RuntimeError):  # a map of other channels
        head.predict([torch.randn(1, 3, 4, 4)], _samples(build_frames((1,))))
    assert head.dense_head.test_cfg is own


def test_frame_without_candidates_stays_empty():
    head = _build(refine_before_nms=EVERYTHING, score_fusion=FUSION).eval()
    head.dense_head.test_cfg.score_thr = 1.1
    for result in _predict(head, _map()):
        assert len(result.bboxes_3d) == len(result.f_refined) == len(result.scores_3d) == 0


@pytest.mark.parametrize("scores", [(0.9, 0.4), (0.4, 0.9)])
def test_fused_scores_decide_which_of_two_boxes_stays(
    scores: tuple[float, float], monkeypatch: pytest.MonkeyPatch
):
    fusion = {**FUSION, "weights": (0.0, 1.0, 0.0)}  # of f alone
    head = _still(_build(refine_before_nms=EVERYTHING, score_fusion=fusion).eval())
    boxes = torch.tensor([[6.0, 0, -1.5, 4, 1.6, 1.5, 0], [6.3, 0, -1.5, 4, 1.6, 1.5, 0]])
    labels, bev, frames = torch.zeros(2, dtype=torch.int64), _map()[:1], build_frames((1,))
    found = _instances(boxes, torch.tensor(scores), labels)
    monkeypatch.setattr(head.dense_head, "predict", lambda *_, **__: [found])
    f = head.refinement_head.bind(bev, frames.points, [boxes], [labels])(boxes)
    (result,) = _predict(head, bev, frames)
    torch.testing.assert_close(result.bboxes_3d.tensor, boxes[f.argmax()][None])


def test_suppression_is_greedy_within_each_class():
    from ebm3d.adapters.dense_heads.after_refinement import suppress

    boxes, scores, labels = _crowd()
    overlap = iou_bev(boxes.double().numpy(), boxes.double().numpy())
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        alike = [other for other in kept if labels[other] == labels[row]]
        if all(overlap[row, other] <= 0.1 for other in alike):
            kept.append(row)
    rows = torch.arange(len(boxes))
    found = suppress(_instances(boxes, scores, labels, rows=rows), _config())
    assert 3 < len(kept) < len(boxes)
    assert sorted(found.rows.tolist()) == sorted(kept)
    assert torch.equal(found.bboxes_3d.tensor, boxes[found.rows])
    assert torch.equal(found.labels_3d, labels[found.rows])


def test_no_more_boxes_stay_than_the_best_of_all_classes():
    from ebm3d.adapters.dense_heads.after_refinement import suppress

    boxes, scores, labels = _crowd()
    many = suppress(_instances(boxes, scores, labels), _config())
    few = suppress(_instances(boxes, scores, labels), _config(max_num=3))
    assert few.scores_3d.tolist() == many.scores_3d.sort(descending=True)[0][:3].tolist()


def test_scores_below_the_detectors_threshold_are_not_dropped_again():
    from ebm3d.adapters.dense_heads.after_refinement import suppress

    boxes, scores, labels = _crowd(1)
    assert len(suppress(_instances(boxes, scores * 0, labels), _config(score_thr=0.5))) == 1


@pytest.mark.parametrize(
    "wider",
    [{"nms_thr": 0.5}, {"nms_thr": 0.0, "max_num": 5}, {"nms_thr": 0.5, "max_num": 0}],
    ids=str,
)
def test_settings_of_refinement_before_nms_are_checked(wider: dict[str, Any]):
    with pytest.raises(ValueError, match="refine_before_nms"):
        _build(refine_before_nms=wider)


def test_dense_head_without_such_a_suppression_is_refused_by_name():
    from ebm3d.adapters.dense_heads.after_refinement import check_wider

    class OtherHead:
        test_cfg = {"nms_type": "circle", "max_num": 5}  # noqa: RUF012

    with pytest.raises(ValueError, match=r"OtherHead without nms_thr, use_rotate_nms"):
        check_wider(OtherHead(), EVERYTHING)


def test_features_of_densities_are_the_log_density_of_the_box_and_its_uncertainty():
    from ebm3d.adapters.score_features import score_features
    from ebm3d.boxes.codings import LocalCoding
    from ebm3d.densities import BoxDistribution, GaussianDensity

    boxes, scores, labels = _crowd(5)
    log_variance = torch.randn(5, 7)
    location = torch.zeros(5, 7)
    location[4] = math.nan
    distribution = BoxDistribution(
        GaussianDensity(location, log_variance + 0 * location),
        LocalCoding(boxes, torch.ones_like(boxes)),
    )
    found = score_features(
        _instances(
            boxes,
            scores,
            labels,
            box_distribution=distribution,
            box_std=distribution.std,
            f_refined=scores,
        ),
        ("uncertainty", "log_density", "f_refined"),
    ).numpy()
    peak = -0.5 * (math.log(2 * math.pi) * 7 + log_variance.sum(1))
    peak = peak - boxes[:, 3:6].log().sum(1)  # of the log sizes' units
    np.testing.assert_allclose(found[:4, 1], peak[:4], rtol=1e-4)
    expected = relative_uncertainty(distribution.std, boxes).log()
    np.testing.assert_allclose(found[:4, 0], expected[:4], rtol=1e-6)
    np.testing.assert_array_equal(found[:, 2], scores.numpy())
    assert np.isnan(found[4, :2]).all()


@pytest.mark.parametrize(
    "config",
    [5, {}, {"features": ["f"]}, {"features": ["f"], "weights": [1, 1, 0], "bias": 0}],
)
def test_fusion_of_other_arguments_is_refused(config: Any):
    from ebm3d.adapters.dense_heads.after_refinement import build_fusion

    with pytest.raises(ValueError, match="score_fusion must be a file, or a dict of alone, feat"):
        build_fusion(config)


@pytest.mark.parametrize(
    "wider",
    [True, {"nms_thr": "0.5", "max_num": 9}, {"nms_thr": 0.5, "max_num": 2.5}],
)
def test_suppression_of_another_kind_is_refused(wider: Any):
    from ebm3d.adapters.dense_heads.after_refinement import check_wider

    with pytest.raises(ValueError, match="refine_before_nms"):
        check_wider(None, wider)
