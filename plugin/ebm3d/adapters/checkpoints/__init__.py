"""Loading a checkpoint into a model, checked: what every command uses."""

from __future__ import annotations

from ebm3d.adapters.checkpoints.loading import check_loading, load_weights, read_meta
from ebm3d.adapters.checkpoints.provenance import settings_of
from ebm3d.adapters.checkpoints.reading import (
    check_file,
    explain,
    newest_checkpoint,
    warn_if_damaged,
)

__all__ = [
    "check_file",
    "check_loading",
    "explain",
    "load_weights",
    "newest_checkpoint",
    "read_meta",
    "settings_of",
    "warn_if_damaged",
]
