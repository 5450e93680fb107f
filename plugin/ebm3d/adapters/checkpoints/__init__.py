"""Loading a checkpoint into a model, checked: what every command uses."""

from __future__ import annotations

from ebm3d.adapters.checkpoints.loading import check_loading, load_weights
from ebm3d.adapters.checkpoints.reading import check_file, explain, warn_if_damaged

__all__ = ["check_file", "check_loading", "explain", "load_weights", "warn_if_damaged"]
