"""Checkpoints that torch's safe loading reads, checked when they are loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet3d.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer

from ebm3d.adapters.checkpoints import check_loading
from ebm3d.adapters.hooks.freeze_detector import is_frozen

_PLAIN = "log_history"


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Save the message hub and the schedulers as containers of Python's numbers.

    mmengine 0.10 saves history buffers, numpy scalars and the annealing function of a one-cycle
    schedule, which ``torch.load`` refuses by default. History buffers are restored on loading,
    after the check of :func:`ebm3d.adapters.checkpoints.check_loading`.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Replace what is not plain."""
        for key in ("message_hub", "param_schedulers"):
            if key in checkpoint:
                checkpoint[key] = _plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Check, and restore the history buffers; those of other checkpoints stay."""
        check_loading(runner, checkpoint, is_frozen=is_frozen(runner.model))
        scalars = checkpoint.get("message_hub", {}).get("log_scalars", {})
        for key, item in scalars.items():
            if isinstance(item, dict):
                scalars[key] = HistoryBuffer(item[_PLAIN], item["count_history"], item["max"])


def _plain(value: Any) -> Any:
    """The same state of dicts, lists, tensors and Python numbers only; functions are left out."""
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {_PLAIN: log.tolist(), "count_history": count.tolist(), "max": value.max_length}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value
