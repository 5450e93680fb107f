"""Where the detector below a refinement head comes from: a checkpoint, or the same run."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from ebm3d.adapters.engine.composition import find_config
from ebm3d.adapters.repairs import newest_checkpoint

_SCHEDULE = ("optim_wrapper", "param_scheduler", "train_cfg", "find_unused_parameters")


def supply_detector(
    cfg: Config, cfg_options: dict[str, Any], resumed: str | Path | None = None
) -> str | None:
    """Find a detector for a head that is trained on a frozen one without ``load_from``.

    It is the newest checkpoint in the default work folder of the config that ``detector_config``
    names. Where there is none, detector and head are trained in one run: ``detector="detached"``
    with the schedule of the detector's config. So they are where the options ask for "detached",
    or the resumed checkpoint is of such a run.

    Args:
        cfg: settings of a training without its options; changed in place.
        cfg_options: options of the run by dotted key.
        resumed: checkpoint that the run goes on from.

    Returns:
        What was decided, for the log; None where nothing had to be.
    """
    asked = deepcopy(cfg)
    asked.merge_from_dict(cfg_options)
    mode = _mode(asked)
    if mode is None or "detector_config" not in asked:
        return None
    path = find_config(asked.detector_config)
    detector = Config.fromfile(path)
    folder = Path(detector.get("work_dir") or Path("work_dirs") / path.stem)
    one_run = f"detector and head are trained in one run, with the schedule of {path.name}"
    if mode == "detached":
        if _mode(cfg) == "detached":  # the resolved config of such a run
            return None
        message = one_run
    elif mode != "frozen":
        return None
    elif resumed is not None:
        if _mode(_settings_of(resumed)) != "detached":
            return None
        message = f"{one_run}, as in {resumed}"
    elif asked.get("load_from"):
        return None
    elif (found := newest_checkpoint(folder)) is not None:
        cfg.load_from = found
        name = _name(Path(found))
        return f"load_from is not given: taking the newest checkpoint of {folder}, {name}"
    else:
        message = (
            f"load_from is not given, and {folder} holds no checkpoint: {one_run}; to train the "
            f"head alone, train {path.name} first, or give load_from=CHECKPOINT"
        )
    cfg.model.bbox_head.detector = "detached"
    for key in _SCHEDULE:
        cfg.pop(key, None)
        if key in detector:
            cfg[key] = detector[key]
    return message


def _mode(cfg: Config) -> str | None:
    """How the config of a refinement head treats its detector; None for other models."""
    head = cfg.get("model", {}).get("bbox_head", {})
    return head.get("detector", "frozen") if head.get("type") == "RefinedDenseHead" else None


def _name(checkpoint: Path) -> str:
    """Name of a checkpoint, with its epoch if the training was stopped before the last."""
    epoch = _meta(checkpoint).get("epoch")
    total = _settings_of(checkpoint).get("train_cfg", {}).get("max_epochs")
    unfinished = epoch is not None and total is not None and epoch < total
    note = f" (unfinished: epoch {epoch} of {total})" if unfinished else ""
    return f"{checkpoint.name}{note}"


def _settings_of(checkpoint: str | Path) -> Config:
    """The config that a checkpoint was trained with; an empty one if it does not say."""
    text = _meta(checkpoint).get("cfg")
    return Config.fromstring(text, ".py") if text else Config()


def _meta(checkpoint: str | Path) -> dict[str, Any]:
    """What a checkpoint says of its training."""
    loaded = torch.load(checkpoint, map_location="cpu", mmap=True)
    meta: dict[str, Any] = loaded.get("meta", {})
    return meta
