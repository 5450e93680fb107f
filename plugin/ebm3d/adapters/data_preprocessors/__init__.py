"""Data preprocessors of the registry ``MODELS``."""

from __future__ import annotations

from ebm3d.adapters.data_preprocessors.refinement_data_preprocessor import (
    RefinementDataPreprocessor,
)

__all__ = ["RefinementDataPreprocessor"]
