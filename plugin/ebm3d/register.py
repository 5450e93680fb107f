"""The one module a config imports: enters every class of the plugin and repairs the host.

``custom_imports = dict(imports=["ebm3d.register"], allow_failed_imports=False)``
"""

from __future__ import annotations

from ebm3d.adapters import (
    dense_heads,
    detectors,
    hooks,
    metrics,
    optimizers,
    refinement_heads,
)
from ebm3d.adapters.repairs import repair_host

repair_host()

__all__ = [
    "dense_heads",
    "detectors",
    "hooks",
    "metrics",
    "optimizers",
    "refinement_heads",
]
