"""Scores fused with what the refinement head predicts, and the fit of that fusion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from ebm3d.densities.uncertainty import relative_uncertainty
from tests.adapters.refined import build_frames
from tests.adapters.test_refined_dense_head import _build, _Detector, _features, _map, _samples

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
]


def _predict(head: Any, bev: Tensor) -> list[Any]:
    torch.manual_seed(5)
    frames = build_frames()
    with torch.no_grad():
        return head.eval().predict(_features(bev, frames), _samples(frames))


def _fused(**options: Any) -> Any:
    head = _build(**options)
    head.score_fusion.set_weights(["f_refined"], [0.5, 0.8, -0.2], [1.0, -1.0])
    return head


def test_fusion_changes_the_scores_alone():
    bev = _map()
    for one, other in zip(_predict(_build(), bev), _predict(_fused(), bev), strict=True):
        assert set(other.keys()) == {*one.keys(), "initial_scores_3d"}
        assert torch.equal(other.bboxes_3d.tensor, one.bboxes_3d.tensor)
        assert torch.equal(other.initial_scores_3d, one.scores_3d)
        odds = 0.5 * torch.logit(one.scores_3d) + 0.8 * one.f_refined - 0.2
        torch.testing.assert_close(other.scores_3d, torch.sigmoid(odds))


def test_box_that_was_not_refined_is_fused_by_its_score_alone():
    head = _fused()
    head.refinement_head.max_refined = 3
    for result in _predict(head, _map()):
        rest = torch.isnan(result.f_refined)
        assert int(rest.sum()) == len(rest) - 3 > 0
        alone = torch.sigmoid(torch.logit(result.initial_scores_3d) - 1.0)
        torch.testing.assert_close(result.scores_3d[rest], alone[rest])


def test_frames_without_boxes_are_fused():
    head = _fused()
    head.dense_head.test_cfg.score_thr = 1.1
    assert [len(result.scores_3d) for result in _predict(head, _map())] == [0, 0]


@pytest.mark.parametrize("library", ["torch", "mmengine"])
def test_weights_travel_in_the_checkpoint_and_older_checkpoints_have_none(library: str):
    from mmengine.runner.checkpoint import load_state_dict

    load = torch.nn.Module.load_state_dict if library == "torch" else load_state_dict
    fitted, other = _Detector(_fused()), _Detector(_build())
    state = fitted.state_dict()
    load(other, state, strict=True)
    assert other.bbox_head.score_fusion.features == ("f_refined",)
    assert torch.equal(
        other.bbox_head.score_fusion.weights, state["bbox_head.score_fusion.weights"]
    )
    older = _Detector(_build())
    load(older, {k: v for k, v in state.items() if "score_fusion" not in k}, strict=True)
    assert older.bbox_head.score_fusion.features == ()
    load(other, older.state_dict(), strict=True)
    assert other.bbox_head.score_fusion.features == ()


def test_feature_that_is_not_predicted_is_named_with_the_remedy():
    head = _build()
    head.score_fusion.set_weights(["log_density"], [0.5, 0.8, -0.2], [1.0, -1.0])
    with pytest.raises(ValueError, match=r"'log_density'.*f_refined.*log_density=dict"):
        _predict(head, _map())


def test_scores_that_were_decayed_are_not_fused():
    from tests.adapters.refined import REFINEMENT_HEAD

    decaying = {**REFINEMENT_HEAD, "uncertainty": "laplace", "score_decay": 1.0}
    with pytest.raises(ValueError, match="score_decay=0"):
        _predict(_fused(refinement_head=decaying), _map())


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
