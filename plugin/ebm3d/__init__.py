"""Energy-based and probabilistic 3D box regression for MMDetection3D.

Configs import ``ebm3d.register``; everything outside it and ``ebm3d.adapters`` works on tensors and
arrays, without mmdet3d. The names below are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ebm3d.paths import config_path

if TYPE_CHECKING:
    from ebm3d.boxes import wrap_to_pi
    from ebm3d.boxes.iou import iou_3d, iou_bev
    from ebm3d.datasets import prepare_kitti, read_calibration, read_labels, write_labels
    from ebm3d.densities import BoxDistribution
    from ebm3d.energy import BoxEnergy, EnergyNetwork, sample_posterior
    from ebm3d.evaluation.calibration import report_calibration
    from ebm3d.evaluation.kitti_evaluation import evaluate_kitti
    from ebm3d.losses import nce_loss
    from ebm3d.noise import BoxNoise
    from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
    from ebm3d.refiners import (
        GradientAscent,
        QuasiNewtonAscent,
        RefinementResult,
        laplace_approximation,
    )
    from ebm3d.regressions import BoxRegression
    from ebm3d.simulation import simulate_frame, write_dataset

__version__ = "0.1.0"

_MODULES = {
    "ebm3d.boxes": ("wrap_to_pi",),
    "ebm3d.boxes.iou": ("iou_3d", "iou_bev"),
    "ebm3d.datasets": ("prepare_kitti", "read_calibration", "read_labels", "write_labels"),
    "ebm3d.densities": ("BoxDistribution",),
    "ebm3d.energy": ("BoxEnergy", "EnergyNetwork", "sample_posterior"),
    "ebm3d.evaluation.calibration": ("report_calibration",),
    "ebm3d.evaluation.kitti_evaluation": ("evaluate_kitti",),
    "ebm3d.losses": ("nce_loss",),
    "ebm3d.noise": ("BoxNoise",),
    "ebm3d.pooling": ("BEVGridPool", "PointBoxPool", "Scenes"),
    "ebm3d.refiners": (
        "GradientAscent", "QuasiNewtonAscent", "RefinementResult", "laplace_approximation",
    ),
    "ebm3d.regressions": ("BoxRegression",),
    "ebm3d.simulation": ("simulate_frame", "write_dataset"),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BEVGridPool",
    "BoxDistribution",
    "BoxEnergy",
    "BoxNoise",
    "BoxRegression",
    "EnergyNetwork",
    "GradientAscent",
    "PointBoxPool",
    "QuasiNewtonAscent",
    "RefinementResult",
    "Scenes",
    "__version__",
    "config_path",
    "evaluate_kitti",
    "iou_3d",
    "iou_bev",
    "laplace_approximation",
    "nce_loss",
    "prepare_kitti",
    "read_calibration",
    "read_labels",
    "report_calibration",
    "sample_posterior",
    "simulate_frame",
    "wrap_to_pi",
    "write_dataset",
    "write_labels",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
