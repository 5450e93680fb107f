"""Small refinement heads on a map of 12.8 m x 12.8 m, dense heads that they refine, frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import ebm3d
from tests.adapters.tiny import RANGE, build_sample

CHANNELS, CELLS = 8, 32  # cells of 0.4 m, as the anchors assume
REFINEMENT_HEAD: dict[str, Any] = {
    "type": "EBMRefinementHead",
    "in_channels": CHANNELS,
    "point_cloud_range": RANGE,
    "pooling": [
        {"type": "BEVGridPool", "grid": (3, 4), "projection": 4},
        {"type": "PointBoxPool", "channels": (8, 8)},
    ],
    "network": {
        "type": "EnergyNetwork",
        "mean_sizes": [[3.9, 1.6, 1.56]],
        "hidden_channels": (16,),
    },
    "noise": {"type": "BoxNoise", "stds": [0.25, 0.12, 0.08, 0.06, 0.06, 0.06, 0.06]},
    "loss": {"type": "NCELoss", "num_noise_samples": 16},
    "refiner": {
        "type": "GradientAscent",
        "num_steps": 4,
        "step_size": 0.5,
        "step_scale": [0.25, 0.12, 0.08, 0.25, 0.1, 0.1, 0.06],
        "axes": "box",
        "max_step": 0.5,
        "max_displacement": 3.0,
    },
    "max_refined": 100,
}
REGRESSION_HEAD: dict[str, Any] = {
    **{key: value for key, value in REFINEMENT_HEAD.items() if key not in ("loss", "refiner")},
    "type": "RegressionRefinementHead",
    "network": {**REFINEMENT_HEAD["network"], "type": "RegressionNetwork"},
    "regression": {"type": "GaussianBoxRegression"},
    "num_noise_samples": 8,
}
PROPOSAL: dict[str, Any] = {
    "type": "LearnedProposal",
    "base": REFINEMENT_HEAD["noise"],
    "num_components": 2,
    "hidden_channels": (8,),
}


@dataclass
class Frames:
    """Frames: map, clouds, boxes, labels, scores."""

    bev: Tensor
    points: list[Tensor]
    boxes: list[Tensor]
    labels: list[Tensor]
    scores: list[Tensor]

    def one(self, index: int) -> Frames:
        """The frame alone."""
        return Frames(*(part[index : index + 1] for part in vars(self).values()))

    def to(self, device: torch.device) -> Frames:
        """The frames on a device."""
        lists = (self.points, self.boxes, self.labels, self.scores)
        return Frames(self.bev.to(device), *([t.to(device) for t in part] for part in lists))


def build_frames(counts: tuple[int, ...] = (3, 2)) -> Frames:
    """Random frames with so many boxes each, points in and around the boxes."""
    low = torch.tensor([3.0, -4, -2, 3, 1.4, 1.2, -3])
    spread = torch.tensor([7.0, 8, 0.5, 1.5, 0.5, 0.5, 6])
    boxes = [low + spread * torch.rand(count, 7) for count in counts]
    clouds = []
    for each in boxes:
        around = each[:, None, :3] + torch.randn(len(each), 50, 3) * torch.tensor([1.2, 0.8, 0.5])
        clouds.append(torch.cat((around, torch.rand(len(each), 50, 1)), dim=2).reshape(-1, 4))
    return Frames(
        torch.randn(len(counts), CHANNELS, CELLS, CELLS),
        clouds,
        boxes,
        [torch.zeros(count, dtype=torch.int64) for count in counts],
        [torch.rand(count) for count in counts],
    )


def build_head(**options: Any) -> Any:
    """An :class:`EBMRefinementHead` whose f varies from the start."""
    from mmdet3d.registry import MODELS

    head = MODELS.build({**REFINEMENT_HEAD, **options})
    nn.init.normal_(head.network.layers[-1].weight)
    return head


def build_regression_head(
    regression: str | dict[str, Any] = "GaussianBoxRegression", **options: Any
) -> Any:
    """A :class:`RegressionRefinementHead` whose outputs vary from the start."""
    from mmdet3d.registry import MODELS

    config = {"type": regression} if isinstance(regression, str) else regression
    head = MODELS.build({**REGRESSION_HEAD, "regression": config, **options})
    nn.init.normal_(head.network.layers[-1].weight, std=0.5)
    return head


def losses_of(head: Any, frames: Frames, seed: int | None = 0) -> dict[str, Tensor]:
    """The losses of frames; without a seed, the noise goes on where the last draw stopped."""
    if seed is not None:
        torch.manual_seed(seed)
    return head.loss(frames.bev, frames.points, frames.boxes, frames.labels)


def refine(head: Any, frames: Frames) -> list[dict[str, Any]]:
    """The refined boxes of frames."""
    return head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)


def dense_config() -> dict[str, Any]:
    """Options of a ``RefinedDenseHead``: the head of the shipped configs on the small map."""
    from mmengine import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    model = Config.fromfile(ebm3d.config_path("second_kitti_cpu.py")).model
    head, test = model.bbox_head, model.test_cfg
    head.in_channels = head.feat_channels = CHANNELS
    head.anchor_generator.ranges = [[0, -6.4, -1.78, 12.8, 6.4, -1.78]]
    test.score_thr, test.nms_pre, test.max_num, test.nms_thr = 0.0, 40, 12, 0.3
    return {"dense_head": head.to_dict(), "train_cfg": model.train_cfg, "test_cfg": test}


def build_refined(**options: Any) -> Any:
    """A dense head with a refinement head."""
    from mmdet3d.registry import MODELS

    torch.manual_seed(0)
    config = {"type": "RefinedDenseHead", "refinement_head": REFINEMENT_HEAD, **dense_config()}
    head = MODELS.build({**config, **options})
    nn.init.normal_(head.refinement_head.network.layers[-1].weight)
    return head


def samples_of(frames: Frames) -> list[Any]:
    """The frames as samples with true boxes."""
    return [build_sample(*part) for part in zip(frames.boxes, frames.labels, strict=True)]


def predict(head: Any, frames: Frames) -> list[Any]:
    """What a dense head with a refinement head predicts."""
    from ebm3d.adapters.detectors import MapsAndPoints

    with torch.no_grad():
        return head.eval().predict(MapsAndPoints([frames.bev], frames.points), samples_of(frames))


class Detector(nn.Module):
    """A detector reduced to its head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.bbox_head = head
