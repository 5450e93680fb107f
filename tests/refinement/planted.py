"""An energy whose maxima are known, in place of a trained one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
from ebm3d.refinement.refiner import DetectedFrame

STDS = (0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08)
SETTINGS = EnergySettings(("Car",), ((3.9, 1.6, 1.56),), (STDS,))


class PlantedEnergy(PointsEnergy):
    """A quadratic around given boxes, less ``shift``; the boxes are found by their centers."""

    def __init__(self, true: np.ndarray, shift: Tensor, sharpness: float) -> None:
        super().__init__(SETTINGS)
        self.true, self.shift = torch.from_numpy(true).float(), shift
        self.sharpness = sharpness

    def around(self, points, boxes, labels, frame_index=None):
        near = torch.cdist(boxes[:, :2], self.true[:, :2]).argmin(dim=1)
        coding = LocalCoding(self.true[near], torch.tensor(STDS).expand(len(boxes), 7))

        def f(variants: Tensor) -> Tensor:
            if variants.ndim == 2:
                return f(variants[:, None])[:, 0]
            offsets = coding.encode(variants) + self.shift / torch.tensor(STDS)
            return -0.5 * self.sharpness * offsets.square().sum(dim=-1)

        return f


def planted_frames(
    num_frames: int, noise: float, mean: np.ndarray | None = None, seed: int = 0
) -> tuple[list[DetectedFrame], list[np.ndarray]]:
    """Frames of four cars, 40 m apart, full of points, and their detections off by noise."""
    generator = np.random.default_rng(seed)
    frames, true = [], []
    for index in range(num_frames):
        boxes = np.tile([0, 0, -1.7, 3.9, 1.6, 1.5, 0.0], (4, 1))
        boxes[:, 0] = 20 + 40 * np.arange(4) + 200 * index
        boxes[:, 6] = generator.uniform(-3, 3, 4)
        offsets = noise * generator.normal(size=(4, 7)) * STDS
        if mean is not None:
            offsets = offsets + mean
        coding = LocalCoding(torch.from_numpy(boxes), torch.ones(4, 7, dtype=torch.float64))
        detected = coding.decode(torch.from_numpy(offsets)).numpy()
        points = boxes[:, None, :3] + generator.uniform(-0.4, 0.4, (4, 60, 3)) + [0, 0, 0.75]
        cloud = np.concatenate((points.reshape(-1, 3), np.zeros((240, 1))), 1).astype(np.float32)
        labels, scores = np.zeros(4, dtype=np.int64), generator.uniform(0, 1, 4)
        frames.append(DetectedFrame(cloud, detected, labels, scores))
        true.append(boxes)
    return frames, true
