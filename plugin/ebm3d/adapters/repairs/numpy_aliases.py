"""Names that numpy removed and the host still uses."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np


@cache
def repair_numpy_aliases() -> bool:
    """Give the host's ground-truth sampler the name ``np.long`` back.

    Upstream defect: ``mmdet3d/datasets/transforms/dbsampler.py`` says ``np.long``, which numpy
    1.24 to 1.26 do not have (open-mmlab/mmdetection3d, "module 'numpy' has no attribute 'long'").
    Only that module sees the name; numpy stays as it is.
    """
    if "long" in vars(np):
        return False
    from mmdet3d.datasets.transforms import dbsampler

    dbsampler.np = SimpleNamespace(**vars(np), long=np.int64)
    return True
