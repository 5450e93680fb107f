"""Building and running mmengine's Runner; what the command-line tools call."""

from __future__ import annotations

from ebm3d.adapters.engine.composition import STAGES, compose, variants
from ebm3d.adapters.engine.fusion_fitting import fit_fusion
from ebm3d.adapters.engine.noise_fitting import fit_noise
from ebm3d.adapters.engine.options import OptionAction, parse_value
from ebm3d.adapters.engine.settings import apply_amp, check_settings, load_settings
from ebm3d.adapters.engine.testing import comparison_table, evaluate, switch_refinement_off
from ebm3d.adapters.engine.training import train

__all__ = [
    "STAGES",
    "OptionAction",
    "apply_amp",
    "check_settings",
    "comparison_table",
    "compose",
    "evaluate",
    "fit_fusion",
    "fit_noise",
    "load_settings",
    "parse_value",
    "switch_refinement_off",
    "train",
    "variants",
]
