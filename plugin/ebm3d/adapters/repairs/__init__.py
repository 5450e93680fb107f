"""Repairs of the host on this stack: one function per defect, all applied by ``repair_host``.

Each runs once per process and returns whether the repair is in place. ``docs/host.md`` lists the
defects, ``docs/decisions/010-repairs-are-global.md`` says why these change classes of the host.
"""

from __future__ import annotations

from collections.abc import Callable

from ebm3d.adapters.repairs.checkpoint_writing import repair_checkpoint_writing
from ebm3d.adapters.repairs.checkpoints import repair_checkpoint_loading
from ebm3d.adapters.repairs.class_sampling import repair_class_balance, repair_object_sampling
from ebm3d.adapters.repairs.distributed import prepare_distributed_on_cpu
from ebm3d.adapters.repairs.empty_clouds import repair_empty_clouds
from ebm3d.adapters.repairs.numba_cache import repair_numba_caching
from ebm3d.adapters.repairs.numpy_aliases import repair_numpy_aliases
from ebm3d.adapters.repairs.sparse_convolution import (
    repair_spconv_dense,
    repair_spconv_index_layout,
    repair_spconv_scatter_add,
    repair_spconv_stream,
)
from ebm3d.adapters.repairs.sweeps import repair_sweep_paths, repair_sweeps
from ebm3d.adapters.repairs.unknown_velocities import repair_unknown_velocities
from ebm3d.adapters.repairs.visualization import repair_visualization_hook

REPAIRS: tuple[Callable[[], bool], ...] = (
    repair_spconv_stream,
    repair_spconv_scatter_add,
    repair_spconv_index_layout,
    repair_spconv_dense,
    repair_empty_clouds,
    repair_numpy_aliases,
    repair_numba_caching,
    repair_checkpoint_loading,
    repair_checkpoint_writing,
    repair_visualization_hook,
    repair_sweeps,
    repair_sweep_paths,
    repair_unknown_velocities,
    repair_class_balance,
    repair_object_sampling,
)


def repair_host() -> dict[str, bool]:
    """Apply every repair; by its name ``False`` if the defect is absent here, as with CUDA."""
    return {repair.__name__: repair() for repair in REPAIRS}


__all__ = [
    "REPAIRS",
    "prepare_distributed_on_cpu",
    "repair_host",
    *(repair.__name__ for repair in REPAIRS),
]
