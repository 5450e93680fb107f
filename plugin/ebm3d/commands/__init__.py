"""The command ``ebm3d``."""

from __future__ import annotations
