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
from gpu_stages.measure import measured
from gpu_stages.problem import draw_cars

_NUM_BOXES = 50


class Detector:
    """A detector with a refinement head, with random weights, and frames for it.

    Args:
        config: name of a config with a ``RefinedDenseHead``.
        device: where it runs.
        num_frames: of a training step; inference sees one.
    """

    def __init__(self, config: str, device: torch.device, num_frames: int) -> None:
        cfg = Config.fromfile(config_path(config))
        init_default_scope("mmdet3d")
        torch.manual_seed(0)
        self.model: Any = MODELS.build(cfg.model).to(device)
        head = self.model.bbox_head
        # Scores around one half, so that as many candidates as can be go to NMS and are refined.
        nn.init.normal_(head.dense_head.conv_cls.weight, std=0.01)
        nn.init.zeros_(head.dense_head.conv_cls.bias)
        nn.init.normal_(list(head.refinement_head.network.parameters())[-2], std=0.03)
        self.num_frames, self.device = num_frames, device
        low, high = torch.tensor(head.refinement_head.point_cloud_range).split(3)
        self.boxes, self.points = (
            part[((part[:, :3] > low) & (part[:, :3] < high)).all(dim=1)].float()
            for part in draw_cars(_NUM_BOXES)
        )

    def batch(self, count: int) -> dict[str, Any]:
        """Return what a data loader hands over: ``count`` frames on the CPU."""
        samples = []
        for _ in range(count):
            sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
            sample.gt_instances_3d = InstanceData(
                bboxes_3d=LiDARInstance3DBoxes(self.boxes),
                labels_3d=torch.zeros(len(self.boxes), dtype=torch.int64),
            )
            samples.append(sample)
        return {"inputs": {"points": [self.points] * count}, "data_samples": samples}

    def ready(self, count: int) -> dict[str, Any]:
        """Return such a batch voxelized, on the device."""
        data: dict[str, Any] = self.model.data_preprocessor(self.batch(count))
        return data

    @torch.no_grad()
    def forward(self, data: dict[str, Any]) -> tuple[Tensor, ...]:
        """Return the maps of the neck."""
        maps: tuple[Tensor, ...] = self.model.extract_feat(data["inputs"])
        return maps

    @torch.no_grad()
    def predict(self) -> list[Any]:
        """From points on the CPU to refined boxes."""
        results: list[Any] = self.model(**self.ready(1), mode="predict")
        return results

    def train(self) -> None:
        """From points on the CPU to gradients of the detector's parameters."""
        self.model.zero_grad(set_to_none=True)
        data = self.ready(self.num_frames)
        maps = self.model.extract_feat(data["inputs"])
        _total(self.model.bbox_head.dense_head.loss(maps, data["data_samples"])).backward()

    def train_head(self, maps: tuple[Tensor, ...], data: dict[str, Any]) -> None:
        """A step of the refinement head on the maps of a frozen detector."""
        head = self.model.bbox_head.refinement_head
        head.zero_grad(set_to_none=True)
        truths = [s.gt_instances_3d for s in data["data_samples"]]
        boxes, labels = [t.bboxes_3d.tensor for t in truths], [t.labels_3d for t in truths]
        _total(head.loss(maps[0], data["inputs"]["points"], boxes, labels)).backward()

    @torch.no_grad()
    def refine(self, maps: tuple[Tensor, ...], data: dict[str, Any], boxes: Tensor) -> Any:
        """Refine boxes ``(N, 7)`` of one frame."""
        labels = torch.zeros(len(boxes), dtype=torch.int64, device=self.device)
        scores = torch.linspace(1, 0.1, len(boxes), device=self.device)
        head, points = self.model.bbox_head.refinement_head, data["inputs"]["points"]
        return head.refine(maps[0], points, [boxes], [labels], [scores])


def run_detector(
    config: str, device: torch.device, num_frames: int, repeats: int
) -> dict[str, dict[str, Any]]:
    """Measure every stage.

    Returns:
        Time, counts and memory by stage; the number of boxes a prediction gives with it.
    """
    own = Detector(config, device, num_frames)
    model = own.model.eval()
    one, many = own.ready(1), own.ready(num_frames)
    maps, all_maps = own.forward(one), own.forward(many)
    boxes = own.boxes.repeat(1 + _NUM_BOXES // max(1, len(own.boxes)), 1)[:_NUM_BOXES]
    boxes = boxes.to(device)
    dense_head = model.bbox_head.dense_head
    predict = torch.no_grad()(lambda: dense_head.predict(maps, one["data_samples"]))
    stages = {
        "points to voxels": lambda: own.ready(1),
        "voxels to map": lambda: own.forward(one),
        "map to boxes": predict,
        f"refinement of {_NUM_BOXES} boxes": lambda: own.refine(maps, one, boxes),
        "points to refined boxes": own.predict,
        f"training step of the refinement head, frames: {num_frames}": lambda: own.train_head(
            all_maps, many
        ),
    }
    found = {name: measured(stage, device, repeats) for name, stage in stages.items()}
    found["points to refined boxes"]["boxes"] = len(own.predict()[0].pred_instances_3d.scores_3d)
    model.train()
    name = f"training step of the detector, frames: {num_frames}"
    found[name] = measured(own.train, device, repeats)
    return found


def _total(losses: dict[str, Any]) -> Tensor:
    """Sum of the losses among what is logged; the host's come in lists."""
    terms = [v for name, v in losses.items() if "loss" in name]
    listed = [t for term in terms for t in (term if isinstance(term, list) else [term])]
    return torch.stack([term.sum() for term in listed]).sum()
