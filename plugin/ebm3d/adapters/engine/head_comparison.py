"""Several refinement heads on one frozen detector: trained and evaluated side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.runner import Runner, find_latest_checkpoint

from ebm3d.adapters.engine.settings import load_settings
from ebm3d.errors import input_error


def group_settings(
    configs: Mapping[str, str | Path],
    work_dir: str | Path,
    *,
    seed: int | None = None,
    cfg_options: dict[str, Any] | None = None,
) -> Config:
    """Settings that train the refinement heads of several configs at once.

    Args:
        configs: configs by the name of their head; alike in all but ``refinement_head``, which is
            checked for the detector and the schedule.
        work_dir: folder of logs and checkpoints.
        seed: seed of the run.
        cfg_options: values of every config by dotted key.

    Returns:
        The settings of the first config with a ``RefinementHeadGroup`` in place of its head.

    Raises:
        ValueError: if two configs differ in their detector, data or schedule.
    """
    read = {
        name: load_settings(path, work_dir=work_dir, seed=seed, cfg_options=cfg_options)
        for name, path in configs.items()
    }
    first_name, cfg = next(iter(read.items()))
    heads = {name: c.model.bbox_head.pop("refinement_head") for name, c in read.items()}
    for name, other in read.items():
        for key in ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader"):
            if other.get(key) != cfg.get(key):
                raise input_error(
                    f"{key} of {name}", f"that of {first_name}", "another", "compare like with like"
                )
    cfg.model.bbox_head.refinement_head = {"type": "RefinementHeadGroup", "heads": heads}
    cfg.optim_wrapper.type = "GroupwiseClipOptimWrapper"
    cfg.optim_wrapper.constructor = "HeadwiseOptimWrapperConstructor"
    return cfg


def train_heads(cfg: Config) -> dict[str, Path]:
    """Train to the end of the schedule, from the newest checkpoint of the work folder if any.

    Args:
        cfg: of :func:`group_settings`, with ``load_from`` the detector's checkpoint.

    Returns:
        For every head a checkpoint that its own config can be tested with:
        ``<work_dir>/<name>.pth``.
    """
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if find_latest_checkpoint(cfg.work_dir) is not None:
        cfg.resume, cfg.load_from = True, None
    runner = Runner.from_cfg(cfg)
    runner.train()
    state = runner.model.state_dict()
    prefix = "bbox_head.refinement_head."
    files = {}
    for name in cfg.model.bbox_head.refinement_head.heads:
        own = f"{prefix}heads.{name}."
        kept = type(state)()
        for key, value in state.items():
            if key.startswith(own):
                kept[prefix + key[len(own) :]] = value.cpu()
            elif not key.startswith(prefix):
                kept[key] = value.cpu()
        # spconv and the host read what their modules noted of themselves.
        kept._metadata = getattr(state, "_metadata", {})
        files[name] = Path(cfg.work_dir) / f"{name}.pth"
        torch.save({"state_dict": kept, "meta": {"seed": runner.seed}}, files[name])
    return files
