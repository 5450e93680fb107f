"""Optimizer wrappers of the registry ``OPTIM_WRAPPERS``."""

from __future__ import annotations

from ebm3d.adapters.optimizers.cpu_amp import CPUAmpOptimWrapper

__all__ = ["CPUAmpOptimWrapper"]
