"""Messages for bad input: name, expected, got, remedy."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def input_error(name: str, expected: str, got: Any, remedy: str = "") -> ValueError:
    """Build the ``ValueError`` every public function raises for a bad value.

    Args:
        name: the argument, as the caller wrote it.
        expected: what it must be, after the words "must be".
        got: what it was; shown with ``str``.
        remedy: what to do about it, if known.

    Returns:
        The exception, to be raised by the caller.
    """
    message = f"{name} must be {expected}, but got {got}"
    return ValueError(f"{message}; {remedy}." if remedy else f"{message}.")


def shape_error(name: str, expected: str, value: Any, remedy: str = "") -> ValueError:
    """Build the ``ValueError`` for an array or tensor of the wrong shape.

    Args:
        name: the argument, as the caller wrote it.
        expected: the shape and the meaning of its axes, for example
            ``"(N, 7) with columns (x, y, z, dx, dy, dz, yaw)"``.
        value: the array or tensor; only its ``shape`` is read.
        remedy: what to do about it, if known.

    Returns:
        The exception, to be raised by the caller.
    """
    shape = tuple(getattr(value, "shape", ())) if hasattr(value, "shape") else type(value).__name__
    message = f"{name} must have shape {expected}, but got {shape}"
    return ValueError(f"{message}; {remedy}." if remedy else f"{message}.")


def check_boxes(boxes: Any, name: str = "boxes") -> None:
    """Raise unless ``boxes`` has shape ``(N, 7)``; values are not looked at."""
    if getattr(boxes, "ndim", None) != 2 or boxes.shape[-1] != 7:
        remedy = ""
        if getattr(boxes, "ndim", None) == 2 and boxes.shape[-1] > 7:
            remedy = f"pass {name}[:, :7] if the rest are velocities"
        raise shape_error(name, "(N, 7) with columns (x, y, z, dx, dy, dz, yaw)", boxes, remedy)


def check_sound_boxes(boxes: Any, name: str = "boxes", *, wait: bool = False) -> None:
    """Raise unless a tensor of boxes ``(N, 7)`` is finite and the sizes are positive.

    Args:
        boxes: the tensor.
        name: the argument, as the caller wrote it.
        wait: look at values on any device. Otherwise only where that waits for no device, in main
            memory, and elsewhere at shape and type alone: once at the border, nowhere in a loop.
    """
    check_floating_boxes(boxes, name)
    if not (wait or can_read(boxes)):
        return
    good = boxes.isfinite().all(dim=1) & (boxes[:, 3:6] > 0).all(dim=1)
    if not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        got = f"{name}[{row}] = {boxes[row].tolist()}"
        raise input_error(name, "finite, of positive size", got)


def check_labels(
    labels: Any, num_boxes: int, num_rows: int, table: str, *, wait: bool = False
) -> None:
    """Raise unless labels ``(N,)`` are indices of the rows of a table by class.

    Args:
        labels: class indices.
        num_boxes: N.
        num_rows: of the table; 1 serves all classes, whatever the labels.
        table: its name, for the remedy.
        wait: see :func:`check_sound_boxes`.
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
    """Raise unless a tensor is of a type that torch takes as an index."""
    if str(values.dtype) not in ("torch.int32", "torch.int64"):
        expected = "whole numbers, int64 or int32"
        raise input_error(name, expected, values.dtype, f"pass {name}.long()")


def can_read(*tensors: Any) -> bool:
    """Whether reading values waits for no device: all tensors are in main memory."""
    return all(tensor.device.type == "cpu" for tensor in tensors)


def check_floating_boxes(boxes: Any, name: str = "boxes") -> None:
    """Raise unless ``boxes`` is a tensor of shape ``(N, 7)`` and of a floating-point type."""
    check_boxes(boxes, name)
    if not hasattr(boxes, "is_floating_point"):
        raise input_error(name, "a torch.Tensor", type(boxes).__name__, "use torch.as_tensor")
    if not boxes.is_floating_point():
        raise input_error(name, "of a floating-point type", boxes.dtype, f"pass {name}.float()")


def is_number(value: Any) -> bool:
    """Whether a value is a real number of a finite float; booleans and strings are none."""
    number: Any = value
    if isinstance(number, bool) or not isinstance(number, Real):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise unless a value is a whole number, of samples or steps for example.

    Args:
        name: the argument, as the caller wrote it.
        value: the number.
        least: the smallest it may be.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise input_error(name, f"at least {least}, a whole number", repr(value))


def check_positive(name: str, value: Any) -> None:
    """Raise unless a constant is a number, positive and finite.

    Args:
        name: the argument, as the caller wrote it.
        value: the constant.
    """
    if not is_number(value) or value <= 0:
        raise input_error(name, "positive and finite", repr(value))
