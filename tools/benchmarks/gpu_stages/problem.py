"""Drawn scenes of cars, and the pools and networks of the presets with random weights.

N cars; C, H, W channels, rows and columns of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ebm3d.boxes.corners import corners_3d
from ebm3d.energy import BoxEnergy, EnergyNetwork, Paper2020EnergyNetwork
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from ebm3d.refiners import QuasiNewtonAscent

RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
MAP = (512, 200, 176)  # of the stock SECOND
MEAN_SIZES = [[3.9, 1.6, 1.56]]
UNITS = [[0.25, 0.10, 0.12, 0.40, 0.10, 0.12, 0.08]]
NOISE = BoxNoise([[0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08]], multipliers=(0.5, 1.0, 2.0))
REFINER = QuasiNewtonAscent(
    num_steps=10, step_size=0.1, step_scale=UNITS, axes="box", max_step=0.5, max_displacement=3.0
)
_CLUTTER = 18_000
_ERRORS = (0.25, 0.10, 0.12, 0.30, 0.10, 0.10, 0.08)


@dataclass(frozen=True)
class Scene:
    """One frame.

    Attributes:
        bev: ``(1, C, H, W)``.
        points: ``(P, 4)``.
        boxes: ``(N, 7)`` true ones.
        detected: ``(N, 7)``, with a detector's errors.
        labels: ``(N,)``.
    """

    bev: Tensor
    points: Tensor
    boxes: Tensor
    detected: Tensor
    labels: Tensor


def draw_cars(num_boxes: int) -> tuple[Tensor, Tensor]:
    """Draw cars, and points on them and on the ground; always the same ones of a number.

    Args:
        num_boxes: N.

    Returns:
        Boxes ``(N, 7)`` and points ``(P, 4)``, float64.
    """
    draw = torch.Generator().manual_seed(num_boxes)
    kinds = {"generator": draw, "dtype": torch.float64}
    low = torch.tensor([5.0, -35, -1.8, 3.6, 1.5, 1.4, -3], dtype=torch.float64)
    spread = torch.tensor([60.0, 70, 0.2, 0.6, 0.2, 0.2, 6], dtype=torch.float64)
    boxes = low + spread * torch.rand(num_boxes, 7, **kinds)
    each = 150 if num_boxes < 500 else 40
    corners = corners_3d(boxes)  # points lie between two of them
    ends = torch.randint(8, (num_boxes, each, 2), generator=draw)
    rows = torch.arange(num_boxes)[:, None]
    share = torch.rand(num_boxes, each, 1, **kinds)
    on_cars = torch.lerp(corners[rows, ends[..., 0]], corners[rows, ends[..., 1]], share)
    low, spread = torch.tensor([0.0, -40, -2]), torch.tensor([70.0, 80, 0.6])
    ground = low + spread * torch.rand(_CLUTTER, 3, **kinds)
    places = torch.cat((on_cars.reshape(-1, 3), ground))
    return boxes, torch.cat((places, torch.rand(len(places), 1, **kinds)), dim=1)


class Model(nn.Module):
    """Pools and energy network of a preset; random, and steep enough that boxes move.

    Args:
        channels: C.
        preset: "default" or "paper2020".
    """

    def __init__(self, channels: int, preset: str) -> None:
        super().__init__()
        pools: list[Any]
        if preset == "default":
            pools = [BEVGridPool(channels, grid=(4, 7), projection=32), PointBoxPool()]
        else:
            pools = [BEVGridPool(channels, grid=(4, 7), projection=None, center_offset=0.0)]
        self.pools = nn.ModuleList(pools)
        self.num_features: int = sum(pool.out_channels for pool in pools)
        self.network: nn.Module = (
            EnergyNetwork(self.num_features, MEAN_SIZES)
            if preset == "default"
            else Paper2020EnergyNetwork(self.num_features)
        )
        with torch.no_grad():
            for parameter in list(self.network.parameters())[-2:]:
                parameter.mul_(30)

    def bind(self, scene: Scene, boxes: Tensor) -> BoxEnergy:
        """Return f near boxes ``(N, 7)`` of a scene."""
        scenes = Scenes.from_range(scene.bev, RANGE, [scene.points])
        network: Any = self.network
        pools: list[Any] = list(self.pools)
        return BoxEnergy(pools, network, scenes, boxes, scene.labels)


class Problem:
    """Scenes on one map, and models for them.

    Args:
        shape: C, H, W of the map.
    """

    def __init__(self, shape: Sequence[int] = MAP) -> None:
        self.channels = shape[0]
        draw = torch.Generator().manual_seed(0)
        bev = torch.randn((1, *shape), generator=draw, dtype=torch.float64)
        self._bev = torch.relu(bev)

    def scene(
        self, num_boxes: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Scene:
        """Return the scene of so many cars, on a device, in a floating-point type."""
        boxes, points = draw_cars(num_boxes)
        draw = torch.Generator().manual_seed(num_boxes)
        errors = torch.randn(num_boxes, 7, generator=draw) * torch.tensor(_ERRORS)
        moved = (t.to(device, dtype) for t in (self._bev, points, boxes, boxes + errors))
        return Scene(*moved, torch.zeros(num_boxes, dtype=torch.int64, device=device))

    def model(
        self, device: torch.device, preset: str = "default", dtype: torch.dtype = torch.float32
    ) -> Model:
        """Return a model with weights of seed 0; presets "default" and "paper2020"."""
        torch.manual_seed(0)
        return Model(self.channels, preset).to(device, dtype)
