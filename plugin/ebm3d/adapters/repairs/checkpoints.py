"""Checkpoints under torch's safe loading (``weights_only``), which stays on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

_STATISTICS = ("min", "max", "mean", "current")
_PLAIN = "log_history"


def repair_checkpoint_saving() -> bool:
    """Save the message hub as plain lists and numbers.

    Upstream defect: mmengine 0.10 puts ``HistoryBuffer`` objects and numpy scalars into every
    checkpoint, which torch's safe loading (the default since 2.6) refuses, so training cannot be
    resumed (open-mmlab/mmengine, "Weights only load failed"). Lists load everywhere; a message
    hub without this repair skips them with a warning and loses nothing but the log's history.

    Returns:
        Whether the repair is in place.
    """
    if getattr(MessageHub.state_dict, "plain", False):
        return True
    save, load = MessageHub.state_dict, MessageHub.load_state_dict

    @wraps(save)
    def state_dict(self: MessageHub) -> dict[str, Any]:
        return plain_state(save(self))

    @wraps(load)
    def load_state_dict(self: MessageHub, state: Any) -> None:
        load(self, restored_state(state) if isinstance(state, dict) else state)

    state_dict.plain = True  # type: ignore[attr-defined]
    MessageHub.state_dict, MessageHub.load_state_dict = state_dict, load_state_dict
    return True


def plain_state(value: Any) -> Any:
    """The same state of dicts, lists, tensors and Python numbers only."""
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {_PLAIN: log.tolist(), "count_history": count.tolist(), "max": value.max_length}
    if isinstance(value, dict):
        return {key: plain_state(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain_state(item) for item in value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value


def restored_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a message hub with its history buffers again; those already there stay."""
    scalars = {
        key: HistoryBuffer(item[_PLAIN], item["count_history"], item["max"])
        if isinstance(item, dict) and _PLAIN in item
        else item
        for key, item in state["log_scalars"].items()
    }
    return {**state, "log_scalars": scalars}


def repair_checkpoint_loading() -> bool:
    """Load checkpoints that mmengine wrote before, still under safe loading.

    Upstream defect: as in :func:`repair_checkpoint_saving`; the checkpoints of OpenMMLab's model
    zoo and of unrepaired trainings hold numpy scalars and history buffers. While a checkpoint is
    read, torch's list of safe globals is extended by what these need: numpy's array and scalar
    constructors, ``HistoryBuffer``, and a stand-in for ``getattr`` that hands out the four
    statistics of that class and nothing else. Checkpoints from a URL, which mmengine reads
    through a torch function that has safe loading off, are read with it on.

    Returns:
        Whether the repair is in place; it is not needed where torch loads everything (< 2.6).
    """
    from mmengine.runner.checkpoint import CheckpointLoader, load_from_http

    if not hasattr(torch.serialization, "safe_globals"):
        return False
    original = CheckpointLoader.load_checkpoint.__func__
    if getattr(original, "safe", False):
        return True

    def load_checkpoint(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.serialization.safe_globals(_safe_globals()):
            return original(cls, *args, **kwargs)

    load_checkpoint.safe = True  # type: ignore[attr-defined]
    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)
    load_from_http.__globals__["load_url"] = _load_url
    return True


def _safe_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What mmengine's own checkpoints need beyond tensors."""
    core = getattr(np, "_core", None) or np.core
    reconstruct, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    dtypes = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?", "U1", "S1")}
    return [
        HistoryBuffer,
        (_history_statistic, "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *dtypes,
        *((reconstruct, f"numpy.{name}.multiarray._reconstruct") for name in ("core", "_core")),
        *((scalar, f"numpy.{name}.multiarray.scalar") for name in ("core", "_core")),
    ]


def _history_statistic(owner: Any, name: str) -> Any:
    """``getattr`` for the statistics of a history buffer; everything else is refused."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise ValueError(
            f"the checkpoint asks for the attribute {name!r} of {owner!r}, which safe loading "
            "refuses; load it in a trusted place and save its state_dict alone."
        )
    return getattr(owner, name)


def _load_url(url: str, **kwargs: Any) -> Any:
    """torch's download of a checkpoint, read safely."""
    return torch.hub.load_state_dict_from_url(url, weights_only=True, **kwargs)
