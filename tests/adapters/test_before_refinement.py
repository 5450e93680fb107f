"""Boxes before refinement are those of the detector alone, with its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet3d")

from tests.adapters.infos import write_infos
from tests.adapters.refined import REFINEMENT_HEAD, build_frames
from tests.adapters.test_kitti_metric import _metric, _predictions, _run
from tests.adapters.test_refined_dense_head import _build, _map, _samples
from tests.evaluation.scenes import random_scene

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
]

FUSION = {"features": ("f_refined",), "weights": (0.5, 0.8, -0.2), "alone": (1.0, -1.0)}
BEFORE_NMS = {"refine_before_nms": {"nms_thr": 0.9, "max_num": 30}, "score_fusion": FUSION}
DECAYING = {**REFINEMENT_HEAD, "uncertainty": "laplace", "score_decay": 2.0}


def _predicted(head: Any, bev: torch.Tensor) -> list[Any]:
    """What the metric receives, with the predictions as its detector adds them."""
    torch.manual_seed(5)
    samples = _samples(build_frames())
    with torch.no_grad():
        results = head.eval().predict([bev], samples)
    for sample, result in zip(samples, results, strict=True):
        sample.pred_instances_3d = result
    return [sample.to_dict() for sample in samples]


@pytest.mark.parametrize(
    "options", [{}, BEFORE_NMS, {"refinement_head": DECAYING}], ids=["plain", "NMS", "decay"]
)
def test_before_is_what_is_predicted_without_refinement(options: dict[str, Any]):
    from ebm3d.adapters.metrics.stages import stages_of

    bev = _map()
    refined = _predicted(_build(**options), bev)
    plain = _predicted(_build(**options, refine=False), bev)
    changed = False
    for one, other in zip(refined, plain, strict=True):
        stages, expected = stages_of(one), stages_of(other)
        assert set(expected) == {"after"}
        for name in ("boxes", "scores", "labels"):
            found, wanted = getattr(stages["before"], name), getattr(expected["after"], name)
            if name == "boxes":
                found, wanted = found.tensor, wanted.tensor
            assert torch.equal(found, wanted)
        changed |= not torch.equal(stages["before"].scores, stages["after"].scores)
    assert changed == bool(options)


def test_boxes_refined_before_nms_are_others_than_the_detector_alone_keeps():
    # Else the law above would say nothing.
    for sample in _predicted(_build(**BEFORE_NMS), _map()):
        alone = sample["initial_instances_3d"]["bboxes_3d"].tensor
        candidates = sample["pred_instances_3d"]["initial_bboxes_3d"].tensor
        common = (candidates[:, None] == alone).all(dim=2).any(dim=1)
        assert 0 < int(common.sum()) < len(candidates)


def test_metric_before_is_that_of_the_detector_alone_and_pairs_are_common_ones(tmp_path: Path):
    labels, _ = random_scene(np.random.default_rng(5), 30)
    path = tmp_path / "infos.pkl"
    write_infos(path, labels)
    alone = _predictions(labels, refined=False)
    samples = _predictions(labels, refined=True)
    for sample, other in zip(samples, alone, strict=True):
        kept = torch.arange(len(other["pred_instances_3d"]["scores_3d"]))[1:]
        fields = {name: v[kept] for name, v in other["pred_instances_3d"].items()}
        other["pred_instances_3d"] = sample["initial_instances_3d"] = fields
    figures, expected = _run(_metric(path), samples), _run(_metric(path), alone)
    same = {f"before/{key}": value for key, value in expected.items()}
    assert {key: figures[key] for key in same} == pytest.approx(same, nan_ok=True)
    pairs = [
        figures[f"{s}/Car/localization_same_pairs/hard/num_matched"] for s in ("before", "after")
    ]
    assert pairs[0] == pairs[1] > 5


def test_decayed_scores_are_not_fused():
    head = _build(refinement_head=DECAYING, score_fusion=FUSION)
    with pytest.raises(ValueError, match=r"the detector's.*score_decay.*'uncertainty'"):
        _predicted(head, _map())


def test_no_fusion_is_fitted_to_decayed_scores():
    from ebm3d.adapters.metrics.score_fusion import FusionSettings

    (sample, _) = _predicted(_build(refinement_head=DECAYING), _map())
    with pytest.raises(ValueError, match="score_decay=0"):
        FusionSettings(fit="f.json").features_of(sample["pred_instances_3d"])
