"""Energy-based and probabilistic 3D box regression for MMDetection3D.

The functional core (boxes, noise, pooling, energy, losses, refiners, datasets, evaluation,
simulation) works on raw tensors and arrays and never imports mmdet3d; ``ebm3d.register`` is the
one module a config imports to enter the plugin's classes in the host's registries.
"""

from __future__ import annotations

from ebm3d.paths import config_path

__version__ = "0.1.0"

__all__ = ["__version__", "config_path"]
