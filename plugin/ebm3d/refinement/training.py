"""Training of an energy on points alone, from labelled clouds.

P points of a cloud; N boxes of a frame.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.errors import check_count, input_error
from ebm3d.losses.nce import NCELoss
from ebm3d.refinement.augmentation import Augmentation
from ebm3d.refinement.points_energy import PointsEnergy

_MAX_LR = 0.002
_NUM_CHECKS = 10  # of the held-out loss in a training
_CHECK_SAMPLES = 64


@dataclass(frozen=True)
class TrainingFrame:
    """A labelled cloud.

    Attributes:
        points: ``(P, 4)``: x, y, z (m, LiDAR frame), intensity in [0, 1]; float32.
        boxes: ``(N, 7)``, LiDAR frame, z at the bottom; float32.
        labels: ``(N,)`` class indices.
    """

    points: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainingResult:
    """What a training reached: losses on held-out boxes (nats) by step, and the step chosen."""

    losses: dict[int, float]
    best_step: int


def train_energy(
    energy: PointsEnergy,
    frames: Sequence[TrainingFrame],
    held_out: Sequence[TrainingFrame],
    num_steps: int = 1500,
    boxes_per_step: int = 32,
    num_noise_samples: int = 64,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train f by NCE, and leave the weights that were best on held-out frames.

    Args:
        energy: changed in place.
        frames: to train on; those without boxes are passed over.
        held_out: to choose the checkpoint by; none: the last weights are kept.
        num_steps: of AdamW with one cycle of the learning rate.
        boxes_per_step: frames are joined until they hold so many.
        num_noise_samples: M per true box.
        seed: of order, noise and augmentation; not of the weights.
        augmentation: of the frames; by default as :class:`Augmentation`.
        progress: told the step and its loss.

    Raises:
        ValueError: if no frame has a box.
    """
    check_count("num_steps", num_steps)
    device = next(energy.parameters()).device
    frames = [frame for frame in frames if len(frame.boxes)]
    if not frames:
        raise input_error("frames", "with at least one box", "none")
    augment = augmentation or Augmentation()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        energy.parameters(), lr=_MAX_LR, betas=(0.95, 0.99), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _MAX_LR, num_steps, pct_start=0.4, div_factor=10, cycle_momentum=False
    )
    criterion = NCELoss(num_noise_samples)
    order: list[int] = []
    losses: dict[int, float] = {}
    best, best_loss, best_step = None, math.inf, num_steps
    every = max(1, num_steps // _NUM_CHECKS)
    for step in range(1, num_steps + 1):
        batch: list[TrainingFrame] = []
        count = 0
        while count < boxes_per_step and len(batch) < len(frames):
            order = order or torch.randperm(len(frames), generator=generator).tolist()
            frame = frames[order.pop()]
            points, boxes = augment(frame.points, frame.boxes, generator)
            batch.append(TrainingFrame(points, boxes, frame.labels))
            count += len(boxes)
        loss = _loss(energy, batch, criterion, device)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step, loss.item())
        if held_out and (step % every == 0 or step == num_steps):
            losses[step] = held_out_loss(energy, held_out)
            if losses[step] <= best_loss:  # never for NaN
                best, best_loss, best_step = copy.deepcopy(energy.state_dict()), losses[step], step
    if best is not None:
        energy.load_state_dict(best)
    return TrainingResult(losses, best_step)


@torch.no_grad()
def held_out_loss(energy: PointsEnergy, frames: Sequence[TrainingFrame], seed: int = 0) -> float:
    """Return the NCE loss per box (nats) on frames as they are, with noise of a fixed seed.

    NaN without boxes.
    """
    device = next(energy.parameters()).device
    criterion = NCELoss(_CHECK_SAMPLES)
    total, count = 0.0, 0
    generator = torch.Generator(device).manual_seed(seed)
    for frame in (frame for frame in frames if len(frame.boxes)):
        loss = _loss(energy, [frame], criterion, device, generator)
        total, count = total + float(loss) * len(frame.boxes), count + len(frame.boxes)
    return total / count if count else math.nan


def _loss(
    energy: PointsEnergy,
    batch: Sequence[TrainingFrame],
    criterion: NCELoss,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean loss per box of a batch."""
    sizes = [len(frame.boxes) for frame in batch]
    boxes = torch.cat([frame.boxes for frame in batch]).to(device)
    labels = torch.cat([frame.labels for frame in batch]).to(device)
    index = torch.repeat_interleave(torch.tensor(sizes)).to(device)
    f = energy.around([frame.points.to(device) for frame in batch], boxes, labels, index)
    noise = energy.noise.around(boxes, labels, sizes, generator=generator)
    return criterion(f, noise).per_box.mean()
