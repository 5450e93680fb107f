"""Checkpoints of mmengine under torch's safe loading (``weights_only``), which stays on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mmengine.runner.checkpoint as host
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from ebm3d.adapters.checkpoints import explain, warn_if_damaged

_METHODS = {
    HistoryBuffer: ("min", "max", "mean", "current"),
    OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
}


@cache
def repair_checkpoint_loading() -> bool:
    """Load checkpoints as mmengine writes them, among them OpenMMLab's.

    Upstream defect: mmengine 0.10 puts history buffers, numpy scalars and the annealing function of
    a one-cycle schedule into checkpoints, which torch's safe loading, the default since 2.6,
    refuses (open-mmlab/mmengine, "Weights only load failed"). While a checkpoint is read, these are
    on torch's list of safe globals. Downloads, too, are read with safe loading on. A file that
    cannot be read is named.
    """
    if not hasattr(torch.serialization, "safe_globals"):
        return False
    load = host.CheckpointLoader.load_checkpoint.__func__

    def load_checkpoint(cls: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(_safe_globals()):
                checkpoint = load(cls, filename, *args, **kwargs)
            warn_if_damaged(filename)
            return checkpoint
        except FileNotFoundError:
            raise
        except Exception as error:  # torn pickles raise whatever their bytes happen to mean
            raise explain(filename, error) from error

    host.CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)
    host.load_url = partial(torch.hub.load_state_dict_from_url, weights_only=True)
    return True


def _safe_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What mmengine's checkpoints need beyond tensors; numpy 1 and 2 name their module apart."""
    dtypes = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?", "U1", "S1")}
    names = [
        (value.__reduce__()[0], f"numpy.{package}.multiarray.{name}")
        for name, value in (("_reconstruct", np.zeros(0)), ("scalar", np.float64(0)))
        for package in ("core", "_core")
    ]
    return [*_METHODS, (_known_method, "builtins.getattr"), np.ndarray, np.dtype, *dtypes, *names]


def _known_method(owner: Any, name: str) -> Any:
    """``getattr`` for the few methods that mmengine pickles; everything else is refused."""
    if not any(owner is known and name in names for known, names in _METHODS.items()):
        raise ValueError(
            f"the checkpoint asks for the attribute {name!r} of {owner!r}, which safe loading "
            "refuses; load it in a trusted place and save its state_dict alone."
        )
    return getattr(owner, name)
