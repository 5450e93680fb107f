"""Energy-based and probabilistic 3D box regression for MMDetection3D.

The functional core (boxes, noise, pooling, energy, codecs, densities, losses, regressions,
refiners, datasets, evaluation, simulation) works on raw tensors and arrays and never imports
mmdet3d; ``ebm3d.register`` is the one module a config imports to enter the plugin's classes in the
host's registries.

The names below are the public interface; each is imported when it is first used, so that
``import ebm3d`` costs nothing.
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

_HOMES = {
    "BEVGridPool": "ebm3d.pooling",
    "BoxDistribution": "ebm3d.densities",
    "BoxEnergy": "ebm3d.energy",
    "BoxNoise": "ebm3d.noise",
    "BoxRegression": "ebm3d.regressions",
    "EnergyNetwork": "ebm3d.energy",
    "GradientAscent": "ebm3d.refiners",
    "PointBoxPool": "ebm3d.pooling",
    "QuasiNewtonAscent": "ebm3d.refiners",
    "RefinementResult": "ebm3d.refiners",
    "Scenes": "ebm3d.pooling",
    "evaluate_kitti": "ebm3d.evaluation.kitti_evaluation",
    "iou_3d": "ebm3d.boxes.iou",
    "iou_bev": "ebm3d.boxes.iou",
    "laplace_approximation": "ebm3d.refiners",
    "nce_loss": "ebm3d.losses",
    "prepare_kitti": "ebm3d.datasets",
    "read_calibration": "ebm3d.datasets",
    "read_labels": "ebm3d.datasets",
    "report_calibration": "ebm3d.evaluation.calibration",
    "sample_posterior": "ebm3d.energy",
    "simulate_frame": "ebm3d.simulation",
    "wrap_to_pi": "ebm3d.boxes",
    "write_dataset": "ebm3d.simulation",
    "write_labels": "ebm3d.datasets",
}

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
    """Import a public name from the room it lives in (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted(__all__)
