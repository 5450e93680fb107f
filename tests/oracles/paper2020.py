"""The head of the 2020 paper, transcribed from its equations in its own conventions; slow.

Boxes are SECOND's ``(x, y, z_bottom, w, l, h, r)``: at r = 0 the width lies along +x and the length
along +y, and r grows clockwise seen from above (docs/method.md, M-1). Nothing here imports the
package. The loop of :func:`refine` is the published one with its published inefficiencies, or,
with ``clean=True``, without those that change nothing but time: the map is not copied per box, it
gets no gradient, and no graph of the gradient is built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK = 150  # boxes refined at a time
STDS = (  # x, y, z, w, l, h, r of the three components ("stds8")
    (0.0625, 0.0625, 0.03125, 0.03125, 0.03125, 0.03125, 0.015625),
    (0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625, 0.03125),
    (0.25, 0.25, 0.125, 0.125, 0.125, 0.125, 0.0625),
)


def to_paper(boxes: Tensor) -> Tensor:
    """Boxes ``(x, y, z, dx, dy, dz, yaw)``, counter-clockwise, in the paper's convention."""
    x, y, z, dx, dy, dz, yaw = boxes.unbind(dim=-1)
    return torch.stack((x, y, z, dy, dx, dz, -yaw - math.pi / 2), dim=-1)


def from_paper(boxes: Tensor) -> Tensor:
    """The inverse of :func:`to_paper`; yaw in (-pi, pi]."""
    x, y, z, w, length, h, r = boxes.unbind(dim=-1)
    yaw = -r - math.pi / 2
    yaw = torch.atan2(torch.sin(yaw), torch.cos(yaw))
    return torch.stack((x, y, z, length, w, h, yaw), dim=-1)


@dataclass(frozen=True)
class Map:
    """``features`` ``(C, H, W)``; ``x_min`` and ``y_min`` of its corner; meters a cell."""

    features: Tensor
    x_min: float
    y_min: float
    cell: float


class Network(nn.Module):
    """Sampled features, and z and h through branches of their own, to f."""

    def __init__(self, channels: int, hidden: int = 1024) -> None:
        super().__init__()
        self.z1, self.z2 = nn.Linear(1, 16), nn.Linear(16, 16)
        self.h1, self.h2 = nn.Linear(1, 16), nn.Linear(16, 16)
        self.fc1 = nn.Linear(channels * 28 + 32, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, sampled: Tensor, boxes: Tensor) -> Tensor:
        """``sampled`` ``(N, C, 4, 7)``, ``boxes`` ``(N, 7)`` to f ``(N,)``."""
        relu = functional.relu
        z = relu(self.z2(relu(self.z1(boxes[:, 2:3]))))
        h = relu(self.h2(relu(self.h1(boxes[:, 5:6]))))
        joined = torch.cat((sampled.flatten(1), z, h), dim=1)
        f: Tensor = self.fc3(relu(self.fc2(relu(self.fc1(joined)))))
        return f[:, 0]


def sampling_grid(boxes: Tensor, bev: Map) -> Tensor:
    """Normalized positions ``(N, 4, 7, 2)``: four across the width, seven along the length."""
    u = torch.linspace(-0.5, 0.5, 4, dtype=boxes.dtype)[None, :, None] * boxes[:, 3, None, None]
    v = torch.linspace(-0.5, 0.5, 7, dtype=boxes.dtype)[None, None, :] * boxes[:, 4, None, None]
    cos, sin = torch.cos(boxes[:, 6, None, None]), torch.sin(boxes[:, 6, None, None])
    x = u * cos + v * sin + boxes[:, 0, None, None]
    y = v * cos - u * sin + boxes[:, 1, None, None]
    _, height, width = bev.features.shape
    column, row = (x - bev.x_min) / bev.cell, (y - bev.y_min) / bev.cell
    return torch.stack((2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1), dim=-1)


def evaluate(network: Network, bev: Map, boxes: Tensor, copies: Tensor | None = None) -> Tensor:
    """f of N boxes; ``copies`` are the published N copies of the map ``(N, C, H, W)``."""
    grid = sampling_grid(boxes, bev)
    if copies is not None:
        sampled = functional.grid_sample(copies, grid, align_corners=True)
        return network(sampled, boxes)
    flat = grid.reshape(1, -1, 7, 2)
    sampled = functional.grid_sample(bev.features[None], flat, align_corners=True)
    return network(sampled[0].unflatten(1, (len(boxes), 4)).transpose(0, 1), boxes)


def refine(
    network: Network,
    bev: Map,
    boxes: Tensor,
    num_steps: int = 10,
    step_size: float = 2e-4,
    clean: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Refined boxes in the paper's convention, their f, and how many steps each accepted."""
    parts = [
        _refine_chunk(network, bev, part, num_steps, step_size, clean)
        for part in boxes.split(CHUNK)
    ]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _refine_chunk(
    network: Network, bev: Map, boxes: Tensor, num_steps: int, step_size: float, clean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """One chunk: two forwards and one backward a step."""
    copies = None
    if not clean:
        copies = bev.features[None].expand(len(boxes), -1, -1, -1)
    y = boxes.clone()
    step = torch.full((len(y), 1), step_size, dtype=y.dtype)
    accepted = torch.zeros(len(y), dtype=torch.int64)
    f = torch.zeros(len(y), dtype=y.dtype)
    for _ in range(num_steps):
        y = y.detach().requires_grad_()
        if copies is not None:
            copies = copies.detach().requires_grad_()
        f = evaluate(network, bev, y, copies)
        wanted = (y,) if copies is None else (y, copies)
        gradient = torch.autograd.grad(f.sum(), wanted, create_graph=not clean)[0]
        with torch.no_grad() if clean else torch.enable_grad():
            candidate = y + step * gradient
            f_candidate = evaluate(network, bev, candidate, copies)
        better = (f_candidate >= f).detach()
        y = torch.where(better[:, None], candidate, y).detach()
        f = torch.where(better, f_candidate, f).detach()
        step = torch.where(better[:, None], step, 0.5 * step)
        accepted += better
    return y, f, accepted


def noise_density(offsets: Tensor) -> Tensor:
    """q as a density value, one component at a time, of offsets ``(..., 7)``."""
    total = torch.zeros(offsets.shape[:-1], dtype=offsets.dtype)
    for stds in STDS:
        product = torch.ones_like(total)
        for d, std in enumerate(stds):
            peak = 1 / math.sqrt(2 * math.pi * std**2)
            product = product * peak * torch.exp(-(offsets[..., d] ** 2) / (2 * std**2))
        total = total + product / len(STDS)
    return total
