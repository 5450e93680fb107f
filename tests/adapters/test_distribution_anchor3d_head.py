from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.codings import AnchorCoding
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.densities.uncertainty import relative_uncertainty
from ebm3d.densities.voting import VarianceVoting
from tests.adapters.distribution import (
    CHANNELS,
    REGRESSIONS,
    SETTINGS,
    SMOOTH_L1,
    VOTING,
    build_equal,
    build_head,
    build_samples,
    build_stock,
    head_config,
    random_maps,
)
from tests.adapters.refined import REFINEMENT_HEAD, Frames, predict
from tests.adapters.tiny import HOST_WARNINGS, sum_losses

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

_GAUSSIAN = {"type": "GaussianBoxRegression"}
every_regression = pytest.mark.parametrize("kind", REGRESSIONS)
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def _predict(head: Any, maps: list[Tensor], samples: list[Any] | None = None) -> list[Any]:
    with torch.no_grad():
        return head.eval().predict(maps, samples or build_samples())


def _gaussian_head(std: float = 0.0, **options: Any) -> Any:
    """A head with some confident predictions, its outputs spread by so much."""
    head = build_head(_GAUSSIAN, **options)
    nn.init.normal_(head.conv_cls.weight, std=0.2)
    if std:
        nn.init.normal_(head.conv_reg.weight, std=std)
    return head


def _assert_centered(result: Any) -> None:
    """The boxes are the point estimates of their densities, up to a heading flipped by pi."""
    distribution = result.box_distribution
    difference = distribution.boxes - result.bboxes_3d.tensor
    difference[:, 6] = wrap_to_pi(difference[:, 6])
    assert float(difference.abs().max()) < 5e-5  # some roundings of 12.8 m in float32
    assert torch.equal(result.box_std, distribution.std)
    assert torch.equal(result.box_covariance, distribution.covariance)


@pytest.mark.parametrize("counts", [(4, 3), (0, 0)], ids=str)
@every_setting
def test_stock_regression_has_the_losses_and_gradients_of_the_stock_head(
    setting: dict[str, Any], counts: tuple[int, int]
):
    stock = build_stock(**setting)
    head = build_equal(stock, **setting)
    maps = random_maps(setting.get("levels", 1))
    values, gradients = [], []
    for each in (stock, head):
        losses = each.loss(maps, build_samples(counts, setting["num_classes"]))
        values.append({n: float(sum_losses({n: v}).detach()) for n, v in losses.items()})
        gradients.append(torch.autograd.grad(sum_losses(losses), [*each.parameters(), *maps]))
    assert (values[0]["loss_bbox"] > 0) == (sum(counts) > 0)
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@every_setting
def test_stock_regression_has_the_predictions_of_the_stock_head(setting: dict[str, Any]):
    stock = build_stock(**setting)
    head, maps = build_equal(stock, **setting), random_maps(setting.get("levels", 1))
    for ours, theirs in zip(_predict(head, maps), _predict(stock, maps), strict=True):
        assert len(theirs) > 3
        torch.testing.assert_close(
            ours.bboxes_3d.tensor, theirs.bboxes_3d.tensor, rtol=1e-5, atol=5e-5
        )
        assert torch.equal(ours.scores_3d, theirs.scores_3d)
        assert torch.equal(ours.labels_3d, theirs.labels_3d)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_at_anchors_are_those_of_the_convolved_map(layout: torch.memory_format):
    from ebm3d.adapters.dense_heads.anchor_cells import anchor_outputs

    num_base_priors, num_outputs = 3, 5
    bev = torch.randn(2, 4, 6, 7).contiguous(memory_format=layout).requires_grad_()
    conv = nn.Conv2d(4, num_base_priors * num_outputs, 1)
    dense = conv(bev).permute(0, 2, 3, 1).reshape(-1, num_outputs)
    anchors = torch.randperm(len(dense))[:40].repeat(2)
    outputs, expected = anchor_outputs(bev, conv, anchors, num_base_priors), dense[anchors]
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)  # sums in float32
    weights, inputs = torch.randn_like(outputs), [bev, *conv.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((weights * outputs).sum(), inputs),
        torch.autograd.grad((weights * expected).sum(), inputs),
        rtol=1e-4,
        atol=1e-4,
    )


@every_regression
@pytest.mark.parametrize(
    ("counts", "std"), [((4, 3), 0.0), ((1, 0), 0.0), ((0, 0), 0.0), ((4, 3), 30.0)], ids=str
)
def test_losses_are_finite_and_reach_every_parameter(
    kind: str, counts: tuple[int, int], std: float
):
    head, maps = build_head({"type": kind}, weighted=False), random_maps()
    head.init_weights()
    if std:
        nn.init.normal_(head.conv_reg.weight, std=std)
    losses = head.loss(maps, build_samples(counts))
    assert (float(losses["loss_bbox"].detach()) == 0) == (sum(counts) == 0)
    assert bool(torch.isfinite(sum_losses(losses)))
    sum_losses(losses).backward()
    assert all(bool(torch.isfinite(each.grad).all()) for each in (*head.parameters(), *maps))


def _spy(head: Any, record: Any) -> None:
    """Hand outputs and targets of the regression to a function at every call of its loss."""
    loss = head.regression.loss

    def spy(outputs: Tensor, targets: Tensor) -> Tensor:
        record(outputs.detach(), targets)
        return loss(outputs, targets)

    head.regression.loss = spy


@every_regression
def test_training_lowers_the_error_of_the_boxes(kind: str):
    regression = {"type": kind}
    if kind == "PROPELBoxRegression":
        # Its loss is near zero once one component sits on the target: the others wander off, and
        # the mean of the mixture with them.
        regression["point_estimate"] = "mode"
    head, maps = build_head(regression, weighted=False), random_maps()
    head.init_weights()
    errors: list[Tensor] = []
    density = head.regression.density
    _spy(head, lambda out, targets: errors.append((density(out).point - targets).abs().mean()))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        sum_losses(head.loss(maps, build_samples())).backward()
        optimizer.step()
    assert bool(torch.isfinite(torch.stack(errors)).all())
    assert bool(errors[-1] < 0.5 * errors[0])


def test_regularizers_are_added_to_the_loss_the_host_sums():
    regression = {"type": "RLELBoxRegression", "distance_weight": 2.0, "smoothness_weight": 3.0}
    losses = build_head(regression, weighted=False).loss(random_maps(), build_samples())
    assert all(bool(losses[f"loss_code_{name}"] != 0) for name in ("distance", "smoothness"))


def test_heading_flipped_by_pi_has_another_direction_and_the_same_box_loss():
    head, maps = build_head(_GAUSSIAN), random_maps()
    nn.init.normal_(head.conv_dir_cls.weight)
    yaws: list[Tensor] = []
    _spy(head, lambda _, targets: yaws.append(targets[:, 6]))
    straight = head.loss(maps, build_samples((8, 8)))
    flipped = head.loss(maps, build_samples((8, 8), turn=math.pi))
    torch.testing.assert_close(flipped["loss_bbox"], straight["loss_bbox"], rtol=1e-5, atol=0)
    assert bool((flipped["loss_dir"][0] - straight["loss_dir"][0]).abs() > 1e-3)
    assert len(yaws[0]) > 8
    assert float(torch.cat(yaws).abs().max()) <= math.pi / 2


def test_without_a_direction_classifier_the_yaw_is_learned_over_the_full_circle():
    options = {"use_direction_classifier": False, "diff_rad_by_sin": False}
    head, maps = build_head(_GAUSSIAN, **options), random_maps()
    nn.init.normal_(head.conv_reg.weight)
    straight, flipped, full = (
        head.loss(maps, build_samples(turn=turn * math.pi)) for turn in range(3)
    )
    assert set(straight) == {"loss_cls", "loss_bbox"}
    assert bool((flipped["loss_bbox"] / straight["loss_bbox"] - 1).abs() > 1e-3)
    torch.testing.assert_close(full["loss_bbox"], straight["loss_bbox"], rtol=1e-4, atol=0)
    result = _predict(head, maps)[0]
    assert result.box_distribution.yaw_period == 2 * math.pi
    assert float(result.bboxes_3d.tensor[:, 6].abs().max()) <= math.pi + 1e-6


def test_losses_of_the_boxes_are_in_single_precision_under_autocast():
    head, maps = build_head(_GAUSSIAN), random_maps()
    plain = head.loss(maps, build_samples())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head.loss(maps, build_samples())
    torch.testing.assert_close(mixed["loss_bbox"], plain["loss_bbox"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_bbox": SMOOTH_L1}, "loss_bbox=None"),
        ({"diff_rad_by_sin": False}, "use_direction_classifier"),
        ({"bbox_coder": {"type": "DeltaXYZWLHRBBoxCoder", "code_size": 8}}, "code_size 7, or 9"),
        ({"bbox_coder": {"type": "DeltaXYZWLHRBBoxCoder", "code_size": 9}}, "loss_velocity"),
        ({"regression": {"type": "NCELoss"}}, "BoxRegression"),
        ({"score_decay": -1.0}, "score_decay"),
        ({"voting": {"iou_threshold": 1.0, "temperature": 1.0}}, "iou_threshold"),
        ({"use_direction_classifier": False, "diff_rad_by_sin": False}, "sin_difference"),
        ({"regressions": {}}, "regressions"),
        ({"voting": {"iou_thr": 0.1}}, "iou_thr"),
    ],
)
def test_option_that_does_not_fit_is_refused(options: dict[str, Any], message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        build_head(**options)


def test_weights_of_residuals_scale_their_losses_and_agree_where_residuals_share_one():
    head, maps, values = build_head(_GAUSSIAN), random_maps(), []
    for weight in (0.0, 1.0, 3.0):
        head.train_cfg.code_weight = [weight, *[1.0] * 6]
        values.append(head.loss(maps, build_samples())["loss_bbox"])
    # Differences of sums in float32.
    torch.testing.assert_close(
        values[2] - values[0], 3 * (values[1] - values[0]), rtol=1e-4, atol=1e-4
    )
    head = build_head({"type": "PROPELBoxRegression"})
    with pytest.raises(ValueError, match="code_weight"):
        head.loss(maps, build_samples())
    for weight in (0.5, 1.0):
        head.train_cfg.code_weight = [weight] * 7
        values.append(head.loss(maps, build_samples())["loss_bbox"])
    torch.testing.assert_close(2 * values[-2], values[-1])


@every_regression
def test_std_and_distribution_are_those_of_the_boxes_and_selected_with_them(kind: str):
    head, maps = build_head({"type": kind}, weighted=False), random_maps()
    for parameter in (head.conv_cls.weight, head.conv_reg.weight, head.conv_dir_cls.weight):
        nn.init.normal_(parameter, std=0.2)
    head.loss(maps, build_samples())  # the direct regression learns its scale
    for result in _predict(head, maps):
        number = len(result.bboxes_3d)
        assert number > 3
        _assert_centered(result)
        assert bool((result.box_std > 0).all())
        log_p = result.box_distribution.log_prob(result.bboxes_3d.tensor)
        assert bool(torch.isfinite(log_p).all())
        chosen = result[result.scores_3d > result.scores_3d.median()]
        assert len(chosen.box_distribution) == len(chosen) == len(chosen.box_std) < number


def test_batch_predicts_as_frame_by_frame_and_in_one_pass_with_its_losses():
    head, (bev,), samples = _gaussian_head().eval(), random_maps(), build_samples()
    together = _predict(head, [bev])
    for index, expected in enumerate(together):
        (alone,) = _predict(head, [bev[index : index + 1]], samples[index : index + 1])
        torch.testing.assert_close(alone.bboxes_3d.tensor, expected.bboxes_3d.tensor)
        torch.testing.assert_close(alone.box_std, expected.box_std)
    with torch.no_grad():
        losses, results = head.loss_and_predict([bev], samples)
        assert torch.equal(losses["loss_bbox"], head.loss([bev], samples)["loss_bbox"])
    assert torch.equal(results[1].bboxes_3d.tensor, together[1].bboxes_3d.tensor)


def test_nothing_above_the_threshold_is_no_box():
    head = build_head(_GAUSSIAN, voting=VOTING, score_decay=1.0)
    head.test_cfg.score_thr = 1.1
    result, _ = _predict(head, random_maps())
    assert len(result.bboxes_3d) == len(result.box_distribution) == 0
    assert result.box_std.shape == (0, 7)
    assert result.box_covariance.shape == (0, 7, 7)


def test_scores_fall_with_the_uncertainty_before_nms():
    head, maps = _gaussian_head(std=0.1), random_maps()
    head.test_cfg.update(nms_thr=0.999, score_thr=0.0, max_num=120)  # everything is kept
    plain = _predict(head, maps)[0]
    head.score_decay = 2.0
    decayed = _predict(head, maps)[0]
    decay = torch.exp(-2 * relative_uncertainty(plain.box_std, plain.bboxes_3d.tensor))
    assert float(decay.min()) < 0.5 * float(decay.max())
    torch.testing.assert_close(
        decayed.scores_3d.sort()[0], (plain.scores_3d * decay).sort()[0], rtol=1e-5, atol=1e-7
    )


def test_voting_moves_boxes_and_their_densities_and_nothing_else():
    head, maps = _gaussian_head(std=0.05), random_maps()
    plain = _predict(head, maps)[0]
    head.voting = VarianceVoting(**VOTING)
    voted = _predict(head, maps)[0]
    assert torch.equal(voted.scores_3d, plain.scores_3d)
    assert torch.equal(voted.labels_3d, plain.labels_3d)
    moved = voted.bboxes_3d.tensor - plain.bboxes_3d.tensor
    assert float(moved[:, :6].abs().max()) > 1e-2
    assert float(moved[:, 6].abs().max()) < math.pi / 2  # the heading is not flipped
    _assert_centered(voted)


@pytest.mark.parametrize("same_class", [True, False])
def test_only_candidates_of_the_box_s_class_vote(same_class: bool):
    from mmdet3d.structures import LiDARInstance3DBoxes

    from ebm3d.adapters.dense_heads.box_selection import select_boxes

    anchors = torch.tensor([[10.0, 0, -1.7, 4, 1.6, 1.5, 0]]).repeat(2, 1)
    residuals = torch.zeros(2, 7)
    residuals[1, 0] = 0.1
    candidates = BoxDistribution(
        GaussianDensity(residuals, torch.full((2, 7), -4.0)), AnchorCoding(anchors)
    )
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.0] if same_class else [0.0, 0.8]])
    cfg, voting = head_config()["test_cfg"], VarianceVoting(0.1, 0.5)
    selected = select_boxes(
        candidates, scores, None, (0.0, 0.0), LiDARInstance3DBoxes, cfg, voting=voting
    )
    assert len(selected) == (1 if same_class else 2)
    assert bool(selected.bboxes_3d.tensor[0, 0] > 10.1) == same_class


@pytest.mark.parametrize("options", [{"score_decay": 1.0}, {"voting": VOTING}], ids=str)
def test_uncertainty_of_a_stock_checkpoint_is_refused_with_the_remedy(options: dict[str, Any]):
    with pytest.raises(ValueError, match="before it was trained"):
        _predict(build_equal(build_stock(), **options), random_maps())


def test_refined_head_takes_it_for_its_dense_head():
    from mmdet3d.registry import MODELS

    from ebm3d.adapters.detectors import MapsAndPoints

    bounds = [0, -12.8, -3, 25.6, 12.8, 1]
    head = MODELS.build(
        {
            "type": "RefinedDenseHead",
            "detector": "joint",
            "dense_head": {
                **head_config(num_classes=1),
                "type": "DistributionAnchor3DHead",
                "regression": _GAUSSIAN,
            },
            "refinement_head": {
                **REFINEMENT_HEAD,
                "in_channels": CHANNELS,
                "point_cloud_range": bounds,
            },
        }
    )
    samples = build_samples(num_classes=1)
    bev, points = torch.randn(2, CHANNELS, 64, 64), [torch.rand(50, 4) * 10 for _ in samples]
    losses = head.loss(MapsAndPoints([bev], points), samples)
    assert {"loss_cls", "loss_bbox", "loss_dir", "loss_ebm"} <= set(losses)
    instances = [sample.gt_instances_3d for sample in build_samples(num_classes=1)]
    boxes, labels = zip(*((i.bboxes_3d.tensor, i.labels_3d) for i in instances), strict=True)
    for result in predict(head, Frames(bev, points, list(boxes), list(labels), [])):
        assert len(result.initial_bboxes_3d) == len(result.initial_box_distribution)
