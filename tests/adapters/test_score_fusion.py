"""Scores fused with what the refinement head predicts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet3d")

from ebm3d.densities.uncertainty import relative_uncertainty
from tests.adapters.refined import REFINEMENT_HEAD, Detector, build_frames, build_refined, predict
from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]


def _fused(feature: str = "f_refined", **options: Any) -> Any:
    head = build_refined(**options)
    head.score_fusion.set_weights([feature], [0.5, 0.8, -0.2], [1.0, -1.0])
    return head


def test_fusion_changes_the_scores_alone_and_without_features_by_the_score_alone():
    frames, head = build_frames(), _fused()
    plain = predict(build_refined(), frames)
    for one, other in zip(plain, predict(head, frames), strict=True):
        assert set(other.keys()) == {*one.keys(), "initial_scores_3d"}
        assert torch.equal(other.bboxes_3d.tensor, one.bboxes_3d.tensor)
        assert torch.equal(other.initial_scores_3d, one.scores_3d)
        odds = 0.5 * torch.logit(one.scores_3d) + 0.8 * one.f_refined - 0.2
        torch.testing.assert_close(other.scores_3d, torch.sigmoid(odds))
    head.refinement_head.max_refined = 3
    for result in predict(head, frames):
        rest = torch.isnan(result.f_refined)
        assert int(rest.sum()) == len(rest) - 3 > 0
        alone = torch.sigmoid(torch.logit(result.initial_scores_3d) - 1.0)
        torch.testing.assert_close(result.scores_3d[rest], alone[rest])
    head.dense_head.test_cfg.score_thr = 1.1
    assert [len(result.scores_3d) for result in predict(head, frames)] == [0, 0]


@pytest.mark.parametrize("library", ["torch", "mmengine"])
def test_weights_travel_in_the_checkpoint_and_older_checkpoints_have_none(library: str):
    from mmengine.runner.checkpoint import load_state_dict

    load = torch.nn.Module.load_state_dict if library == "torch" else load_state_dict
    fitted, other, older = (Detector(h) for h in (_fused(), build_refined(), build_refined()))
    state = fitted.state_dict()
    load(other, state, strict=True)
    fusion = other.bbox_head.score_fusion
    assert fusion.features == ("f_refined",)
    assert torch.equal(fusion.weights, state["bbox_head.score_fusion.weights"])
    load(older, {k: v for k, v in state.items() if "score_fusion" not in k}, strict=True)
    assert older.bbox_head.score_fusion.features == ()


_DECAYING = {**REFINEMENT_HEAD, "uncertainty": "laplace", "score_decay": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": "log_density"}, r"'log_density'.*log_density=dict"),
        ({"refinement_head": _DECAYING}, "score_decay=0"),
    ],
)
def test_features_and_scores_that_cannot_be_fused_are_refused(
    options: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        predict(_fused(**options), build_frames())


def test_features_of_densities_are_the_log_density_of_the_box_and_its_uncertainty():
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    from ebm3d.adapters.dense_heads.score_fusion import score_features
    from ebm3d.boxes.codings import LocalCoding
    from ebm3d.densities import BoxDistribution, GaussianDensity

    boxes = build_frames((5,)).boxes[0]
    log_variance, location = torch.randn(5, 7), torch.zeros(5, 7)
    location[4] = math.nan
    distribution = BoxDistribution(
        GaussianDensity(location, log_variance + 0 * location),
        LocalCoding(boxes, torch.ones_like(boxes)),
    )
    instances = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes),
        box_distribution=distribution,
        box_std=distribution.std,
        f_refined=torch.arange(5.0),
    )
    values = score_features(instances, ("uncertainty", "log_density", "f_refined")).numpy()
    peak = -0.5 * (math.log(2 * math.pi) * 7 + log_variance.sum(1))
    peak = peak - boxes[:, 3:6].log().sum(1)  # of the log sizes' units
    np.testing.assert_allclose(values[:4, 1], peak[:4], rtol=1e-4)
    expected = relative_uncertainty(distribution.std, boxes).log()
    np.testing.assert_allclose(values[:4, 0], expected[:4], rtol=1e-6)
    np.testing.assert_array_equal(values[:, 2], np.arange(5.0))
    assert np.isnan(values[4, :2]).all()
