"""Evaluate a checkpoint, before and after refinement in one run."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine import Config
from mmengine.runner import Runner
from rich.table import Table

from ebm3d.adapters.checkpoints import check_file, load_weights
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.metrics.nuscenes_metric import MEAN_ERRORS
from ebm3d.adapters.parts import part_of
from ebm3d.adapters.repairs import prepare_distributed_on_cpu
from ebm3d.errors import input_error

_METRICS = ("EBM3DKittiMetric", "EBM3DNuScenesMetric")
_STAGES = ("before", "after")
_CALIBRATION = {
    ("nll", "mean"): "NLL of matched boxes (nats)",
    ("nll", "not_turned"): "NLL without flipped headings",
    ("ece", "mean"): "ECE, mean of the dimensions",
    ("qce",): "QCE, joint",
}
_SCORES = {
    "brier": "scores: Brier score of fitting boxes",
    "ece": "scores: ECE of fitting boxes",
}


def evaluate(
    config: str | Path,
    checkpoint: str | Path,
    *,
    work_dir: str | Path | None = None,
    refine: bool = True,
    results_dir: str | Path | None = None,
    json_file: str | Path | None = None,
    calibration: dict[str, Any] | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = "none",
) -> dict[str, Any]:
    """Run a checkpoint over the test split and evaluate its boxes.

    Args:
        config: a config file, or the name of one that comes with the package.
        checkpoint: what training saved.
        work_dir: folder of the logs.
        refine: whether a refinement head refines; without, the detector's boxes are evaluated.
        results_dir: folder for result files: KITTI's of each frame, or nuScenes' JSON.
        json_file: file for all figures.
        calibration: settings of the metric for predicted densities in place of the config's:
            ``temperature``, ``fit_temperature``, ``figures``.
        cfg_options: values of the config by dotted key.
        launcher: how this process was started: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        All figures in the layout of the metric: ``{"before": {...}, "after": {...}}`` where boxes
        were refined, ``{"Car": {...}}`` or ``{"nd_score": ..., ...}`` elsewhere.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the config evaluates with another metric, or the checkpoint is not one of
            this model, see :func:`ebm3d.adapters.checkpoints.load_weights`.
    """
    check_file(checkpoint)
    cfg = load_settings(config, work_dir=work_dir, cfg_options=cfg_options, launcher=launcher)
    cfg.load_from = None
    if not refine:
        switch_refinement_off(cfg)
    if cfg.test_evaluator.get("type") not in _METRICS:
        expected = " or ".join(_METRICS)
        raise input_error("test_evaluator.type", expected, cfg.test_evaluator.get("type"))
    with TemporaryDirectory() as folder:
        figures = Path(json_file) if json_file is not None else Path(folder) / "figures.json"
        cfg.test_evaluator.json_file = str(figures)
        settings = {key: str(value) for key, value in (calibration or {}).items()}
        cfg.test_evaluator.calibration = {
            **(cfg.test_evaluator.get("calibration") or {}),
            **settings,
        }
        cfg.test_evaluator.out_dir = None if results_dir is None else str(results_dir)
        prepare_distributed_on_cpu(cfg)
        runner = Runner.from_cfg(cfg)
        load_weights(runner.model, checkpoint, cfg, refine=refine)
        runner.test()
        return json.loads(figures.read_text()) if figures.is_file() else {}


def switch_refinement_off(cfg: Config) -> None:
    """Set ``refine=False`` where a config, changed in place, has a refinement head."""
    head = part_of(cfg.model, "bbox_head")
    if "refinement_head" in head:
        head.refine = False


def comparison_table(figures: dict[str, Any]) -> Table:
    """The figures that matter most, before and after refinement side by side.

    Args:
        figures: what :func:`evaluate` returns.

    Returns:
        Average precision (R40, moderate) by overlap threshold and the mean overlap of matched
        boxes, and where densities are predicted their NLL (nats, in meters and radians), ECE and
        QCE, one row each; of nuScenes the official figures and AP by class. A single column of
        values where nothing was refined.
    """
    stages = [stage for stage in _STAGES if stage in figures]
    trees = [figures[stage] for stage in stages] or [figures]
    is_nuscenes = "nd_score" in trees[0]
    table = Table(title="nuScenes protocol" if is_nuscenes else "KITTI protocol, moderate")
    table.add_column("figure")
    for name in [*stages, "change"] if stages else ["value"]:
        table.add_column(name, justify="right")
    for label, values in (_nuscenes_rows if is_nuscenes else _kitti_rows)(trees):
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        known = [value for value in values if value is not None]
        if len(values) == len(known) == 2:
            cells.append(f"{known[1] - known[0]:+.3f}")
        table.add_row(label, *cells)
    return table


def _kitti_rows(trees: list[dict[str, Any]]) -> list[tuple[str, list[float | None]]]:
    """Label and value per tree of each row."""
    rows = []
    for name, classes in trees[0].items():
        for metric, title in (("3d", "3D"), ("bev", "BEV")):
            for threshold in classes.get(metric, {}):
                path = (name, metric, threshold, "moderate", "ap_r40")
                values = [_at(tree, path) for tree in trees]
                rows.append((f"{name} {title} AP R40, IoU {threshold}", values))
        for key, title in (("mean_iou_3d", "3D"), ("mean_iou_bev", "BEV")):
            for part in ("localization", "localization_same_pairs"):
                if part in classes:
                    values = [_at(tree, (name, part, "moderate", key)) for tree in trees]
                    pairs = ", same pairs" if part.endswith("pairs") else ""
                    rows.append((f"{name} mean {title} IoU of matched boxes{pairs}", values))
        for key, title in _SCORES.items():
            values = [_at(tree, (name, "scores", key)) for tree in trees]
            if any("scores" in tree.get(name, {}) for tree in trees):
                rows.append((f"{name} {title}", values))
        for place, title in _CALIBRATION.items():
            values = [_at(tree, (name, "calibration", "moderate", *place)) for tree in trees]
            if any("calibration" in tree.get(name, {}) for tree in trees):
                rows.append((f"{name} {title}", values))
    return rows


def _nuscenes_rows(trees: list[dict[str, Any]]) -> list[tuple[str, list[float | None]]]:
    """Label and value per tree of each row."""
    paths: dict[str, tuple[str, ...]] = {"NDS": ("nd_score",), "mAP": ("mean_ap",)}
    paths |= {name: ("tp_errors", error) for error, name in MEAN_ERRORS.items()}
    for name in trees[0]["label_aps"]:
        paths[f"{name} AP"] = ("mean_dist_aps", name)
    return [(label, [_at(tree, path) for tree in trees]) for label, path in paths.items()]


def _at(tree: Any, path: tuple[str, ...]) -> float | None:
    """The number at a path of a tree, if there is one."""
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return None
        tree = tree[key]
    return tree
