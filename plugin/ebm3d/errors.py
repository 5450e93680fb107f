"""Messages for bad input: name, expected, got, remedy."""

from __future__ import annotations

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
