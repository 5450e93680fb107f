"""Checks of arguments, and messages for bad input: name, expected, got, remedy."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

_NAMES = {7: "x, y, z, dx, dy, dz, yaw", 9: "x, y, z, dx, dy, dz, yaw, vx, vy"}


def input_error(name: str, expected: str, got: Any, remedy: str = "") -> ValueError:
    """Build the ``ValueError`` for a bad value.

    Args:
        name: the argument.
        expected: what follows "must be".
        got: shown with ``str``.
        remedy: what to do about it, if known.
    """
    return _error(f"{name} must be {expected}, but got {got}", remedy)


def shape_error(name: str, expected: str, value: Any, remedy: str = "") -> ValueError:
    """Build the ``ValueError`` for an array or tensor of the wrong shape.

    Args:
        name: the argument.
        expected: shape and axes: ``"(N, 7) with columns (x, y, z, dx, dy, dz, yaw)"``.
        value: only its ``shape`` is read.
        remedy: what to do about it, if known.
    """
    shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
    return _error(f"{name} must have shape {expected}, but got {shape}", remedy)


def _error(message: str, remedy: str) -> ValueError:
    return ValueError(f"{message}; {remedy}." if remedy else f"{message}.")


def can_read(*tensors: Any) -> bool:
    """Whether reading values waits for no device: all tensors are in main memory."""
    return all(tensor.device.type == "cpu" for tensor in tensors)


def check_boxes(boxes: Any, name: str = "boxes", columns: tuple[int, ...] = (7,)) -> None:
    """Raise unless an array or tensor has shape ``(N, D)``.

    Args:
        boxes: the array or tensor.
        name: the argument.
        columns: the D that fit: 7, and 9 where velocities vx, vy (m/s) are taken.
    """
    number = boxes.shape[-1] if getattr(boxes, "ndim", None) == 2 else 0
    if number not in columns:
        remedy = ""
        if number > 7 and columns == (7,):
            remedy = f"pass {name}[:, :7] if the rest are velocities"
        elif number == 7:
            remedy = "append vx and vy (m/s), or use tables of standard deviations of 7 numbers"
        expected = " or ".join(f"(N, {count}) with columns ({_NAMES[count]})" for count in columns)
        raise shape_error(name, expected, boxes, remedy)


def check_floating_boxes(boxes: Any, name: str = "boxes", columns: tuple[int, ...] = (7,)) -> None:
    """Raise unless ``boxes`` is a floating-point tensor; shapes as :func:`check_boxes`."""
    check_boxes(boxes, name, columns)
    if not hasattr(boxes, "is_floating_point"):
        raise input_error(name, "a torch.Tensor", type(boxes).__name__, "use torch.as_tensor")
    if not boxes.is_floating_point():
        raise input_error(name, "of a floating-point type", boxes.dtype, f"pass {name}.float()")


def is_valid_box(boxes: Any, num_columns: int = 7) -> Any:
    """Whether boxes ``(N, >= 7)`` are of positive size and their first columns finite, ``(N,)``."""
    return boxes[:, :num_columns].isfinite().all(dim=1) & (boxes[:, 3:6] > 0).all(dim=1)


def check_valid_boxes(
    boxes: Any, name: str = "boxes", columns: tuple[int, ...] = (7,), *, wait: bool = False
) -> None:
    """Raise unless floating-point boxes are finite, velocities included, and of positive size.

    Args:
        boxes: the tensor.
        name: the argument.
        columns: see :func:`check_boxes`.
        wait: read values on any device; otherwise only in main memory.
    """
    check_floating_boxes(boxes, name, columns)
    if wait or can_read(boxes):
        valid = is_valid_box(boxes, boxes.shape[1])
        if not bool(valid.all()):
            row = int((~valid).nonzero()[0, 0])
            got = f"{name}[{row}] = {boxes[row].tolist()}"
            unknown = bool(is_valid_box(boxes[row : row + 1]))
            remedy = "leave out boxes of unknown velocity" if unknown else ""
            raise input_error(name, "finite, of positive size", got, remedy)


def check_labels(
    labels: Any, num_boxes: int, num_rows: int, table: str, *, wait: bool = False
) -> None:
    """Raise unless labels ``(N,)`` are indices of the rows of a table by class.

    Args:
        labels: class indices.
        num_boxes: N.
        num_rows: of the table; a table of one row serves all labels.
        table: its name, for the remedy.
        wait: see :func:`check_valid_boxes`.
    """
    if labels.shape != (num_boxes,):
        raise shape_error("labels", f"({num_boxes},), one class per box", labels)
    check_index_type("labels", labels)
    if num_rows == 1 or num_boxes == 0 or not (wait or can_read(labels)):
        return
    low, high = (int(end) for end in labels.aminmax())
    if not 0 <= low <= high < num_rows:
        expected = f"from 0 to {num_rows - 1}"
        raise input_error("labels", expected, f"{low} to {high}", f"give {table} one row per class")


def check_index_type(name: str, values: Any) -> None:
    """Raise unless torch takes a tensor of this type as an index."""
    if str(values.dtype) not in ("torch.int32", "torch.int64"):
        expected = "whole numbers, int64 or int32"
        raise input_error(name, expected, values.dtype, f"pass {name}.long()")


def is_number(value: Any) -> bool:
    """Whether a value is a real number that a finite float can hold; booleans are not."""
    number: Any = value
    if isinstance(number, bool) or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless a value is a whole number of at least ``least``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise input_error(name, f"at least {least}, a whole number", repr(value))


def check_positive(name: str, value: Any) -> None:
    """Raise unless a value is a positive finite number."""
    if not is_number(value) or value <= 0:
        raise input_error(name, "positive and finite", repr(value))
