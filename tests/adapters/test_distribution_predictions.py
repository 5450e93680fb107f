from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("mmdet3d")

from ebm3d.adapters.detectors import MapsAndPoints
from tests.adapters.distribution import (
    CHANNELS,
    REGRESSIONS,
    SETTINGS,
    VOTING,
    build_equal,
    build_head,
    build_samples,
    build_stock,
    head_config,
    random_maps,
    with_voting,
)
from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_stock_regression_has_the_predictions_of_the_stock_head(setting: dict[str, Any]):
    stock = build_stock(**setting).eval()
    head = build_equal(stock, **setting).eval()
    maps = random_maps(setting.get("levels", 1))
    with torch.no_grad():
        expected = stock.predict(maps, build_samples())
        found = head.predict(maps, build_samples())
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs) > 3
        torch.testing.assert_close(
            ours.bboxes_3d.tensor, theirs.bboxes_3d.tensor, rtol=1e-5, atol=1e-5
        )
        assert torch.equal(ours.scores_3d, theirs.scores_3d)
        assert torch.equal(ours.labels_3d, theirs.labels_3d)


def test_without_a_direction_classifier_the_yaw_is_learned_over_the_full_circle():
    options = {"use_direction_classifier": False, "diff_rad_by_sin": False}
    head, maps = build_head({"type": "GaussianBoxRegression"}, **options), random_maps()
    nn.init.normal_(head.conv_reg.weight)
    straight = head.loss(maps, build_samples())
    turned = head.loss(maps, build_samples(turn=math.pi))
    full = head.loss(maps, build_samples(turn=2 * math.pi))
    assert set(straight) == {"loss_cls", "loss_bbox"}
    assert bool((turned["loss_bbox"] / straight["loss_bbox"] - 1).abs() > 1e-3)
    torch.testing.assert_close(full["loss_bbox"], straight["loss_bbox"], rtol=1e-4, atol=0)
    with torch.no_grad():
        found = head.eval().predict(maps, build_samples())[0]
    assert found.box_distribution.yaw_period == 2 * math.pi
    assert float(found.bboxes_3d.tensor[:, 6].abs().max()) <= math.pi + 1e-6


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_spread_and_distribution_belong_to_the_boxes_they_come_with(kind: str):
    from ebm3d.boxes import wrap_to_pi

    head, maps = build_head({"type": kind}, weighted=False), random_maps()
    for parameter in (head.conv_cls.weight, head.conv_reg.weight, head.conv_dir_cls.weight):
        nn.init.normal_(parameter, std=0.2)
    head.loss(maps, build_samples())  # the direct regression learns its spread
    with torch.no_grad():
        results = head.eval().predict(maps, build_samples())
    for result in results:
        number = len(result.bboxes_3d)
        assert number > 3
        distribution = result.box_distribution
        difference = distribution.boxes - result.bboxes_3d.tensor
        difference[:, 6] = wrap_to_pi(difference[:, 6])
        assert float(difference.abs().max()) < 1e-5
        assert torch.equal(result.box_std, distribution.std)
        assert torch.equal(result.box_covariance, distribution.covariance)
        assert bool((result.box_std > 0).all())
        assert bool(torch.isfinite(distribution.log_prob(result.bboxes_3d.tensor)).all())
        chosen = result[result.scores_3d > result.scores_3d.median()]
        assert len(chosen.box_distribution) == len(chosen) == len(chosen.box_std) < number


def test_batch_predicts_as_frame_by_frame():
    head, (bev,) = build_head({"type": "GaussianBoxRegression"}).eval(), random_maps()
    nn.init.normal_(head.conv_cls.weight, std=0.2)
    samples = build_samples()
    with torch.no_grad():
        together = head.predict([bev], samples)
        for index, expected in enumerate(together):
            (alone,) = head.predict([bev[index : index + 1]], samples[index : index + 1])
            torch.testing.assert_close(alone.bboxes_3d.tensor, expected.bboxes_3d.tensor)
            torch.testing.assert_close(alone.box_std, expected.box_std)


def test_nothing_above_the_threshold_is_no_box():
    head = build_head({"type": "GaussianBoxRegression"}, voting=VOTING, score_decay=1.0).eval()
    head.test_cfg.score_thr = 1.1
    with torch.no_grad():
        (found, _) = head.predict(random_maps(), build_samples())
    assert len(found.bboxes_3d) == len(found.box_distribution) == 0
    assert found.box_std.shape == (0, 7)
    assert found.box_covariance.shape == (0, 7, 7)


def test_losses_and_predictions_in_one_pass_are_those_of_two():
    head, maps = build_head({"type": "GaussianBoxRegression"}), random_maps()
    with torch.no_grad():
        losses, found = head.loss_and_predict(maps, build_samples())
        expected = head.predict(maps, build_samples())
        assert torch.equal(losses["loss_bbox"], head.loss(maps, build_samples())["loss_bbox"])
    assert torch.equal(found[1].bboxes_3d.tensor, expected[1].bboxes_3d.tensor)


def test_scores_fall_with_the_uncertainty_before_nms():
    from ebm3d.densities.uncertainty import relative_uncertainty

    head, maps = build_head({"type": "GaussianBoxRegression"}).eval(), random_maps()
    nn.init.normal_(head.conv_cls.weight, std=0.2)
    nn.init.normal_(head.conv_reg.weight, std=0.1)
    head.test_cfg.update(nms_thr=0.999, score_thr=0.0, max_num=120)  # everything is kept
    with torch.no_grad():
        plain = head.predict(maps, build_samples())[0]
        head.score_decay = 2.0
        found = head.predict(maps, build_samples())[0]
    decay = torch.exp(-2 * relative_uncertainty(plain.box_std, plain.bboxes_3d.tensor))
    assert float(decay.min()) < 0.5 * float(decay.max())
    torch.testing.assert_close(
        found.scores_3d.sort()[0], (plain.scores_3d * decay).sort()[0], rtol=1e-5, atol=1e-7
    )


def test_voting_moves_boxes_and_their_densities_and_nothing_else():
    from ebm3d.boxes import wrap_to_pi

    head, maps = build_head({"type": "GaussianBoxRegression"}).eval(), random_maps()
    nn.init.normal_(head.conv_cls.weight, std=0.2)
    nn.init.normal_(head.conv_reg.weight, std=0.05)
    with torch.no_grad():
        plain = head.predict(maps, build_samples())[0]
        (voted, _) = with_voting(head).predict(maps, build_samples())
    assert torch.equal(voted.scores_3d, plain.scores_3d)
    assert torch.equal(voted.labels_3d, plain.labels_3d)
    moved = voted.bboxes_3d.tensor - plain.bboxes_3d.tensor
    assert float(moved[:, :6].abs().max()) > 1e-2
    assert float(moved[:, 6].abs().max()) < math.pi / 2  # the front stays the front
    difference = voted.box_distribution.boxes - voted.bboxes_3d.tensor
    difference[:, 6] = wrap_to_pi(difference[:, 6])
    assert float(difference.abs().max()) < 1e-5
    assert torch.equal(voted.box_std, voted.box_distribution.std)


@pytest.mark.parametrize("options", [{"score_decay": 1.0}, {"voting": {}}], ids=str)
def test_spread_of_a_stock_checkpoint_is_refused_with_the_remedy(options: dict[str, Any]):
    stock = build_stock().eval()
    options = {name: value or VOTING for name, value in options.items()}
    head = build_equal(stock, **options).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="before it was trained"):
        head.predict(random_maps(), build_samples())


def test_refined_head_takes_it_for_its_dense_head():
    from mmdet3d.registry import MODELS

    from tests.adapters.refined import REFINEMENT_HEAD

    cells = 64  # of 0.4 m
    dense = {
        **head_config(num_classes=1),
        "type": "DistributionAnchor3DHead",
        "regression": {"type": "GaussianBoxRegression"},
    }
    ours = {
        **REFINEMENT_HEAD,
        "in_channels": CHANNELS,
        "point_cloud_range": [0, -12.8, -3, 25.6, 12.8, 1],
    }
    wrapper = {"type": "RefinedDenseHead", "detector": "joint"}
    head = MODELS.build({**wrapper, "dense_head": dense, "refinement_head": ours})
    bev, samples = torch.randn(2, CHANNELS, cells, cells), build_samples(num_classes=1)
    features = MapsAndPoints([bev], [torch.rand(50, 4) * 10 for _ in samples])
    losses = head.loss(features, samples)
    assert {"loss_cls", "loss_bbox", "loss_dir", "loss_ebm"} <= set(losses)
    with torch.no_grad():
        found = head.eval().predict(features, build_samples(num_classes=1))
    assert all(len(r.initial_bboxes_3d) == len(r.initial_box_distribution) for r in found)


@pytest.mark.parametrize("same_class", [True, False])
def test_only_candidates_of_the_box_s_class_vote(same_class: bool):
    from mmdet3d.structures import LiDARInstance3DBoxes

    from ebm3d.adapters.dense_heads.box_selection import select_boxes
    from ebm3d.boxes.codings import AnchorCoding
    from ebm3d.densities import BoxDistribution, GaussianDensity
    from ebm3d.densities.voting import VarianceVoting

    anchors = torch.tensor([[10.0, 0, -1.7, 4, 1.6, 1.5, 0]]).repeat(2, 1)
    residuals = torch.zeros(2, 7)
    residuals[1, 0] = 0.1
    candidates = BoxDistribution(
        GaussianDensity(residuals, torch.full((2, 7), -4.0)), AnchorCoding(anchors)
    )
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.0] if same_class else [0.0, 0.8]])
    cfg = head_config()["test_cfg"]
    voting = VarianceVoting(0.1, 0.5)
    found = select_boxes(
        candidates, scores, None, (0.0, 0.0), LiDARInstance3DBoxes, cfg, voting=voting
    )
    moved = found.bboxes_3d.tensor[0, 0] - 10
    assert len(found) == (1 if same_class else 2)
    assert bool(moved > 0.1) == same_class
