"""What a refinement head is given: looked at once a batch, with one wait for the device.

Nothing behind this border looks at values again. B frames; N_b boxes of frame b.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.errors import input_error, is_valid_box

_UNSOUND = "repair the labels, or give such boxes a negative label, which leaves them out"
_CLASSES = "give network.mean_sizes and noise.stds one row per class"


def frame_index(sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the frame of each box, frame after frame, ``(N,)`` int64.

    Args:
        sizes: N_b of the B frames.
        device: of the result.
    """
    parts = [torch.full((size,), frame, device=device) for frame, size in enumerate(sizes)]
    return torch.cat(parts)


def take_true(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], num_classes: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Take the true boxes of a class.

    Args:
        boxes: B tensors of true boxes ``(N_b, >= 7)``.
        labels: B tensors ``(N_b,)``; boxes with a negative label are left out.
        num_classes: how many there are; None for any number.

    Returns:
        Boxes ``(N_b, 7)`` float32 and labels of each frame.

    Raises:
        ValueError: for a label of no class, or a box with one that is not finite or whose sizes are
            not positive.
    """
    kept = [own >= 0 for own in labels]
    unsound = [mine & ~is_valid_box(own) for mine, own in zip(kept, boxes, strict=True)]
    counts = _read([mine.sum() for mine in kept], unsound, labels, num_classes)
    if counts is None:
        raise _error(unsound, boxes, labels, num_classes)
    taken = [_first(mine, count) for mine, count in zip(kept, counts, strict=True)]
    true = [own[rows, :7].float() for own, rows in zip(boxes, taken, strict=True)]
    return true, [own[rows] for own, rows in zip(labels, taken, strict=True)]


def take_detected(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    scores: Sequence[Tensor],
    limit: int,
    num_classes: int | None,
) -> list[Tensor]:
    """Choose the boxes to refine: sound ones, of the highest scores, at most so many a frame.

    Args:
        boxes: B tensors of detected boxes ``(N_b, >= 7)``.
        labels: B tensors ``(N_b,)``.
        scores: B tensors ``(N_b,)``.
        limit: largest number of boxes of a frame.
        num_classes: how many there are; None for any number.

    Returns:
        Rows of each frame, from the highest score down.

    Raises:
        ValueError: for a label of no class.
    """
    orders = [own.argsort(descending=True, stable=True) for own in scores]
    sound = [is_valid_box(own)[order] for own, order in zip(boxes, orders, strict=True)]
    wrong = [own < 0 for own in labels]
    counts = _read([mine.sum() for mine in sound], wrong, labels, num_classes)
    if counts is None:
        raise _error([], boxes, labels, num_classes)
    return [
        order[_first(mine, count)][:limit]
        for order, mine, count in zip(orders, sound, counts, strict=True)
    ]


def _read(
    counts: list[Tensor],
    wrong: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int | None,
) -> list[int] | None:
    """Bring counts to the host in one read, or None if a box is wrong or a label too high."""
    bad = torch.cat(list(wrong)).sum()
    if num_classes is not None:
        bad = bad + (torch.cat(list(labels)) >= num_classes).sum()
    *read, num_bad = torch.stack([*counts, bad]).tolist()
    return None if num_bad else read


def _first(chosen: Tensor, count: int) -> Tensor | slice:
    """Rows of the ``count`` chosen ones of booleans ``(N,)``, in their order; no wait for them."""
    if count == len(chosen):
        return slice(None)
    return (~chosen).to(torch.uint8).argsort(stable=True)[:count]


def _error(
    unsound: Sequence[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int | None,
) -> ValueError:
    """What is wrong with a batch, and where it shows first."""
    for frame, rows in enumerate(unsound):
        for row in rows.nonzero()[:1, 0].tolist():
            got = f"boxes[{frame}][{row}] = {boxes[frame][row].tolist()}"
            return input_error("boxes", "finite, of positive size", got, _UNSOUND)
    joined = torch.cat(list(labels))
    highest = "" if num_classes is None else f" to {num_classes - 1}"
    got = f"{int(joined.min())} to {int(joined.max())}"
    return input_error("labels", f"from 0{highest}", got, _CLASSES)
