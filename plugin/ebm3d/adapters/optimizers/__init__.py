"""Optimizer wrappers of the registry ``OPTIM_WRAPPERS``, and how they are built."""

from __future__ import annotations

from ebm3d.adapters.optimizers.cpu_amp import CPUAmpOptimWrapper
from ebm3d.adapters.optimizers.headwise import (
    GroupwiseClipOptimWrapper,
    HeadwiseOptimWrapperConstructor,
)

__all__ = ["CPUAmpOptimWrapper", "GroupwiseClipOptimWrapper", "HeadwiseOptimWrapperConstructor"]
