from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from tests.adapters.distribution import (
    CELLS,
    REGRESSIONS,
    SETTINGS,
    SMOOTH_L1,
    build_equal,
    build_head,
    build_samples,
    build_stock,
    random_maps,
    total,
)
from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_stock_regression_has_the_losses_and_gradients_of_the_stock_head(setting: dict[str, Any]):
    stock = build_stock(**setting)
    head = build_equal(stock, **setting)
    maps = random_maps(setting.get("levels", 1))
    values, gradients = [], []
    for each in (stock, head):
        losses = each.loss(maps, build_samples(num_classes=setting["num_classes"]))
        values.append(
            {name: float(total({name: value}).detach()) for name, value in losses.items()}
        )
        gradients.append(torch.autograd.grad(total(losses), [*each.parameters(), *maps]))
    assert values[0]["loss_bbox"] > 0
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    for found, expected in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_stock_regression_without_boxes_has_the_losses_of_the_stock_head():
    stock = build_stock()
    head, maps = build_equal(stock), random_maps()
    found, expected = (
        head.loss(maps, build_samples((0, 0))),
        stock.loss(maps, build_samples((0, 0))),
    )
    for name, value in expected.items():
        torch.testing.assert_close(total({name: found[name]}), total({name: value}))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_at_anchors_are_those_of_the_convolved_map(layout: torch.memory_format):
    from ebm3d.adapters.dense_heads.anchor_cells import anchor_outputs

    num_base_priors, num_outputs = 3, 5
    bev = torch.randn(2, 4, 6, 7).contiguous(memory_format=layout).requires_grad_()
    conv = nn.Conv2d(4, num_base_priors * num_outputs, 1)
    dense = conv(bev).permute(0, 2, 3, 1).reshape(-1, num_outputs)
    anchors = torch.randperm(len(dense))[:40].repeat(2)
    found, expected = anchor_outputs(bev, conv, anchors, num_base_priors), dense[anchors]
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    inputs = [bev, *conv.parameters()]
    for one, other in zip(
        torch.autograd.grad((weights * found).sum(), inputs),
        torch.autograd.grad((weights * expected).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_raw_outputs_are_maps_as_the_hosts():
    head = build_head({"type": "GaussianBoxRegression"})
    (scores,), (outputs,), (directions,) = head(random_maps())
    assert scores.shape == (2, 8, CELLS, CELLS)
    assert outputs.shape == (2, 4 * 14, CELLS, CELLS)
    assert directions.shape == (2, 8, CELLS, CELLS)


@pytest.mark.parametrize("kind", REGRESSIONS)
@pytest.mark.parametrize("counts", [(4, 3), (1, 0), (0, 0)], ids=str)
def test_losses_are_finite_and_reach_every_parameter(kind: str, counts: tuple[int, int]):
    head, maps = build_head({"type": kind}, weighted=False), random_maps()
    head.init_weights()
    losses = head.loss(maps, build_samples(counts))
    assert (float(losses["loss_bbox"].detach()) == 0) == (sum(counts) == 0)
    assert bool(torch.isfinite(total(losses)))
    total(losses).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    assert bool(torch.isfinite(maps[0].grad).all())


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_losses_are_finite_for_outputs_far_off(kind: str):
    head, maps = build_head({"type": kind}, weighted=False), random_maps()
    nn.init.normal_(head.conv_reg.weight, std=30)
    losses = head.loss(maps, build_samples())
    total(losses).backward()
    assert bool(torch.isfinite(total(losses)))
    assert bool(torch.isfinite(head.conv_reg.weight.grad).all())


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_training_lowers_the_error_of_the_boxes(kind: str):
    regression = {"type": kind}
    if kind == "PROPELBoxRegression":
        # Its loss is near zero once one component sits on the target: the others wander off, and
        # the mean of the mixture with them.
        regression["point_estimate"] = "mode"
    head, maps = build_head(regression, weighted=False), random_maps()
    head.init_weights()
    seen: list[Tensor] = []
    loss = head.regression.loss

    def spy(outputs: Tensor, targets: Tensor) -> Tensor:
        error = head.regression.density(outputs).point - targets
        seen.append(error.detach().abs().mean())
        return loss(outputs, targets)

    head.regression.loss = spy
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        total(head.loss(maps, build_samples())).backward()
        optimizer.step()
    assert bool(torch.isfinite(torch.stack(seen)).all())
    assert bool(seen[-1] < 0.5 * seen[0])


def test_regularizers_are_added_to_the_loss_the_host_sums():
    regression = {"type": "RLELBoxRegression", "distance_weight": 2.0, "smoothness_weight": 3.0}
    losses = build_head(regression, weighted=False).loss(random_maps(), build_samples())
    assert {"loss_code_distance", "loss_code_smoothness"} <= set(losses)
    assert all(bool(losses[f"loss_code_{name}"] != 0) for name in ("distance", "smoothness"))


def test_box_turned_by_half_a_turn_has_another_direction_and_the_same_box_loss():
    head, maps = build_head({"type": "GaussianBoxRegression"}), random_maps()
    nn.init.normal_(head.conv_dir_cls.weight)
    straight = head.loss(maps, build_samples())
    turned = head.loss(maps, build_samples(turn=math.pi))
    torch.testing.assert_close(turned["loss_bbox"], straight["loss_bbox"], rtol=1e-5, atol=0)
    assert bool((turned["loss_dir"][0] - straight["loss_dir"][0]).abs() > 1e-3)


def test_target_of_the_yaw_lies_within_a_quarter_turn(monkeypatch: pytest.MonkeyPatch):
    head = build_head({"type": "GaussianBoxRegression"})
    seen: list[Tensor] = []
    loss = head.regression.loss

    def spy(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets)
        return loss(outputs, targets)

    monkeypatch.setattr(head.regression, "loss", spy)
    head.loss(random_maps(), build_samples((8, 8)))
    assert len(seen[0]) > 8
    assert float(seen[0][:, 6].abs().max()) <= math.pi / 2


def test_losses_of_the_boxes_are_in_single_precision_under_autocast():
    head, maps = build_head({"type": "GaussianBoxRegression"}), random_maps()
    plain = head.loss(maps, build_samples())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head.loss(maps, build_samples())
    assert mixed["loss_bbox"].dtype == torch.float32
    torch.testing.assert_close(mixed["loss_bbox"], plain["loss_bbox"])


_REFUSED = [
    ({"loss_bbox": SMOOTH_L1}, "loss_bbox=None"),
    ({"diff_rad_by_sin": False}, "use_direction_classifier"),
    ({"bbox_coder": {"type": "DeltaXYZWLHRBBoxCoder", "code_size": 9}}, "code_size 7"),
    ({"regression": {"type": "NCELoss"}}, "BoxRegression"),
    ({"score_decay": -1.0}, "score_decay"),
    ({"voting": {"iou_threshold": 1.0, "temperature": 1.0}}, "iou_threshold"),
    ({"use_direction_classifier": False, "diff_rad_by_sin": False}, "sin_difference"),
]


@pytest.mark.parametrize(("options", "words"), _REFUSED, ids=[words for _, words in _REFUSED])
def test_option_out_of_place_is_refused_in_words(options: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        build_head(**options)


@pytest.mark.parametrize("options", [{"regressions": {}}, {"voting": {"iou_thr": 0.1}}], ids=str)
def test_misspelt_option_is_refused(options: dict[str, Any]):
    with pytest.raises(TypeError):
        build_head(**options)


def test_weights_of_residuals_that_share_one_loss_must_agree():
    head = build_head({"type": "PROPELBoxRegression"})
    with pytest.raises(ValueError, match="code_weight"):
        head.loss(random_maps(), build_samples())
    maps, values = random_maps(), []
    for weight in (0.5, 1.0):
        head.train_cfg.code_weight = [weight] * 7
        values.append(head.loss(maps, build_samples())["loss_bbox"])
    torch.testing.assert_close(2 * values[0], values[1])


def test_weights_of_residuals_scale_their_losses():
    head, maps = build_head({"type": "GaussianBoxRegression"}), random_maps()
    values = []
    for weight in (0.0, 1.0, 3.0):
        head.train_cfg.code_weight = [weight, *[1.0] * 6]
        values.append(head.loss(maps, build_samples())["loss_bbox"])
    torch.testing.assert_close(values[2] - values[0], 3 * (values[1] - values[0]))
