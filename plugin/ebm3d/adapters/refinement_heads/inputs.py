"""Validation of a batch at the border of the refinement heads, with one read from the device.

B frames; N_b boxes of frame b. On a GPU nothing behind this module reads values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm3d.errors import input_error, is_valid_box, shape_error


def frame_index(sizes: Sequence[int], device: torch.device) -> Tensor:
    """Return the frame of each box, frame after frame, ``(N,)`` int64; sizes: N_b of the frames."""
    parts = [torch.full((size,), frame, device=device) for frame, size in enumerate(sizes)]
    return torch.cat(parts)


def select_labeled(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int | None,
    columns: int = 7,
    drop_unknown: bool = False,
) -> tuple[list[Tensor], list[Tensor]]:
    """Select the true boxes that are of a class.

    Args:
        boxes: B tensors of true boxes ``(N_b, >= 7)``.
        labels: B tensors ``(N_b,)``; boxes with a negative label are left out.
        num_classes: number of classes; None for any.
        columns: D, 7, or 9 with velocities, which may be NaN where they are unknown.
        drop_unknown: leave out boxes of unknown velocity.

    Returns:
        Boxes ``(N_b, D)`` float32 and labels of each frame.

    Raises:
        ValueError: for a label of no class, a labeled box that is not valid, or too few columns.
    """
    _check_columns(boxes, columns)
    is_labeled = [classes >= 0 for classes in labels]
    if drop_unknown:
        known = [rows[:, 7:columns].isfinite().all(dim=1) for rows in boxes]
        is_labeled = [mask & finite for mask, finite in zip(is_labeled, known, strict=True)]
    invalid = [mask & ~is_valid_box(rows) for mask, rows in zip(is_labeled, boxes, strict=True)]
    counts = _read([mask.sum() for mask in is_labeled], invalid, labels, num_classes)
    if counts is None:
        raise _error(invalid, boxes, labels, num_classes)
    chosen = [_first(mask, count) for mask, count in zip(is_labeled, counts, strict=True)]
    true = [rows[index, :columns].float() for rows, index in zip(boxes, chosen, strict=True)]
    return true, [classes[index] for classes, index in zip(labels, chosen, strict=True)]


def select_best(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    scores: Sequence[Tensor],
    limit: int,
    num_classes: int | None,
    columns: int = 7,
) -> list[Tensor]:
    """Select the boxes to refine: the valid ones of the highest scores.

    Args:
        boxes: B tensors of detected boxes ``(N_b, >= 7)``.
        labels: B tensors ``(N_b,)``.
        scores: B tensors ``(N_b,)``.
        limit: largest number of boxes of a frame.
        num_classes: number of classes; None for any.
        columns: 7, or 9 where velocities must be finite, too.

    Returns:
        Indices of each frame, from the highest score down.

    Raises:
        ValueError: for a label of no class, or too few columns.
    """
    _check_columns(boxes, columns)
    orders = [values.argsort(descending=True, stable=True) for values in scores]
    valid = [is_valid_box(rows, columns)[order] for rows, order in zip(boxes, orders, strict=True)]
    negative = [classes < 0 for classes in labels]
    counts = _read([mask.sum() for mask in valid], negative, labels, num_classes)
    if counts is None:
        raise _error([], boxes, labels, num_classes)
    return [
        order[_first(mask, count)][:limit]
        for order, mask, count in zip(orders, valid, counts, strict=True)
    ]


def _check_columns(boxes: Sequence[Tensor], columns: int) -> None:
    """Raise unless every frame's boxes have at least so many columns."""
    for rows in boxes:
        if rows.shape[1] < columns:
            remedy = "give noise.stds seven numbers a class, for boxes without velocities"
            raise shape_error("boxes", f"(N, {columns})", rows, remedy)


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


def _first(mask: Tensor, count: int) -> Tensor | slice:
    """Rows of the ``count`` true values of a mask ``(N,)`` in their order; no device read."""
    if count == len(mask):
        return slice(None)
    return (~mask).to(torch.uint8).argsort(stable=True)[:count]


def _error(
    invalid: Sequence[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int | None,
) -> ValueError:
    """What is wrong with a batch, and where it shows first."""
    for frame, rows in enumerate(invalid):
        for row in rows.nonzero()[:1, 0].tolist():
            got = f"boxes[{frame}][{row}] = {boxes[frame][row].tolist()}"
            remedy = "repair the labels, or give such boxes a negative label, which leaves them out"
            return input_error("boxes", "finite, of positive size", got, remedy)
    joined = torch.cat(list(labels))
    highest = "" if num_classes is None else f" to {num_classes - 1}"
    got = f"{int(joined.min())} to {int(joined.max())}"
    remedy = "give network.mean_sizes and noise.stds one row per class"
    return input_error("labels", f"from 0{highest}", got, remedy)
