"""Trained refinement heads side by side: settings chosen on some frames, figures on others."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmengine import Config
from mmengine.runner import CheckpointLoader, Runner
from rich.progress import track

from ebm3d.adapters.engine.head_evaluation import (
    HeadRun,
    detect_frames,
    fit_run_temperature,
    run_head,
)
from ebm3d.adapters.engine.head_report import figures_of
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.boxes.iou import iou_3d

Key = tuple[str, int]
"""Name of a head and seed of its training."""


@dataclass(frozen=True)
class Contestant:
    """A refinement head that takes part in a comparison.

    Attributes:
        config: of its training, as ``tools/train.py`` takes it.
        choices: settings of inference to choose among, by dotted attributes of the head; at least
            one, which may be empty.
    """

    config: str
    choices: tuple[dict[str, Any], ...] = ({},)


def load_heads(contestants: Mapping[str, Contestant], files: Mapping[Key, Path]) -> dict[Key, Any]:
    """Build the head of every name and seed with its trained parameters.

    Args:
        contestants: by name.
        files: checkpoints of :func:`ebm3d.adapters.engine.head_comparison.train_heads`.

    Returns:
        Heads in evaluation mode.
    """
    prefix, heads = "bbox_head.refinement_head.", {}
    for (name, seed), file in files.items():
        cfg = load_settings(contestants[name].config)
        head = MODELS.build(cfg.model.bbox_head.refinement_head)
        state = CheckpointLoader.load_checkpoint(str(file), map_location="cpu")["state_dict"]
        own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        head.load_state_dict(own)
        heads[name, seed] = head.eval()
    return heads


def build_detector(
    config: str | Path, checkpoint: Path, work_dir: Path, data_root: str | None
) -> tuple[Any, Any, Config]:
    """Build the detector the heads stand on, and the frames of a split.

    Args:
        config: of any of the heads.
        checkpoint: its file, which holds the detector, too.
        work_dir: of the host's logs.
        data_root: folder of other frames than the config's.

    Returns:
        The model in evaluation mode, the loader of the test split, the settings.
    """
    options = {"data_root": data_root} if data_root else None
    settings = load_settings(config, work_dir=work_dir, cfg_options=options)
    settings.load_from, settings.log_level = str(checkpoint), "WARNING"
    runner = Runner.from_cfg(settings)
    runner.load_or_resume()
    return runner.model.eval(), runner.build_dataloader(settings.test_dataloader), settings


def apply_settings(head: Any, settings: Mapping[str, Any]) -> None:
    """Set dotted attributes of a head."""
    for name, value in settings.items():
        *owners, last = name.split(".")
        owner = head
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, value)


def mean_iou(run: HeadRun) -> float:
    """Return the mean 3D IoU of the pairs of a run."""
    boxes, truths = (torch.cat(part).double().numpy() for part in (run.boxes, run.truths))
    return float(np.mean(iou_3d(boxes, truths, aligned=True)))


def choose(
    model: Any, loader: Any, heads: Mapping[Key, Any], contestants: Mapping[str, Contestant]
) -> dict[str, Any]:
    """Choose the settings of each head by the mean IoU over all seeds, and fit temperatures.

    Args:
        model: the detector.
        loader: frames that neither trained the heads nor are reported.
        heads: of :func:`load_heads`; afterwards with the chosen settings.
        contestants: by name.

    Returns:
        By name ``settings``, ``tried`` (each choice with its figure) and ``temperature`` by seed.
    """
    runs: dict[tuple[str, int, int], HeadRun] = {}
    for frame in track(detect_frames(model, loader), "selection", total=len(loader)):
        for (name, seed), head in heads.items():
            for index, settings in enumerate(contestants[name].choices):
                apply_settings(head, settings)
                run = runs.setdefault((name, seed, index), HeadRun())
                run_head(head, frame, run, with_density=False)
    chosen: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in heads):
        candidates = contestants[name].choices
        seeds = [seed for other, seed in heads if other == name]
        ious = [
            statistics.mean(mean_iou(runs[name, seed, index]) for seed in seeds)
            for index in range(len(candidates))
        ]
        best = candidates[ious.index(max(ious))]
        tried = [{**c, "mean_iou_3d": iou} for c, iou in zip(candidates, ious, strict=True)]
        chosen[name] = {"settings": best, "tried": tried, "temperature": {}}
        for seed in seeds:
            apply_settings(heads[name, seed], best)
    again = {key: HeadRun() for key in heads}
    for frame in track(detect_frames(model, loader), "temperatures", total=len(loader)):
        for key, head in heads.items():
            run_head(head, frame, again[key])
    for (name, seed), run in again.items():
        chosen[name]["temperature"][seed] = fit_run_temperature(run)
    return chosen


def read_choice(path: Path, heads: Mapping[Key, Any]) -> dict[str, Any]:
    """Apply the settings that another comparison chose; its temperatures belong to its heads.

    Args:
        path: of its ``--json``.
        heads: by name and seed; afterwards with the settings.

    Returns:
        As :func:`choose`, with nothing tried.
    """
    entries = json.loads(path.read_text())["heads"]
    chosen = {}
    for name, seed in heads:
        settings = entries[name]["chosen"]["settings"]
        chosen[name] = {"settings": settings, "tried": [], "temperature": {}}
        apply_settings(heads[name, seed], settings)
    return chosen


def compare_heads(
    contestants: Mapping[str, Contestant],
    files: Mapping[Key, Path],
    work_dir: Path,
    selection: str | Path,
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Choose on one set of frames, measure on another.

    Args:
        contestants: by name.
        files: checkpoint of each name and seed.
        work_dir: of the host's logs.
        selection: folder of a data set on whose validation split settings and temperatures are
            chosen; or a JSON file of another comparison, whose settings are taken.
        thresholds: of the overlap, for the average precision.

    Returns:
        ``detector_seconds``, and by name under ``heads`` what was ``chosen`` and the figures of
        each seed under ``seeds``.
    """
    first = next(iter(files))
    config, heads = contestants[first[0]].config, load_heads(contestants, files)
    if Path(selection).is_file():
        chosen = read_choice(Path(selection), heads)
    else:
        model, loader, _ = build_detector(config, files[first], work_dir, f"{selection}/")
        chosen = choose(model, loader, heads, contestants)
    model, loader, cfg = build_detector(config, files[first], work_dir, None)
    runs: dict[Key, HeadRun] = {key: HeadRun() for key in heads}
    detector = []
    for frame in track(detect_frames(model, loader), "validation", total=len(loader)):
        detector.append(frame.seconds)
        for key, head in heads.items():
            run_head(head, frame, runs[key])
    meta = loader.dataset.metainfo
    result: dict[str, Any] = {"detector_seconds": statistics.median(detector), "heads": {}}
    for (name, seed), run in runs.items():
        entry = result["heads"].setdefault(name, {"chosen": chosen[name], "seeds": {}})
        factors = chosen[name]["temperature"].get(seed)
        entry["seeds"][seed] = figures_of(
            run, heads[name, seed], factors, cfg.test_evaluator, meta, thresholds
        )
    return result
