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
from mmengine.runner import Runner
from rich.progress import track

from ebm3d.adapters.engine.head_evaluation import (
    HeadRun,
    detect_frames,
    fit_run_temperature,
    run_head,
)
from ebm3d.adapters.engine.head_report import figures_of
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.engine.testing import read_state
from ebm3d.boxes.iou import iou_3d
from ebm3d.devices import device_of
from ebm3d.errors import input_error

Key = tuple[str, int]
"""Name of a head and seed of its training."""


@dataclass(frozen=True)
class Contestant:
    """A refinement head that takes part in a comparison.

    Attributes:
        config: of its training, as ``tools/train.py`` takes it.
        choices: settings of inference to choose among, by dotted attributes of the head; at least
            one, which may be empty. All name the same attributes, as one is set after the other.

    Raises:
        ValueError: if they do not, or there is none.
    """

    config: str
    choices: tuple[dict[str, Any], ...] = ({},)

    def __post_init__(self) -> None:
        """Check the choices."""
        if len({frozenset(choice) for choice in self.choices}) != 1:
            raise input_error("choices", "one or more, of the same attributes", self.choices)


def load_heads(
    contestants: Mapping[str, Contestant], files: Mapping[Key, Path], device: torch.device
) -> dict[Key, Any]:
    """Build the head of every name and seed with its trained parameters.

    Args:
        contestants: by name.
        files: checkpoints of :func:`ebm3d.adapters.engine.head_comparison.train_heads`.
        device: of the detector whose boxes they refine.

    Returns:
        Heads in evaluation mode, on the device.

    Raises:
        ValueError: naming the file, if it holds no head or another than the config's.
    """
    prefix, heads = "bbox_head.refinement_head.", {}
    for (name, seed), file in files.items():
        cfg = load_settings(contestants[name].config)
        head = MODELS.build(cfg.model.bbox_head.refinement_head)
        state = read_state(file)
        own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        wanted = head.state_dict()
        unlike = [
            k
            for k in {**wanted, **own}
            if k not in own or k not in wanted or own[k].shape != wanted[k].shape
        ]
        if unlike:
            raise input_error(
                f"checkpoint {file}",
                f"of the refinement head of {contestants[name].config}",
                f"one that differs in {len(unlike)} parameters, first {unlike[0]}"
                if own
                else "one without a refinement head",
                f"train {name}, or give the folder in which it was trained",
            )
        head.load_state_dict(own)
        heads[name, seed] = head.to(device).eval()
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
    """Set attributes of a head.

    Args:
        head: a refinement head; changed in place.
        settings: values by dotted attribute.

    Raises:
        ValueError: naming the attribute, if there is none of that name.
    """
    for name, value in settings.items():
        *owners, last = name.split(".")
        owner = head
        try:
            for part in owners:
                owner = getattr(owner, part)
            getattr(owner, last)
        except AttributeError as error:
            expected = f"an attribute of the head, a {type(head).__name__}"
            raise input_error(f"setting {name}", expected, f"none: {error}") from error
        setattr(owner, last, value)


def mean_iou(run: HeadRun) -> float:
    """Return the mean 3D IoU of the pairs of a run.

    Raises:
        ValueError: if there are none.
    """
    if not sum(len(boxes) for boxes in run.boxes):
        expected = "frames in which the detector finds a true box"
        got = f"{len(run.boxes)} frames without one"
        raise input_error("selection-data", expected, got, "give the detector's own kind of data")
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

    Raises:
        ValueError: if a head has no such settings, or the frames have no pairs.
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

    Raises:
        ValueError: naming the file, if it is none or a head is not in it.
    """
    name_of = f"settings {path}"
    try:
        entries = json.loads(path.read_text())["heads"]
        settings_of = {name: entry["chosen"]["settings"] for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        got = f"another file ({type(error).__name__}: {error})"
        raise input_error(name_of, "what a comparison of heads wrote as --json", got) from error
    missing = [name for name in dict.fromkeys(name for name, _ in heads) if name not in settings_of]
    if missing:
        raise input_error(
            name_of,
            f"of a comparison with {', '.join(missing)}",
            f"one with {', '.join(settings_of)}",
            "choose settings on --selection-data, or compare the heads it has",
        )
    chosen = {}
    for name, seed in heads:
        settings = settings_of[name]
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
    config = contestants[first[0]].config
    model, loader, cfg = build_detector(config, files[first], work_dir, None)
    heads = load_heads(contestants, files, device_of(model))
    if Path(selection).is_file():
        chosen = read_choice(Path(selection), heads)
    else:
        _, frames, _ = build_detector(config, files[first], work_dir, f"{selection}/")
        chosen = choose(model, frames, heads, contestants)
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
