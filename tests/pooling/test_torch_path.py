"""Pools in torch, as on a GPU, against the kernels of the CPU: one semantics, ties and NaN too."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ebm3d.boxes.kernels import forced_torch
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes


def _tied_points() -> PointBoxPool:
    """All points inside a box reach every maximum; only one of them gets its gradient."""
    pool = PointBoxPool((6, 5))
    nn.init.zeros_(pool.second.weight)
    nn.init.ones_(pool.second.bias)
    return pool


_RANGE = (-12.0, -12.0, -3.0, 12.0, 12.0, 1.0)
_POOLS: dict[str, Any] = {
    "bev": lambda: BEVGridPool(5, grid=(3, 4), projection=4),
    "bev without projection": lambda: BEVGridPool(5, grid=(2, 3), projection=None, extent=1.3),
    "bev at cell corners": lambda: BEVGridPool(5, projection=2, center_offset=0.0),
    "points": lambda: PointBoxPool((6, 5)),
    "thinned points": lambda: PointBoxPool((6, 5), max_points=7),
    "points without intensity": lambda: PointBoxPool((6, 5), num_features=3),
    "tied points": _tied_points,
    "points in motion": lambda: PointBoxPool(
        (6, 5), time_feature=3, feature_scales=[2.0], max_velocity_shift=1.0
    ),
}


def _inputs(frames: int, device: str | torch.device = "cpu") -> tuple[Scenes, Tensor, Tensor]:
    """Scenes, boxes ``(8, 7)``, some of them at the border of the map or beyond, and frames."""
    low = torch.tensor([-9.0, -9, -2, 1, 1, 1, -3], dtype=torch.float64)
    boxes = low + torch.rand(8, 7).double() * torch.tensor([18.0, 18, 1, 3, 1, 1, 6])
    boxes[0, :2], boxes[1, :2], boxes[2, :2] = -12.0, 12.1, 40.0
    spread = torch.randn(8, 50, 3).double() * torch.tensor([1.5, 1.0, 0.6])
    points = torch.cat((boxes[:, None, :3] + spread, torch.rand(8, 50, 1).double()), dim=2)
    points = points.reshape(-1, 4)
    # The clouds of a batch have different lengths, the last has none.
    parts = [points] if frames == 1 else [points, points[:150], points[:0]][:frames]
    bev = torch.randn(frames, 5, 9, 11).double()
    scenes = Scenes.from_range(bev.to(device), _RANGE, [part.to(device) for part in parts])
    return scenes, boxes.to(device), (torch.arange(8) % frames).to(device)


def _run(
    pool: nn.Module, scenes: Scenes, boxes: Tensor, scene: Tensor, second: bool
) -> list[Tensor]:
    """Features, their gradients in everything, or those of a gradient in the boxes."""
    generator = torch.Generator().manual_seed(1)
    if getattr(pool, "time_feature", None) is not None:
        velocities = torch.randn(8, 2, dtype=torch.float64, generator=generator)
        boxes = torch.cat((boxes, velocities.to(boxes)), dim=1)
    noise = torch.randn(8, 3, boxes.shape[1], dtype=torch.float64, generator=generator)
    variants = (boxes[:, None] + 0.1 * noise.to(boxes)).requires_grad_()
    scenes.bev.requires_grad_(isinstance(pool, BEVGridPool))
    pooled = pool(pool.prepare(scenes, boxes, scene), variants)
    weight = torch.linspace(-1, 1, pooled.numel(), dtype=torch.float64).to(pooled)
    of = [variants, *pool.parameters()]
    value = (pooled * weight.view_as(pooled)).sum()
    if second:
        (gradient,) = torch.autograd.grad(value, variants, create_graph=True)
        weights = torch.arange(1.0, boxes.shape[1] + 1)
        value = (gradient * weights.to(gradient)).sum()
    elif scenes.bev.requires_grad:
        of.append(scenes.bev)
    return [pooled.detach(), *torch.autograd.grad(value, of, allow_unused=True)]


@pytest.mark.parametrize("name", _POOLS)
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("second", [False, True])
def test_features_and_gradients_are_those_of_the_kernels(name: str, frames: int, second: bool):
    pool = _POOLS[name]().double()
    inputs = _inputs(frames)
    results = []
    for context in (nullcontext(), forced_torch()):
        with context:
            results.append(_run(pool, *inputs, second))
    for kernels, in_torch in zip(*results, strict=True):
        if kernels is not None or in_torch is not None:
            torch.testing.assert_close(in_torch, kernels, rtol=1e-9, atol=1e-9)


def _not_finite(
    pool: nn.Module, moved: bool, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Features and gradients of boxes of which the numbers of the first seven are not finite."""
    torch.manual_seed(0)
    scenes, boxes, scene = _inputs(1, device)
    scenes.points[0][::7, 0] = math.nan
    scenes.points[0][1::7, 2] = math.inf
    at = boxes[7:].repeat(9, 1)
    values = [math.nan, math.inf, -math.inf, math.nan, math.inf, math.nan, math.inf]
    at[range(7), range(7)] = torch.tensor(values).to(at)
    context = pool.prepare(scenes, boxes[7:].repeat(9, 1) if moved else at, scene[:1].repeat(9))
    at.requires_grad_()
    pooled = pool(context, at[:, None])[:, 0]
    return pooled.detach(), torch.autograd.grad(pooled.sum(), at)[0]


@pytest.mark.parametrize("name", _POOLS)
@pytest.mark.parametrize("moved", [False, True])
def test_boxes_that_are_not_finite_have_features_and_gradients_of_nan(name: str, moved: bool):
    pool = _POOLS[name]().double()
    expected = _not_finite(pool, moved)
    with forced_torch():
        in_torch = _not_finite(pool, moved)
    for kernels, other in zip(expected, in_torch, strict=True):
        torch.testing.assert_close(other, kernels, rtol=1e-9, atol=1e-9, equal_nan=True)
        assert torch.isnan(kernels).all(dim=1).tolist() == [True] * 7 + [False] * 2
        assert bool(kernels[7:].isfinite().all())
    assert bool((expected[0][7:] != 0).any())


@pytest.mark.parametrize("name", _POOLS)
def test_boxes_that_are_not_finite_are_nan_on_cuda(name: str, cuda: torch.device):
    pool = _POOLS[name]().double()
    expected = _not_finite(pool, True)
    for values, on_cpu in zip(_not_finite(pool.to(cuda), True, cuda), expected, strict=True):
        torch.testing.assert_close(values.cpu(), on_cpu, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", _POOLS)
@pytest.mark.parametrize("second", [False, True])
def test_features_and_gradients_are_those_of_the_cpu(name: str, second: bool, cuda: torch.device):
    pool = _POOLS[name]().double()
    torch.manual_seed(0)
    expected = _run(pool, *_inputs(3), second)
    torch.manual_seed(0)
    found = _run(pool.to(cuda), *_inputs(3, cuda), second)
    for on_cpu, on_cuda in zip(expected, found, strict=True):
        if on_cpu is not None or on_cuda is not None:
            torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", _POOLS)
@pytest.mark.parametrize("frames", [1, 3])
def test_nothing_is_read_on_the_host_and_no_device_is_mixed(name: str, frames: int):
    pool = _POOLS[name]().double().to("meta")
    for second in (False, True):
        for result in _run(pool, *_inputs(frames, "meta"), second):
            assert result is None or result.is_meta


@pytest.mark.parametrize("name", _POOLS)
def test_gradients_are_the_same_where_torch_has_to_be_deterministic(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    pool, inputs = _POOLS[name]().double(), _inputs(3)
    with forced_torch():
        expected = _run(pool, *inputs, False)
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
        found = _run(pool, *inputs, False)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["bev", "points"])
def test_gradients_in_torch_are_those_of_differences(name: str):
    pool = _POOLS[name]().double()
    scenes, boxes, scene = _inputs(1)
    with forced_torch():
        context = pool.prepare(scenes, boxes[3:5], scene[3:5])
        variants = boxes[3:5, None].clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda b: pool(context, b), (variants,))


def _in_tf32(value: Tensor) -> Tensor:
    """Numbers rounded to the ten bits of mantissa that products of TF32 read."""
    bits = value.detach().contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class _ProductsInTF32(TorchDispatchMode):
    """Matrix products as of a GPU whose user allows TF32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        num_factors = 2 if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm") else 0
        first = len(args) - num_factors
        args = (*args[:first], *map(_in_tf32, args[first:]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["bev without projection", "points"])
def test_products_in_tf32_do_not_round_where_a_box_is(name: str):
    # Boxes at 64 m and beyond would lie on a grid of 6 cm. A step of that size is the measure:
    # rounding the rest, by 2^-11 of sizes and of relative coordinates, is a tenth of it at most.
    pool, steps = _POOLS[name](), torch.linspace(0, 0.06, 13)
    boxes = torch.tensor([[68.0, 30.3, -1.6, 3.9, 1.6, 1.5, 0.4]]).expand(13, 7).clone()
    boxes[:, :2] += steps[:, None]
    points = boxes[0, :4] + torch.randn(200, 4) * torch.tensor([1.5, 1.0, 0.6, 0.0])
    scenes = Scenes.from_range(torch.randn(1, 5, 200, 176), (0, -40, -3, 70.4, 40, 1), [points])
    with forced_torch(), torch.no_grad():
        context = pool.prepare(scenes, boxes[:1], torch.zeros(1, dtype=torch.int64))
        exact = pool(context, boxes[None])
        with _ProductsInTF32():
            rounded = pool(context, boxes[None])
    step = (exact[:, -1] - exact[:, 0]).norm()
    error = (rounded - exact).norm(dim=-1)
    # What is the same for all steps does not matter: the rounding of the layers' weights.
    assert float((error - error.mean()).abs().max()) < 0.1 * float(step)


def test_crops_made_for_kernels_are_read_in_torch_where_these_do_not_serve():
    pool, (scenes, boxes, scene) = PointBoxPool((6, 5)).double(), _inputs(3)
    crops = pool.prepare(scenes, boxes, scene)
    expected = pool(crops, boxes[:, None])
    with forced_torch():
        torch.testing.assert_close(pool(crops, boxes[:, None]), expected, rtol=1e-9, atol=1e-9)
