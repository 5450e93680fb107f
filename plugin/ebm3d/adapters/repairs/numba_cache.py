"""Compiled kernels of the host, kept between processes."""

from __future__ import annotations

import importlib

from numba.core.dispatcher import Dispatcher

_MODULES = (
    "mmdet3d.structures.ops.box_np_ops",
    "mmdet3d.datasets.transforms.data_augment_utils",
    "mmdet3d.evaluation.functional.kitti_utils.eval",
    "mmdet3d.models.layers.box3d_nms",
)


def repair_numba_caching() -> bool:
    """Let numba keep the host's compiled kernels on disk.

    Upstream defect: the kernels of the augmentation and of the evaluation are declared without
    ``cache=True``, so that every process, each data worker included, compiles them anew: 19 to
    48 seconds before the first batch. numba keeps them beside the host's files, or in its own
    cache folder where those cannot be written.

    Returns:
        Whether the repair is in place.
    """
    for name in _MODULES:
        for kernel in vars(importlib.import_module(name)).values():
            if isinstance(kernel, Dispatcher) and not kernel.stats.cache_path:
                kernel.enable_caching()
    return True
