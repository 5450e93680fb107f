"""Small distribution heads, stock heads of the same weights, maps and frames for them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tests.adapters.tiny import build_sample

CHANNELS, CELLS = 16, 16
SMOOTH_L1 = {"type": "mmdet.SmoothL1Loss", "beta": 1 / 9, "loss_weight": 2.0}
_STOCK_REGRESSION = {
    **{"type": "DirectBoxRegression", "beta": 1 / 9},
    **{"sin_difference": True, "loss_weight": 2.0},
}
REGRESSIONS = [
    f"{kind}BoxRegression"
    for kind in ("Direct", "Gaussian", "Laplace", "PROPEL", "RLEL", "BEL", "Binned")
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
VOTING = {"iou_threshold": 0.1, "temperature": 0.5}
_SIZES = [[3.9, 1.6, 1.56], [1.76, 0.6, 1.73]]


def head_config(num_classes: int = 2, loss: str = "focal", levels: int = 1) -> dict[str, Any]:
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
        "in_channels": CHANNELS,
        "feat_channels": CHANNELS,
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


def build_stock(**options: Any) -> Any:
    """The host's head with random weights."""
    from mmdet3d.registry import MODELS

    head = MODELS.build({"type": "Anchor3DHead", "loss_bbox": SMOOTH_L1, **head_config(**options)})
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head


def build_head(regression: dict[str, Any] | None = None, **options: Any) -> Any:
    """Our head; keys of ``head_config``, of the head itself, and ``weighted``."""
    from mmdet3d.registry import MODELS

    shape = {k: options.pop(k) for k in ("num_classes", "loss", "levels") if k in options}
    config = {**head_config(**shape), "regression": regression or _STOCK_REGRESSION, **options}
    if not options.get("weighted", True):
        config["train_cfg"].pop("code_weight")
    config.pop("weighted", None)
    return MODELS.build({"type": "DistributionAnchor3DHead", **config})


def build_equal(stock: Any, **options: Any) -> Any:
    """Our head with the stock head's weights."""
    head = build_head(**options)
    head.load_state_dict(stock.state_dict(), strict=True)
    return head


def random_maps(levels: int = 1) -> list[Tensor]:
    sizes = [CELLS // 2**level for level in range(levels)]
    return [torch.randn(2, CHANNELS, size, size).requires_grad_() for size in sizes]


def build_samples(
    counts: tuple[int, ...] = (4, 3), num_classes: int = 2, turn: float = 0.0
) -> list[Any]:
    """Frames with so many boxes each, of all classes, in all four headings."""
    samples = []
    generator = torch.Generator().manual_seed(1)
    for count in counts:
        labels = torch.arange(count) % num_classes
        boxes = torch.rand(count, 7, generator=generator)
        boxes[:, :2] = 3 + 19 * boxes[:, :2] - torch.tensor([0, 12.8])
        boxes[:, 2] = -1.8 + 0.2 * boxes[:, 2]
        boxes[:, 3:6] = torch.tensor(_SIZES)[labels] * (0.9 + 0.2 * boxes[:, 3:6])
        boxes[:, 6] = torch.arange(count) * (math.pi / 2) - 4 + 0.5 * boxes[:, 6] + turn
        samples.append(build_sample(boxes, labels))
    return samples


SETTINGS = [
    {"num_classes": 1, "loss": "focal"},
    {"num_classes": 2, "loss": "focal"},
    {"num_classes": 2, "loss": "cross_entropy"},
    {"num_classes": 1, "loss": "focal", "levels": 2},
]
