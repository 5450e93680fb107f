"""The core alone on drawn scenes: figures against the CPU's, refinement, steps of training.

N cars; C, H, W channels, rows and columns of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm3d.boxes.corners import corners_3d
from ebm3d.boxes.kernels import forced_torch
from ebm3d.energy import BoxEnergy, EnergyNetwork, Paper2020EnergyNetwork
from ebm3d.losses import NCELoss
from ebm3d.noise import BoxNoise
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from ebm3d.refiners import QuasiNewtonAscent, RefinementResult
from gpu_stages.measure import measured, milliseconds

RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
MAP = (512, 200, 176)  # of the stock SECOND
MEAN_SIZES = [[3.9, 1.6, 1.56]]
UNITS = [[0.25, 0.10, 0.12, 0.40, 0.10, 0.12, 0.08]]
NOISE = BoxNoise([[0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08]], multipliers=(0.5, 1.0, 2.0))
REFINER = QuasiNewtonAscent(
    num_steps=10, step_size=0.1, step_scale=UNITS, axes="box", max_step=0.5, max_displacement=3.0
)
_NUM_GROUND_POINTS = 18_000
_DETECTION_STD = (0.25, 0.10, 0.12, 0.30, 0.10, 0.10, 0.08)
_CPU = torch.device("cpu")

Rows = dict[str, dict[str, Any]]
"""Figures by case."""


class Scene(NamedTuple):
    """One frame: map ``(1, C, H, W)``, points ``(P, 4)``, boxes ``(N, 7)``, labels ``(N,)``."""

    bev: Tensor
    points: Tensor
    boxes: Tensor
    detected: Tensor
    labels: Tensor


def draw_cars(num_boxes: int) -> tuple[Tensor, Tensor]:
    """Draw cars ``(N, 7)``, and points ``(P, 4)`` on them and on the ground, float64."""
    draw = torch.Generator().manual_seed(num_boxes)
    kinds = {"generator": draw, "dtype": torch.float64}
    low = torch.tensor([5.0, -35, -1.8, 3.6, 1.5, 1.4, -3], dtype=torch.float64)
    spread = torch.tensor([60.0, 70, 0.2, 0.6, 0.2, 0.2, 6], dtype=torch.float64)
    boxes = low + spread * torch.rand(num_boxes, 7, **kinds)
    each = 150 if num_boxes < 500 else 40
    corners = corners_3d(boxes)  # points lie between two of them
    # Two different ones: of points at one position a thinned crop may keep any.
    first, further = (torch.randint(n, (num_boxes, each), generator=draw) for n in (8, 7))
    second = (first + 1 + further) % 8
    rows = torch.arange(num_boxes)[:, None]
    share = torch.rand(num_boxes, each, 1, **kinds)
    on_cars = torch.lerp(corners[rows, first], corners[rows, second], share)
    low, spread = torch.tensor([0.0, -40, -2]), torch.tensor([70.0, 80, 0.6])
    ground = low + spread * torch.rand(_NUM_GROUND_POINTS, 3, **kinds)
    positions = torch.cat((on_cars.reshape(-1, 3), ground))
    return boxes, torch.cat((positions, torch.rand(len(positions), 1, **kinds)), dim=1)


class Model(nn.Module):
    """Pools and energy network of a preset; random, and steep enough that boxes move."""

    def __init__(self, channels: int, preset: str) -> None:
        super().__init__()
        if preset == "default":
            pools = [BEVGridPool(channels, grid=(4, 7), projection=32), PointBoxPool()]
        else:
            pools = [BEVGridPool(channels, grid=(4, 7), projection=None, center_offset=0.0)]
        self.pools = nn.ModuleList(pools)
        size = sum(pool.out_channels for pool in pools)
        default = preset == "default"
        self.network = EnergyNetwork(size, MEAN_SIZES) if default else Paper2020EnergyNetwork(size)
        with torch.no_grad():
            for parameter in list(self.network.parameters())[-2:]:
                parameter.mul_(30)

    def make_energy(self, scene: Scene, boxes: Tensor) -> BoxEnergy:
        """Return f near boxes ``(N, 7)`` of a scene."""
        scenes = Scenes.from_range(scene.bev, RANGE, [scene.points])
        return BoxEnergy(list(self.pools), self.network, scenes, boxes, scene.labels)

    @torch.no_grad()
    def refine(self, scene: Scene) -> RefinementResult:
        """Refine the detected boxes of a scene."""
        energy = self.make_energy(scene, scene.detected)
        return REFINER(energy, scene.detected, scene.labels)


class Problem:
    """Scenes on one map of shape ``(C, H, W)``, and models for them."""

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
        errors = torch.randn(num_boxes, 7, generator=draw) * torch.tensor(_DETECTION_STD)
        moved = (t.to(device, dtype) for t in (self._bev, points, boxes, boxes + errors))
        return Scene(*moved, torch.zeros(num_boxes, dtype=torch.int64, device=device))

    def model(
        self, device: torch.device, preset: str = "default", dtype: torch.dtype = torch.float32
    ) -> Model:
        """Return a model with weights of seed 0; presets "default" and "paper2020"."""
        torch.manual_seed(0)
        return Model(self.channels, preset).to(device, dtype)


def correctness(problem: Problem, device: torch.device, num_boxes: int) -> Rows:
    """Refine a scene with the same weights by kernels on the CPU, and in torch on a device.

    Returns:
        By type of numbers, the largest absolute difference of ``f_initial``, ``f_final`` and
        ``boxes``; beside them ``moved``, the farthest a coordinate moved, and ``spread_of_f``.
    """
    rows = {}
    for dtype in (torch.float64, torch.float32):
        with forced_torch():
            scene = problem.scene(num_boxes, device, dtype)
            ours = problem.model(device, dtype=dtype).refine(scene)
        reference = problem.model(_CPU, dtype=dtype).refine(problem.scene(num_boxes, _CPU, dtype))
        names = ("f_initial", "f_final", "boxes")
        row = {n: _difference(getattr(ours, n), getattr(reference, n)) for n in names}
        row["moved"] = _difference(reference.boxes, scene.detected)
        row["spread_of_f"] = float(reference.f_initial.std())
        rows[str(dtype).removeprefix("torch.")] = row
    return rows


def refinement(problem: Problem, device: torch.device, sizes: Sequence[int], repeats: int) -> Rows:
    """Time the refinement of scenes of so many boxes, in float32.

    Returns:
        By number of boxes: binding and ascent together (``ms``, with counts and memory),
        ``bind_ms`` and ``refine_ms`` alone, and ``paper2020_ms``, together, of that preset.
    """
    model, paper = problem.model(device), problem.model(device, "paper2020")

    @torch.no_grad()
    def row_of(scene: Scene) -> dict[str, Any]:
        boxes = scene.detected
        f = model.make_energy(scene, boxes)
        return {
            **measured(lambda: model.refine(scene), device, repeats),
            "bind_ms": milliseconds(lambda: model.make_energy(scene, boxes), device, repeats),
            "refine_ms": milliseconds(lambda: REFINER(f, boxes, scene.labels), device, repeats),
            "paper2020_ms": milliseconds(lambda: paper.refine(scene), device, repeats),
        }

    return {str(size): row_of(problem.scene(size, device)) for size in sizes}


def training(
    problem: Problem, device: torch.device, sizes: Sequence[tuple[int, int]], repeats: int
) -> Rows:
    """Time steps of NCE, less the optimizer's, by boxes and noise samples of each."""
    model = problem.model(device)

    def row_of(scene: Scene, criterion: NCELoss) -> dict[str, Any]:
        def step() -> None:
            model.zero_grad(set_to_none=True)
            f = model.make_energy(scene, scene.boxes)
            result = criterion(f, NOISE.around(scene.boxes, scene.labels))
            result.per_box.mean().backward()

        return measured(step, device, repeats)

    return {
        f"{num} x {samples}": row_of(problem.scene(num, device), NCELoss(samples))
        for num, samples in sizes
    }


def _difference(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference, on any two devices."""
    return float((first.cpu().double() - second.cpu().double()).abs().max())
