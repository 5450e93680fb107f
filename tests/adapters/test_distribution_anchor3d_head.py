from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

_CHANNELS, _CELLS = 16, 16
_SMOOTH_L1 = {"type": "mmdet.SmoothL1Loss", "beta": 1 / 9, "loss_weight": 2.0}
_STOCK = {
    "type": "DirectBoxRegression",
    "beta": 1 / 9,
    "sin_difference": True,
    "loss_weight": 2.0,
}
_REGRESSIONS = [
    "DirectBoxRegression",
    "GaussianBoxRegression",
    "LaplaceBoxRegression",
    "PROPELBoxRegression",
    "RLELBoxRegression",
    "BELBoxRegression",
    "BinnedBoxRegression",
]
_ASSIGNER = {
    "type": "Max3DIoUAssigner",
    "iou_calculator": {"type": "BboxOverlapsNearest3D"},
    "pos_iou_thr": 0.4,
    "neg_iou_thr": 0.3,
    "min_pos_iou": 0.2,
    "ignore_iof_thr": -1,
}
_LOSSES = {
    "focal": {"type": "mmdet.FocalLoss", "use_sigmoid": True, "loss_weight": 1.0},
    "cross_entropy": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
}
_SIZES = [[3.9, 1.6, 1.56], [1.76, 0.6, 1.73]]


def _config(num_classes: int = 2, loss: str = "focal", levels: int = 1) -> dict[str, Any]:
    """What the host's head and ours have in common: classes, anchors, assigner, NMS."""
    from mmengine import ConfigDict
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    assigners = [_ASSIGNER] * num_classes
    kind = {"type": "Anchor3DRangeGenerator", "reshape_out": False}
    if levels > 1:  # the host then has one assigner for all
        assigners, kind = _ASSIGNER, {"type": "AlignedAnchor3DRangeGenerator", "reshape_out": True}
        kind["scales"] = [1, 2]
    train = {
        "assigner": assigners,
        "sampler": {"type": "PseudoSampler"},
        "pos_weight": -1,
        "code_weight": [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 2.0],
    }
    return {
        "num_classes": num_classes,
        "in_channels": _CHANNELS,
        "feat_channels": _CHANNELS,
        "assign_per_class": True,
        "anchor_generator": {
            **kind,
            "ranges": [[0, -12.8, -1.78, 25.6, 12.8, -1.78]] * num_classes,
            "sizes": _SIZES[:num_classes],
            "rotations": [0, 1.57],
        },
        "loss_cls": _LOSSES[loss],
        "train_cfg": ConfigDict(train),
        "test_cfg": ConfigDict(
            use_rotate_nms=True, nms_thr=0.1, score_thr=0.01, nms_pre=60, max_num=20
        ),
    }


def _stock(**options: Any) -> Any:
    """The host's head with random weights."""
    from mmdet3d.registry import MODELS

    head = MODELS.build({"type": "Anchor3DHead", "loss_bbox": _SMOOTH_L1, **_config(**options)})
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head


def _head(regression: dict[str, Any] | None = None, **options: Any) -> Any:
    """Our head; keys of ``_config`` and of the head itself."""
    from mmdet3d.registry import MODELS

    shape = {k: options.pop(k) for k in ("num_classes", "loss", "levels") if k in options}
    config = {**_config(**shape), "regression": regression or _STOCK, **options}
    return MODELS.build({"type": "DistributionAnchor3DHead", **config})


def _equal_head(stock: Any, **options: Any) -> Any:
    """Our head with the stock head's weights."""
    head = _head(**options)
    head.load_state_dict(stock.state_dict(), strict=True)
    return head


def _maps(levels: int = 1) -> list[Tensor]:
    sizes = [_CELLS // 2**level for level in range(levels)]
    return [torch.randn(2, _CHANNELS, size, size).requires_grad_() for size in sizes]


def _samples(counts: tuple[int, ...] = (4, 3)) -> list[Any]:
    """Frames with so many boxes each, of both classes, on both axes and both ways round."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    samples = []
    generator = torch.Generator().manual_seed(1)
    for count in counts:
        labels = torch.arange(count) % 2
        boxes = torch.rand(count, 7, generator=generator)
        boxes[:, :2] = 3 + 19 * boxes[:, :2] - torch.tensor([0, 12.8])
        boxes[:, 2] = -1.8 + 0.2 * boxes[:, 2]
        boxes[:, 3:6] = torch.tensor(_SIZES)[labels] * (0.9 + 0.2 * boxes[:, 3:6])
        boxes[:, 6] = torch.arange(count) * (math.pi / 2) - 4 + 0.5 * boxes[:, 6]
        sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels
        )
        samples.append(sample)
    return samples


def _total(losses: dict[str, Any]) -> Tensor:
    return sum(
        sum(v.sum() for v in value) if isinstance(value, list) else value.sum()
        for value in losses.values()
    )


_SETTINGS = [
    {"num_classes": 1, "loss": "focal"},
    {"num_classes": 2, "loss": "focal"},
    {"num_classes": 2, "loss": "cross_entropy"},
    {"num_classes": 1, "loss": "focal", "levels": 2},
]


@pytest.mark.parametrize("setting", _SETTINGS, ids=str)
def test_stock_regression_has_the_losses_and_gradients_of_the_stock_head(setting: dict[str, Any]):
    stock = _stock(**setting)
    head = _equal_head(stock, **setting)
    maps = _maps(setting.get("levels", 1))
    grads = []
    totals = []
    for each in (stock, head):
        torch.manual_seed(3)
        if setting["num_classes"] == 1:
            samples = _samples()
            for s in samples:
                s.gt_instances_3d.labels_3d.zero_()
        else:
            samples = _samples()
        losses = each.loss(maps, samples)
        totals.append({k: float(_total({k: v}).detach()) for k, v in losses.items()})
        parameters = [*each.parameters(), *maps]
        grads.append(torch.autograd.grad(_total(losses), parameters))
    print(totals)
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    for found, expected in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("setting", _SETTINGS, ids=str)
def test_stock_regression_has_the_predictions_of_the_stock_head(setting: dict[str, Any]):
    stock = _stock(**setting).eval()
    head = _equal_head(stock, **setting).eval()
    maps = _maps(setting.get("levels", 1))
    with torch.no_grad():
        expected = stock.predict(maps, _samples())
        found = head.predict(maps, _samples())
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs) > 3
        torch.testing.assert_close(
            ours.bboxes_3d.tensor, theirs.bboxes_3d.tensor, rtol=1e-5, atol=1e-5
        )
        assert torch.equal(ours.scores_3d, theirs.scores_3d)
        assert torch.equal(ours.labels_3d, theirs.labels_3d)
