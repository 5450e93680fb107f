"""Compiled kernels of the host, kept between processes."""

from __future__ import annotations

import importlib
from functools import cache

from numba.core.dispatcher import Dispatcher

_MODULES = (
    "mmdet3d.structures.ops.box_np_ops",
    "mmdet3d.datasets.transforms.data_augment_utils",
    "mmdet3d.evaluation.functional.kitti_utils.eval",
    "mmdet3d.models.layers.box3d_nms",
)


@cache
def repair_numba_caching() -> bool:
    """Let numba keep the host's compiled kernels on disk.

    Upstream defect: the kernels of augmentation and evaluation are declared without ``cache=True``:
    every process and data worker compiles them anew, 19 to 48 seconds before the first batch.
    """
    for name in _MODULES:
        for kernel in vars(importlib.import_module(name)).values():
            if isinstance(kernel, Dispatcher):
                kernel.enable_caching()
    return True
