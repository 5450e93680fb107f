"""Velocities of the host's dense heads: unknown ones are no part of a loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.distribution import SMOOTH_L1, build_samples, head_config, random_maps
from tests.adapters.tiny import HOST_WARNINGS, sum_losses

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

_UNKNOWN = [float("nan")] * 2


def _anchor_heads(levels: int = 1) -> tuple[Any, Any]:
    """The host's head of nine deltas, and ours of the same weights."""
    from mmdet3d.registry import MODELS

    config = head_config(1, levels=levels)
    config["anchor_generator"]["custom_values"] = [0, 0]
    config["bbox_coder"] = {"type": "DeltaXYZWLHRBBoxCoder", "code_size": 9}
    config["train_cfg"]["code_weight"] = [*[1.0] * 7, 0.2, 0.2]
    stock = MODELS.build({"type": "Anchor3DHead", "loss_bbox": SMOOTH_L1, **config})
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    regression = {"type": "DirectBoxRegression", "beta": 1 / 9, "loss_weight": 2.0}
    regression["sin_difference"] = True
    ours = {"type": "DistributionAnchor3DHead", "regression": regression, **config}
    head = MODELS.build({**ours, "loss_velocity": SMOOTH_L1})
    head.load_state_dict(stock.state_dict(), strict=True)
    return stock, head


def _center_head() -> Any:
    """``CenterHead`` of the stock classes on a map of 16 x 16 cells."""
    from mmdet3d.registry import MODELS
    from mmengine import Config

    import ebm3d

    cfg = Config.fromfile(ebm3d.config_path("centerpoint_simulated_drives_cpu.py")).model
    cfg.train_cfg.pts.update(grid_size=[32, 32, 1], point_cloud_range=[0, -12.8, -5, 25.6, 12.8, 3])
    cfg.train_cfg.pts.voxel_size = [0.8, 0.8, 8]
    return MODELS.build(
        {
            **cfg.pts_bbox_head,
            "in_channels": 16,
            "train_cfg": cfg.train_cfg.pts,
            "test_cfg": cfg.test_cfg.pts,
        }
    )


def _samples(velocity: list[list[float]]) -> list[Any]:
    """Frames with a box each, of these velocities."""
    from mmdet3d.structures import LiDARInstance3DBoxes

    samples = build_samples((1,) * len(velocity), 1)
    for sample, values in zip(samples, velocity, strict=True):
        boxes = torch.cat((sample.gt_instances_3d.bboxes_3d.tensor, torch.tensor([values])), dim=1)
        sample.gt_instances_3d.bboxes_3d = LiDARInstance3DBoxes(boxes, box_dim=9)
    return samples


def _gradient(head: Any, maps: list[Tensor], velocity: list[list[float]]) -> tuple[Tensor, ...]:
    """Loss and gradients at the parameters and maps."""
    inputs = [*head.parameters(), *maps]
    loss = sum_losses(head.loss(maps, _samples(velocity)))
    return loss.detach(), *torch.autograd.grad(loss, inputs, allow_unused=True)


@pytest.mark.parametrize("levels", [1, 2])
def test_losses_gradients_and_predictions_of_nine_deltas_are_the_stock_heads(levels: int):
    stock, head = _anchor_heads(levels)
    maps = random_maps(levels)
    known = [[3.0, -1.0], [0.5, 2.0]]
    expected = _gradient(stock, maps, known)
    torch.testing.assert_close(_gradient(head, maps, known), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        pairs = [each.eval().predict(maps, build_samples()) for each in (stock, head)]
    for theirs, ours in zip(*pairs, strict=True):
        assert theirs.bboxes_3d.tensor.shape[1] == 9
        torch.testing.assert_close(
            ours.bboxes_3d.tensor, theirs.bboxes_3d.tensor, rtol=1e-4, atol=1e-4
        )
        assert ours.box_std.shape[1] == 7


@pytest.mark.parametrize("kind", ["anchor", "center", "distribution"])
def test_an_unknown_velocity_gives_no_loss_and_no_gradient(kind: str):
    """As if it had been predicted exactly; a known one of the other frame counts as before."""
    stock, ours = _anchor_heads()
    head = {"anchor": stock, "distribution": ours}.get(kind) or _center_head()
    maps = random_maps()
    loss, *gradients = _gradient(head, maps, [_UNKNOWN, [0.5, 2.0]])
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    far, *_ = _gradient(head, maps, [[50.0, 50.0], [0.5, 2.0]])
    other, *_ = _gradient(head, maps, [_UNKNOWN, [0.5, 4.0]])
    assert loss < far
    assert loss != other
