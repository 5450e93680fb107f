"""Checkpoints under torch's safe loading (``weights_only``), which stays on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler, _ParamScheduler

_METHODS = {
    HistoryBuffer: ("min", "max", "mean", "current"),
    OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
}
_PLAIN = "log_history"


def repair_checkpoint_saving() -> bool:
    """Save the message hub and the schedulers as plain lists and numbers.

    Upstream defect: mmengine 0.10 puts ``HistoryBuffer`` objects, numpy scalars and the annealing
    function of a one-cycle schedule into every checkpoint, which torch's safe loading (the
    default since 2.6) refuses, so training cannot be resumed (open-mmlab/mmengine, "Weights only
    load failed"). Lists load everywhere, and a scheduler has its function from its own
    constructor; a message hub without this repair skips the lists with a warning and loses
    nothing but the log's history.

    Returns:
        Whether the repair is in place.
    """
    if getattr(MessageHub.state_dict, "plain", False):
        return True
    save, load = MessageHub.state_dict, MessageHub.load_state_dict
    save_schedule = _ParamScheduler.state_dict

    @wraps(save)
    def state_dict(self: MessageHub) -> dict[str, Any]:
        return plain_state(save(self))

    @wraps(load)
    def load_state_dict(self: MessageHub, state: Any) -> None:
        load(self, restored_state(state) if isinstance(state, dict) else state)

    @wraps(save_schedule)
    def schedule_state(self: _ParamScheduler) -> dict[str, Any]:
        state = save_schedule(self)
        return {key: plain_state(item) for key, item in state.items() if not callable(item)}

    _ParamScheduler.state_dict = schedule_state
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
    constructors, ``HistoryBuffer``, the one-cycle scheduler, and a stand-in for ``getattr`` that
    hands out the statistics of the first and the annealing functions of the second, and nothing
    else. Checkpoints from a URL, which mmengine reads
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
    name = "numpy._core.multiarray" if find_spec("numpy._core") else "numpy.core.multiarray"
    multiarray = import_module(name)
    reconstruct, scalar = multiarray._reconstruct, multiarray.scalar
    dtypes = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?", "U1", "S1")}
    return [
        *_METHODS,
        (_known_method, "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *dtypes,
        *((reconstruct, f"numpy.{room}.multiarray._reconstruct") for room in ("core", "_core")),
        *((scalar, f"numpy.{room}.multiarray.scalar") for room in ("core", "_core")),
    ]


def _known_method(owner: Any, name: str) -> Any:
    """``getattr`` for the few methods that mmengine pickles; everything else is refused."""
    if name not in next((names for known, names in _METHODS.items() if known is owner), ()):
        raise ValueError(
            f"the checkpoint asks for the attribute {name!r} of {owner!r}, which safe loading "
            "refuses; load it in a trusted place and save its state_dict alone."
        )
    return getattr(owner, name)


def _load_url(url: str, **kwargs: Any) -> Any:
    """torch's download of a checkpoint, read safely."""
    return torch.hub.load_state_dict_from_url(url, weights_only=True, **kwargs)
