"""The core's classes under their own names in the host's registry."""

from __future__ import annotations

from mmdet3d.registry import MODELS

from ebm3d import energy, losses, noise, pooling, refiners, regressions  # noqa: F401 - register
from ebm3d.registry import COMPONENTS

for component in COMPONENTS:
    MODELS.register_module(module=component)
