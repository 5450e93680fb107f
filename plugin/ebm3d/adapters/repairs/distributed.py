"""Data-parallel training without CUDA."""

from __future__ import annotations

from unittest import mock

import torch
from mmengine import Config
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing


def prepare_distributed_on_cpu(cfg: Config) -> None:
    """Start the process group of ``cfg.launcher`` with gloo, where there is no CUDA.

    Upstream defects: mmengine's launchers call ``torch.cuda.set_device`` first, and
    ``Runner.wrap_model`` hands a device number to ``DistributedDataParallel``, which CPU modules
    refuse. Changes ``cfg.model_wrapper_cfg`` in place, and no class of the host.
    """
    if cfg.launcher == "none" or torch.cuda.is_available():
        return
    environment = cfg.get("env_cfg", {})
    set_multi_processing(**environment.get("mp_cfg", {}), distributed=True)
    with mock.patch.object(torch.cuda, "set_device"):
        init_dist(cfg.launcher, **{**environment.get("dist_cfg", {}), "backend": "gloo"})
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
        **(cfg.get("model_wrapper_cfg") or {}),
        "device_ids": None,
    }
