"""Mixed precision where a CPU is all there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Train with bfloat16 matrix products and convolutions on a CPU.

    mmengine's ``AmpOptimWrapper`` refuses to be built without an accelerator. bfloat16 has the
    exponent range of float32, so no loss scaling is needed; parameters, gradients and optimizer
    state stay in float32, and the sparse encoder and the losses of the host switch the autocast
    off for themselves.
    The arguments are those of ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of one forward pass: autocast, and no gradient exchange while accumulating."""
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
