"""Hooks of the registry ``HOOKS``."""

from __future__ import annotations

from ebm3d.adapters.hooks.channels_last import ChannelsLastHook
from ebm3d.adapters.hooks.epoch_seed import EpochSeedHook
from ebm3d.adapters.hooks.freeze_detector import FreezeDetectorHook
from ebm3d.adapters.hooks.plain_checkpoint import PlainCheckpointHook
from ebm3d.adapters.hooks.resumed_schedule import ResumedScheduleHook

__all__ = [
    "ChannelsLastHook",
    "EpochSeedHook",
    "FreezeDetectorHook",
    "PlainCheckpointHook",
    "ResumedScheduleHook",
]
