"""Data-parallel training without CUDA."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest import mock

import torch


def repair_distributed_on_cpu() -> bool:
    """Start mmengine's process groups on machines without CUDA, with gloo.

    Upstream defects: mmengine's launchers call ``torch.cuda.set_device`` before they start the
    process group, and ``Runner.wrap_model`` hands a device number to
    ``DistributedDataParallel``, which CPU modules refuse. Here the group starts with gloo, and
    the model is wrapped without device numbers.

    Returns:
        Whether the repair is in place; it is not needed where CUDA is.
    """
    if torch.cuda.is_available():
        return False
    from mmengine.dist import utils
    from mmengine.runner import Runner

    if getattr(Runner.wrap_model, "without_device", False):
        return True
    utils._init_dist_pytorch = _without_cuda(utils._init_dist_pytorch)
    utils._init_dist_slurm = _without_cuda(utils._init_dist_slurm)
    wrap = Runner.wrap_model

    @wraps(wrap)
    def wrap_model(self: Any, model_wrapper_cfg: dict[str, Any] | None, model: Any) -> Any:
        if self.distributed:
            model_wrapper_cfg = {
                "type": "MMDistributedDataParallel",
                "broadcast_buffers": False,
                "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
                **(model_wrapper_cfg or {}),
                "device_ids": None,
            }
        return wrap(self, model_wrapper_cfg, model)

    wrap_model.without_device = True  # type: ignore[attr-defined]
    Runner.wrap_model = wrap_model
    return True


def _without_cuda(launch: Callable[..., None]) -> Callable[..., None]:
    """A launcher of mmengine that starts gloo and chooses no CUDA device."""

    @wraps(launch)
    def start(backend: str, **kwargs: Any) -> None:
        with mock.patch.object(torch.cuda, "set_device"):
            launch("gloo", **kwargs)

    return start
