"""Where the detector below a refinement head comes from: a checkpoint, or the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine import Config

from ebm3d.adapters.checkpoints import newest_checkpoint, read_meta, settings_of
from ebm3d.adapters.engine.composition import find_config
from ebm3d.adapters.parts import part_name, part_of

_SCHEDULE = ("optim_wrapper", "param_scheduler", "train_cfg", "find_unused_parameters")


class DetectorSource(NamedTuple):
    """A decision, for the log, and what it changes in a config: a checkpoint, or a schedule."""

    message: str
    load_from: str | None
    schedule: Mapping[str, Any]

    def apply(self, cfg: Config) -> None:
        """Change a config in place."""
        if self.load_from is not None:
            cfg.load_from = self.load_from
            return
        part_of(cfg.model, "bbox_head").detector = "detached"
        for key in _SCHEDULE:
            cfg.pop(key, None)
            if key in self.schedule:
                cfg[key] = self.schedule[key]


def choose_detector(
    cfg: Config, options: Mapping[str, Any], resumed: str | Path | None = None
) -> DetectorSource | None:
    """Find a detector for a head that is trained on a frozen one without ``load_from``.

    It is the newest checkpoint in the default work folder of the config that ``detector_config``
    names. Where there is none, detector and head are trained in one run: ``detector="detached"``
    with the schedule of the detector's config. So they are where the options ask for "detached",
    or the resumed checkpoint is of such a run.

    Args:
        cfg: settings of a training without its options.
        options: of the run by dotted key.
        resumed: checkpoint that the run goes on from.

    Returns:
        The decision; None where there is nothing to decide.
    """
    mode = _mode(cfg._cfg_dict)
    name = options.get("detector_config", cfg.get("detector_config"))
    if mode is None or name is None:
        return None
    asked = options.get(f"model.{part_name(cfg.model, 'bbox_head')}.detector", mode)
    path = find_config(name)
    detector = Config.fromfile(path)
    folder = Path(detector.get("work_dir") or Path("work_dirs") / path.stem)
    train = detector.get("train_cfg") or {}
    one_run = (
        f"detector and head are trained in one run, with the schedule of {path.name} "
        f"({train.get('max_epochs')} epochs where no option gives max_epochs)"
    )
    if asked == "detached" != mode:
        return DetectorSource(one_run, None, detector)
    if asked != "frozen":
        return None
    if resumed is not None:
        if _mode(settings_of(read_meta(resumed))) != "detached":
            return None
        return DetectorSource(f"{one_run}, as in {resumed}", None, detector)
    if options.get("load_from", cfg.get("load_from")) is not None:
        return None
    found = newest_checkpoint(folder)
    if found is not None:
        message = f"load_from is not given: the newest checkpoint of {folder} is {_name(found)}"
        return DetectorSource(message, found, {})
    message = (
        f"load_from is not given, and {folder} holds no checkpoint: {one_run}; to train the head "
        f"alone, train {path.name} first, or give load_from=CHECKPOINT"
    )
    return DetectorSource(message, None, detector)


def _mode(settings: Mapping[str, Any]) -> str | None:
    """How the config of a refinement head treats its detector; None for other models."""
    head = part_of(settings.get("model") or {}, "bbox_head")
    return head.get("detector", "frozen") if head.get("type") == "RefinedDenseHead" else None


def _name(checkpoint: str) -> str:
    """Name of a checkpoint, with its epoch if the training was stopped before the last."""
    meta = read_meta(checkpoint)
    epoch = meta.get("epoch")
    total = (settings_of(meta).get("train_cfg") or {}).get("max_epochs")
    unfinished = epoch is not None and total is not None and epoch < total
    note = f" (unfinished: epoch {epoch} of {total})" if unfinished else ""
    return f"{Path(checkpoint).name}{note}"
