"""The memory layout that convolutions on a CPU are fastest in."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.registry import HOOKS
from mmengine.hooks import Hook
from torch import nn

from ebm3d.devices import device_of


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lay the weights of a CPU model's 2D convolutions out with the channels last.

    A training step of the CPU-sized SECOND with bfloat16 takes an eighth less time.
    """

    def before_run(self, runner: Any) -> None:
        """Convert the weights once, before training, validation or testing."""
        if device_of(runner.model).type != "cpu":
            return
        for module in runner.model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
