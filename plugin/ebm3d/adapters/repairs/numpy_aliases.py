"""Names that numpy removed and the host still uses."""

from __future__ import annotations

from typing import Any

import numpy as np


def repair_numpy_aliases() -> bool:
    """Give the host's ground-truth sampler the name ``np.long`` back.

    Upstream defect: ``mmdet3d/datasets/transforms/dbsampler.py`` says ``np.long``, which numpy
    1.24 to 1.26 do not have (open-mmlab/mmdetection3d, "module 'numpy' has no attribute 'long'");
    numpy 2 has it again. Only that module sees the name; numpy itself stays as it is.

    Returns:
        Whether the repair is in place; it is not needed where numpy has the name.
    """
    if "long" in vars(np):
        return False
    from mmdet3d.datasets.transforms import dbsampler

    dbsampler.np = _NumpyWithLong()
    return True


class _NumpyWithLong:
    """numpy, and ``long``."""

    long = np.int64

    def __getattr__(self, name: str) -> Any:
        """Hand out numpy's own name."""
        return getattr(np, name)
