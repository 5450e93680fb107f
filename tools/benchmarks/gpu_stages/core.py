"""The core alone: the same figures as on a CPU, time of refinement, steps of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ebm3d.boxes.kernels import forced_torch
from ebm3d.losses import NCELoss
from ebm3d.refiners import RefinementResult
from gpu_stages.measure import measured, milliseconds
from gpu_stages.problem import NOISE, REFINER, Model, Problem, Scene

_CPU = torch.device("cpu")


def correctness(
    problem: Problem, device: torch.device, num_boxes: int
) -> dict[str, dict[str, float]]:
    """Refine a scene with the same weights by kernels on the CPU, and in torch on a device.

    Returns:
        By type of numbers, the largest absolute difference of ``f_initial``, ``f_final`` and
        ``boxes``; beside them ``moved``, the farthest a coordinate moved, and ``spread_of_f``.
    """
    found = {}
    for dtype in (torch.float64, torch.float32):
        with forced_torch():
            own = _refined(
                problem.scene(num_boxes, device, dtype), problem.model(device, dtype=dtype)
            )
        wanted = _refined(problem.scene(num_boxes, _CPU, dtype), problem.model(_CPU, dtype=dtype))
        found[str(dtype).removeprefix("torch.")] = {
            **{
                name: _difference(getattr(own, name), getattr(wanted, name))
                for name in ("f_initial", "f_final", "boxes")
            },
            "moved": _difference(wanted.boxes, problem.scene(num_boxes, _CPU, dtype).detected),
            "spread_of_f": float(wanted.f_initial.std()),
        }
    return found


def refinement(
    problem: Problem, device: torch.device, sizes: Sequence[int], repeats: int
) -> dict[str, dict[str, Any]]:
    """Time the refinement of scenes of so many boxes, in float32.

    Returns:
        By number of boxes: binding and ascent together (``ms``, with counts and memory),
        ``bind_ms`` and ``refine_ms`` alone, and ``paper2020_ms``, together, of that preset.
    """
    model, paper = problem.model(device), problem.model(device, "paper2020")
    found = {}
    for size in sizes:
        scene = problem.scene(size, device)
        with torch.no_grad():
            f = model.bind(scene, scene.detected)
        found[str(size)] = {
            **measured(_without_graph(_refined, scene, model), device, repeats),
            "bind_ms": milliseconds(
                _without_graph(model.bind, scene, scene.detected), device, repeats
            ),
            "refine_ms": milliseconds(
                _without_graph(REFINER, f, scene.detected, scene.labels), device, repeats
            ),
            "paper2020_ms": milliseconds(_without_graph(_refined, scene, paper), device, repeats),
        }
    return found


def training(
    problem: Problem, device: torch.device, sizes: Sequence[tuple[int, int]], repeats: int
) -> dict[str, dict[str, Any]]:
    """Time steps of NCE, less the optimizer's.

    Args:
        problem: scenes and model.
        device: where.
        sizes: boxes, and noise samples of each.
        repeats: of each.

    Returns:
        Time, counts and memory by ``"boxes x samples"``.
    """
    model = problem.model(device)
    found = {}
    for num_boxes, num_samples in sizes:
        scene = problem.scene(num_boxes, device)
        criterion = NCELoss(num_noise_samples=num_samples)

        def step(scene: Scene = scene, criterion: NCELoss = criterion) -> None:
            model.zero_grad(set_to_none=True)
            f = model.bind(scene, scene.boxes)
            result = criterion(f, NOISE.around(scene.boxes, scene.labels))
            result.per_box.mean().backward()

        found[f"{num_boxes} x {num_samples}"] = measured(step, device, repeats)
    return found


@torch.no_grad()
def _refined(scene: Scene, model: Model) -> RefinementResult:
    """Bind a scene and climb."""
    return REFINER(model.bind(scene, scene.detected), scene.detected, scene.labels)


def _without_graph(call: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call of these arguments, without gradients of parameters."""

    def run() -> Any:
        with torch.no_grad():
            return call(*arguments)

    return run


def _difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest absolute difference, wherever the two are."""
    return float((first.cpu().double() - second.cpu().double()).abs().max())
