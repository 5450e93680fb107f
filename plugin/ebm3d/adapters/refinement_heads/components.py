"""The core's classes under their own names in the host's registry."""

from __future__ import annotations

from mmdet3d.registry import MODELS

import ebm3d.regressions  # noqa: F401 - the imports register the classes
from ebm3d import energy, losses, noise, pooling, refiners  # noqa: F401
from ebm3d.noise import DetectionNoise
from ebm3d.refiners import MultiStart
from ebm3d.registry import COMPONENTS

for component in (*COMPONENTS, DetectionNoise, MultiStart):
    MODELS.register_module(module=component)
