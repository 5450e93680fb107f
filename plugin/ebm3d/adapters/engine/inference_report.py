"""Settings of inference side by side: what is compared, its figures, its tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from ebm3d.adapters.dense_heads.after_refinement import fuse_scores, suppress
from ebm3d.adapters.engine.head_evaluation import HeadRun, kitti_figures
from ebm3d.adapters.engine.head_report import cell
from ebm3d.adapters.engine.head_selection import Contestant, build_detector, load_heads
from ebm3d.adapters.engine.inference_runs import (
    DETECTOR,
    InferenceRun,
    InferenceSetting,
    run_settings,
)
from ebm3d.devices import device_of
from ebm3d.energy.log_density import LogDensity
from ebm3d.errors import input_error
from ebm3d.evaluation.score_fusion import read_score_fusion
from ebm3d.refiners import GradientAscent, MultiStart, QuasiNewtonAscent

_HEAD = "ebm"
SPLITS = ("selection", "validation")
CANDIDATES = {"nms_thr": 0.5, "max_num": 100}
"""Suppression of what is refined before NMS."""
BEFORE_NMS = ("ascent before NMS",)
"""Settings that refine them."""
NUM_STARTS = 3
NUM_MEAN_SAMPLES = 64
SAMPLED = LogDensity("importance", num_samples=32, num_rounds=3)
_CHOSEN_BY = 0.75


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        run: name of the setting that refines.
        features: fused with the score; none leaves the detector's.
    """

    run: str
    features: tuple[str, ...] = ()


ROWS: dict[str, Row] = {
    "detector alone": Row(DETECTOR),
    "ascent": Row("ascent"),
    "quasi-Newton ascent": Row("quasi-Newton"),
    f"ascent from {NUM_STARTS} starts": Row("starts"),
    "importance-weighted mean": Row("mean"),
    "ascent, f in scores": Row("ascent", ("f_refined",)),
    "ascent, log p by samples in scores": Row("ascent", ("log_p_sampled",)),
    "ascent, log p by Laplace in scores": Row("ascent", ("log_p_laplace",)),
    "ascent, f and log p by samples in scores": Row("ascent", ("f_refined", "log_p_sampled")),
    "quasi-Newton, f in scores": Row("quasi-Newton", ("f_refined",)),
    "quasi-Newton, log p by Laplace in scores": Row("quasi-Newton", ("log_p_laplace",)),
    "quasi-Newton, f and log p by Laplace in scores": Row(
        "quasi-Newton", ("f_refined", "log_p_laplace")
    ),
    "ascent before NMS": Row("ascent before NMS"),
    "ascent before NMS, f in scores and NMS": Row("ascent before NMS", ("f_refined",)),
    "ascent before NMS, log p by samples in scores and NMS": Row(
        "ascent before NMS", ("log_p_sampled",)
    ),
    "ascent before NMS, log p by Laplace in scores and NMS": Row(
        "ascent before NMS", ("log_p_laplace",)
    ),
}


def settings_of(head: Any) -> dict[str, InferenceSetting]:
    """Settings of inference by name.

    Args:
        head: with the refiner of its config, a ``GradientAscent`` or a ``QuasiNewtonAscent``: it
            is that row of the table, and the other shares its steps and limits.

    Raises:
        ValueError: for a head without such a refiner, or noise whose standard deviations are no
            units of several starts.
    """
    given = getattr(head, "refiner", None)
    if not isinstance(given, GradientAscent | QuasiNewtonAscent):
        expected = "a GradientAscent or a QuasiNewtonAscent, whose steps and limits are shared"
        got = f"{type(head).__name__} without a refiner" if given is None else type(given).__name__
        raise input_error("refiner of the head", expected, got, "name its base in the config")
    base = head.noise.base
    if (base.axes, base.sizes) != ("box", "log"):
        expected = "drawn along the axes of the box, with log ratios of sizes, for several starts"
        raise input_error("noise", expected, f"axes={base.axes!r}, sizes={base.sizes!r}")
    steps = (given.num_steps, given.step_size, given.step_decay)
    ascent, quasi_newton = (
        given if isinstance(given, kind) else kind(*steps).within_limits_of(given)
        for kind in (GradientAscent, QuasiNewtonAscent)
    )
    sampled, laplace = {"log_p_sampled": SAMPLED}, {"log_p_laplace": LogDensity("laplace")}
    plain = {
        "refiner": ascent,
        "prediction": "refined",
        "num_prediction_samples": NUM_MEAN_SAMPLES,
    }
    starts = MultiStart(ascent, base.stds.tolist(), NUM_STARTS)
    return {
        "ascent": InferenceSetting(plain, densities={**sampled, **laplace}),
        "quasi-Newton": InferenceSetting({**plain, "refiner": quasi_newton}, densities=laplace),
        "starts": InferenceSetting({**plain, "refiner": starts}),
        "mean": InferenceSetting({**plain, "prediction": "importance_mean"}),
        "ascent before NMS": InferenceSetting(plain, True, {**sampled, **laplace}),
    }


def refined_frames(
    config: str, file: Path, kept: Path, data_root: str | None
) -> tuple[dict[str, InferenceRun], list[float], Any, Config]:
    """Refine a split under every setting, or read what an earlier call left.

    Args:
        config: of the head.
        file: its checkpoint.
        kept: file of the refined boxes, read if it is newer than the checkpoint; beside it the
            host's logs.
        data_root: folder of other frames than the config's, or None.

    Returns:
        Runs by setting, seconds of the detector, ``metainfo`` of the data set, the config.
    """
    model, loader, cfg = build_detector(config, file, kept.parent, data_root)
    if kept.is_file() and kept.stat().st_mtime >= file.stat().st_mtime:
        runs, detector = torch.load(kept, weights_only=False)
    else:
        heads = load_heads({_HEAD: Contestant(config)}, {(_HEAD, 0): file}, device_of(model))
        (head,) = heads.values()
        runs, detector = run_settings(model, loader, head, settings_of(head), CANDIDATES)
        torch.save((runs, detector), kept)
    return runs, detector, loader.dataset.metainfo, cfg


def compare_inference(
    config: str,
    files: Mapping[int, Path],
    work_dir: Path,
    selection: str,
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Fit and choose on one set of frames, measure on another.

    Args:
        config: of the heads.
        files: checkpoints by seed.
        work_dir: of the host's logs, and of the refined boxes.
        selection: folder of a data set on whose validation split fusions are fitted.
        thresholds: of the overlap, for the average precision; 0.75 among them.

    Returns:
        ``detector_seconds``, ``chosen`` (the row of the highest AP at 0.75 on the selection
        split; of equal ones the first), and by row under ``rows`` the fitted ``fusion`` and the
        figures of each split and seed.

    Raises:
        ValueError: if 0.75 is no threshold.
    """
    if _CHOSEN_BY not in thresholds:
        raise input_error("thresholds", f"{_CHOSEN_BY} and others", tuple(thresholds))
    work_dir.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = {name: {"fusion": {}} for name in ROWS}
    result: dict[str, Any] = {"candidates": CANDIDATES, "rows": rows}
    fusions: dict[tuple[str, int], Path] = {}
    for seed, file in files.items():
        for split, root in zip(SPLITS, (selection, None), strict=True):
            kept = work_dir / f"refined_{split}_seed{seed}.pt"
            runs, detector, meta, cfg = refined_frames(config, file, kept, root)
            result["detector_seconds"] = statistics.median(detector)
            for name, row in ROWS.items():
                run = runs[row.run]
                if split == SPLITS[0] and row.features:
                    fitted = work_dir / f"fusion_{len(fusions)}.json"
                    plain = final_samples(run, row, None, cfg.model.test_cfg)
                    fit = {"fit": str(fitted), "features": row.features}
                    evaluator = {**cfg.test_evaluator, "score_fusion": fit}
                    kitti_figures(HeadRun(samples=plain), evaluator, meta, (0.7,))
                    fusions[name, seed] = fitted
                    rows[name]["fusion"][seed] = json.loads(fitted.read_text())
                fusion = fusions.get((name, seed))
                samples = final_samples(run, row, fusion, cfg.model.test_cfg)
                tree = kitti_figures(HeadRun(samples=samples), cfg.test_evaluator, meta, thresholds)
                figures = figures_of_row(tree["Car"], run, row)
                rows[name].setdefault(split, {})[seed] = figures
    middle = {
        name: statistics.median(s["ap_3d"][f"{_CHOSEN_BY:.2f}"] for s in entry[SPLITS[0]].values())
        for name, entry in rows.items()
    }
    result["chosen"] = max(middle, key=lambda name: middle[name])
    return result


def final_samples(
    run: InferenceRun, row: Row, fusion: Path | None, test_cfg: Any
) -> list[dict[str, Any]]:
    """Predictions of a row as its head would give them.

    Args:
        run: of its setting.
        row: says what is fused.
        fusion: file of weights; None leaves the detector's scores.
        test_cfg: of the dense head, whose suppression ends refinement before NMS.
    """
    fused = None if fusion is None else read_score_fusion(fusion)
    samples = []
    for sample in run.samples:
        shown = sample["pred_instances_3d"].clone()
        if fused is not None:
            shown = fuse_scores(shown, fused)
        if row.run in BEFORE_NMS:
            shown = suppress(shown, test_cfg)
        samples.append({**sample, "pred_instances_3d": shown})
    return samples


def figures_of_row(tree: Mapping[str, Any], run: InferenceRun, row: Row) -> dict[str, Any]:
    """Figures of one row, seed and split.

    Args:
        tree: of the metric, for the class.
        run: of the row's setting.
        row: whose features' cost is added.
    """
    parts = [run.seconds, *(run.density_seconds.get(name, []) for name in row.features)]
    return {
        "ap_3d": {t: v["moderate"]["ap_r40"] for t, v in tree["3d"].items()},
        "mean_iou_3d": tree["localization"]["moderate"]["mean_iou_3d"],
        "scores": {k: v for k, v in tree["scores"].items() if k != "reliability"},
        "reliability": tree["scores"]["reliability"],
        "seconds": sum(statistics.median(part) for part in parts if part),
    }


def rows_of(result: Mapping[str, Any], split: str, thresholds: Sequence[float]) -> list[list[str]]:
    """Return the head of a table, and a row for each: medians over the seeds, and ranges.

    Args:
        result: of :func:`compare_inference`.
        split: one of ``SPLITS``.
        thresholds: of the overlap.
    """
    head = ["inference", *(f"AP {t:.2f}" for t in thresholds), "mean IoU", "Brier", "ECE", "ms"]
    rows = [head]
    for name, entry in result["rows"].items():
        seeds = list(entry[split].values())
        row = [f"**{name}**" if name == result["chosen"] else name]
        row += [cell(seeds, ("ap_3d", f"{t:.2f}"), 1) for t in thresholds]
        row.append(cell(seeds, ("mean_iou_3d",), 3))
        row += [cell(seeds, ("scores", figure), 3) for figure in ("brier", "ece")]
        row.append(cell(seeds, ("seconds",), 0, 1e3))
        rows.append(row)
    return rows


def markdown_of(result: Mapping[str, Any], thresholds: Sequence[float]) -> str:
    """Return the tables of both splits.

    Args:
        result: of :func:`compare_inference`.
        thresholds: of the overlap.
    """
    tables = []
    for split in reversed(SPLITS):
        rows = rows_of(result, split, thresholds)
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        tables.append(
            "\n".join([f"{split}:", "", lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
        )
    return "\n\n".join(tables) + "\n"
