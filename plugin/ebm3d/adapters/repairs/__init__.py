"""Repairs of the host on this stack: one documented function per defect, all applied here.

Where a defect depends on the machine or the environment (a version, the absence of CUDA, a missing
name), the function looks for it first and changes the host only then; a defect that every known
release of the host has is repaired always, as ``docs/host.md`` says of each. Functions are
idempotent and return whether the repair is in place. ``tests/adapters/repairs`` shows the defects
with and without their repairs.
"""

from __future__ import annotations

from collections.abc import Callable

from ebm3d.adapters.repairs.checkpoints import repair_checkpoint_loading, repair_checkpoint_saving
from ebm3d.adapters.repairs.distributed import repair_distributed_on_cpu
from ebm3d.adapters.repairs.empty_clouds import repair_empty_clouds
from ebm3d.adapters.repairs.numba_cache import repair_numba_caching
from ebm3d.adapters.repairs.numpy_aliases import repair_numpy_aliases
from ebm3d.adapters.repairs.sparse_convolution import (
    repair_spconv_dense,
    repair_spconv_index_layout,
    repair_spconv_scatter_add,
    repair_spconv_stream,
)
from ebm3d.adapters.repairs.visualization import repair_visualization_hook

REPAIRS: tuple[Callable[[], bool], ...] = (
    repair_spconv_stream,
    repair_spconv_scatter_add,
    repair_spconv_index_layout,
    repair_spconv_dense,
    repair_empty_clouds,
    repair_numpy_aliases,
    repair_numba_caching,
    repair_checkpoint_saving,
    repair_checkpoint_loading,
    repair_distributed_on_cpu,
    repair_visualization_hook,
)


def repair_host() -> dict[str, bool]:
    """Apply every repair that this machine needs.

    Returns:
        For each repair, by function name, whether it is in place: ``False`` means that the
        defect is absent here (for example because CUDA is there).
    """
    return {repair.__name__: repair() for repair in REPAIRS}


__all__ = ["REPAIRS", "repair_host", *(repair.__name__ for repair in REPAIRS)]
