"""Detectors small enough for a test, and batches for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import ebm3d

# What the host says about itself when its anchors are made and assigned.
HOST_WARNINGS = (
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:DeprecationWarning. pos_:UserWarning"),
)
RANGE = [0, -6.4, -3, 12.8, 6.4, 1]


def build_detector(name: str = "second", seed: int = 0) -> Any:
    """``second`` or ``pointpillars`` of the shipped configs on a scene of 12.8 m x 12.8 m."""
    from mmdet3d.registry import MODELS
    from mmengine import Config
    from mmengine.registry import init_default_scope

    cfg = Config.fromfile(ebm3d.config_path(f"{name}_kitti_cpu.py")).model
    init_default_scope("mmdet3d")
    cfg.data_preprocessor.voxel_layer.point_cloud_range = RANGE
    cfg.bbox_head.anchor_generator.ranges = [[0, -6.4, -1.78, 12.8, 6.4, -1.78]]
    if name == "second":
        cfg.middle_encoder.sparse_shape = [21, 128, 128]
    else:
        cfg.middle_encoder.output_shape = [64, 64]
        cfg.voxel_encoder.point_cloud_range = RANGE
    torch.manual_seed(seed)
    detector = MODELS.build(cfg)
    detector.init_weights()
    return detector


def build_sample(boxes: Tensor, labels: Tensor) -> Any:
    """A frame with true boxes, as the data loader hands it to a model."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
    sample.gt_instances_3d = InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels)
    return sample


def build_batch(clouds: list[Tensor], num_boxes: int = 1) -> dict[str, Any]:
    """What the data loader hands to a model: clouds, and a car in the middle of each."""
    boxes = torch.tensor([[6.4, 0.0, -1.78, 3.9, 1.6, 1.56, 0.1]]).repeat(num_boxes, 1)
    samples = [build_sample(boxes.clone(), torch.zeros(num_boxes).long()) for _ in clouds]
    return {"inputs": {"points": list(clouds)}, "data_samples": samples}


def random_cloud(generator: torch.Generator, num: int = 600) -> Tensor:
    """(num, 4) points inside the range, intensities from 0 to 1."""
    low, high = torch.tensor([*RANGE[:3], 0.0]), torch.tensor([*RANGE[3:], 1.0])
    return low + (high - low) * torch.rand(num, 4, generator=generator)


def sum_losses(losses: dict[str, Any]) -> Tensor:
    """The sum that the runner would minimize."""
    values = [v for name, v in losses.items() if "loss" in name]
    return sum(part.sum() for v in values for part in (v if isinstance(v, list) else [v]))


def losses_of(detector: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """The losses of a batch, each as one number."""
    data = detector.data_preprocessor(batch, training=True)
    losses = detector(**data, mode="loss")
    return {name: sum_losses({"loss": value}) for name, value in losses.items()}


def predictions_of(detector: Any, batch: dict[str, Any]) -> list[Any]:
    """The predictions of a batch, one sample a frame."""
    with torch.no_grad():
        return detector(**detector.data_preprocessor(batch), mode="predict")
