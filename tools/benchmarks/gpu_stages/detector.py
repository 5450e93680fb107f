"""Steps of a whole detector of the host, and of the refinement head on it."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

import ebm3d.register  # noqa: F401
from ebm3d import config_path
from gpu_stages.core import Rows, draw_cars
from gpu_stages.measure import measured

_NUM_BOXES = 50


def build_model(config: str) -> Any:
    """Build a model with random weights and scores around one half.

    As many candidates as can be go to NMS and are refined.
    """
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    model: Any = MODELS.build(Config.fromfile(config_path(config)).model)
    head = model.bbox_head
    nn.init.normal_(head.dense_head.conv_cls.weight, std=0.01)
    nn.init.zeros_(head.dense_head.conv_cls.bias)
    nn.init.normal_(list(head.refinement_head.network.parameters())[-2], std=0.03)
    return model


def run_detector(config: str, device: torch.device, num_frames: int, repeats: int) -> Rows:
    """Measure every stage of a config with a ``RefinedDenseHead``.

    Returns:
        Time, counts and memory by stage; the number of boxes a prediction gives with it.
    """
    model = build_model(config).to(device).eval()
    dense_head, head = model.bbox_head.dense_head, model.bbox_head.refinement_head
    low, high = torch.tensor(head.point_cloud_range).split(3)
    boxes, points = (
        part[((part[:, :3] > low) & (part[:, :3] < high)).all(dim=1)].float()
        for part in draw_cars(_NUM_BOXES)
    )
    detected = boxes.repeat(1 + _NUM_BOXES // max(1, len(boxes)), 1)[:_NUM_BOXES].to(device)
    labels = torch.zeros(_NUM_BOXES, dtype=torch.int64, device=device)
    scores = torch.linspace(1, 0.1, _NUM_BOXES, device=device)

    def ready(count: int) -> Any:
        """Frames as a data loader hands them over, voxelized, on the device."""
        batch = {"inputs": {"points": [points] * count}, "data_samples": []}
        for _ in range(count):
            sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
            truth = {"bboxes_3d": LiDARInstance3DBoxes(boxes), "labels_3d": labels[: len(boxes)]}
            sample.gt_instances_3d = InstanceData(**truth)
            batch["data_samples"].append(sample)
        return model.data_preprocessor(batch)

    @torch.no_grad()
    def features_of(data: Any) -> Any:
        return model.extract_feat(data["inputs"])

    one, many = ready(1), ready(num_frames)
    features, all_features = features_of(one), features_of(many)
    maps, clouds = features.maps, features.points
    truths, classes = [boxes.to(device)] * num_frames, [labels[: len(boxes)]] * num_frames

    def train_head() -> None:
        """A step of the refinement head on the maps of a frozen detector."""
        head.zero_grad(set_to_none=True)
        losses = head.loss(all_features.maps[0], all_features.points, truths, classes)
        _total(losses).backward()

    def train() -> None:
        """From points on the CPU to gradients of the detector's parameters."""
        model.zero_grad(set_to_none=True)
        data = ready(num_frames)
        maps = model.extract_feat(data["inputs"]).maps
        _total(dense_head.loss(maps, data["data_samples"])).backward()

    predict = torch.no_grad()(lambda: model(**ready(1), mode="predict"))
    stages = {
        "points to voxels": lambda: ready(1),
        "voxels to map": lambda: features_of(one),
        "map to boxes": torch.no_grad()(lambda: dense_head.predict(maps, one["data_samples"])),
        f"refinement of {_NUM_BOXES} boxes": torch.no_grad()(
            lambda: head.refine(maps[0], clouds, [detected], [labels], [scores])
        ),
        "points to refined boxes": predict,
        f"training step of the refinement head, frames: {num_frames}": train_head,
    }
    rows = {name: measured(stage, device, repeats) for name, stage in stages.items()}
    rows["points to refined boxes"]["boxes"] = len(predict()[0].pred_instances_3d.scores_3d)
    model.train()
    rows[f"training step of the detector, frames: {num_frames}"] = measured(train, device, repeats)
    return rows


def _total(losses: dict[str, Any]) -> Tensor:
    """Sum of the losses among what is logged; the host's come in lists."""
    terms = [value for name, value in losses.items() if "loss" in name]
    listed = [t for term in terms for t in (term if isinstance(term, list) else [term])]
    return torch.stack([term.sum() for term in listed]).sum()
