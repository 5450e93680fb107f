"""Classes that configs can name, without the host."""

from __future__ import annotations

from typing import TypeVar

COMPONENTS: list[type] = []
"""Registered classes; ``ebm3d.register`` enters them in MMDetection3D's ``MODELS``."""

Class = TypeVar("Class", bound=type)


def register(cls: Class) -> Class:
    """Make a class of the core available to configs under its name."""
    COMPONENTS.append(cls)
    return cls
