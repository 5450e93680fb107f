"""Simulated drives: a moving sensor with ten classes around it, in the nuScenes layout."""

from __future__ import annotations

from ebm3d.simulation.drives.dataset import write_drives
from ebm3d.simulation.drives.drive import Drive, draw_drive
from ebm3d.simulation.drives.tables import VERSION

__all__ = ["VERSION", "Drive", "draw_drive", "write_drives"]
