"""From a config file and command-line options to the settings of one run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmengine import Config

from ebm3d.adapters.engine.composition import compose, find_config
from ebm3d.adapters.engine.grids import check_grids, nodes
from ebm3d.adapters.engine.options import lay_over
from ebm3d.adapters.parts import class_order, part_name, part_of
from ebm3d.errors import check_count, input_error

_LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_RUNS = count()


def load_settings(
    config: str | Path,
    *,
    head: str | None = None,
    stage: str | None = None,
    loss: str | None = None,
    work_dir: str | Path | None = None,
    seed: int | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = "none",
    adapt: Callable[[Config], None] | None = None,
) -> Config:
    """Read a config and lay the options of one run over it.

    Args:
        config: a config file, or the name of one that comes with the package.
        head: see :func:`~ebm3d.adapters.engine.composition.compose`; None for the config alone.
        stage: of ``head``.
        loss: of ``head``.
        work_dir: folder of logs and checkpoints; ``work_dirs/<name of the config>`` if neither
            this nor the config says one.
        seed: seed of the run in place of the config's.
        cfg_options: values by dotted key, ``{"train_dataloader.batch_size": 4}``. What follows from
            a variable of the config follows from its option: ``data_root`` moves every path below
            the config's, ``point_cloud_range`` and ``voxel_size`` set every place of that name,
            anchors and grid, ``max_epochs`` scales the schedule.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        adapt: changes the config in place before the options are laid over it.

    Returns:
        The settings, checked by :func:`check_settings`.

    Raises:
        FileNotFoundError: if there is no such config, head or loss.
        ValueError: if the launcher is unknown, nothing reads an option, or the settings contradict
            each other.
    """
    if launcher not in _LAUNCHERS:
        raise input_error("launcher", f"one of {', '.join(_LAUNCHERS)}", launcher)

    def read() -> Config:
        cfg = read_config(config, head=head, stage=stage, loss=loss)
        if adapt is not None:
            adapt(cfg)
        return cfg

    cfg = lay_over(read, cfg_options or {})
    name = Path(cfg.filename).stem
    cfg.work_dir = str(default_work_dir(cfg) if work_dir is None else work_dir)
    if seed is not None:
        cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}
    cfg.launcher = launcher
    # mmengine keeps logger, message hub and visualizer by this name and the second of the start:
    # two runs of one process within a second would share them.
    cfg.experiment_name = f"{name}_{next(_RUNS)}"
    check_settings(cfg)
    return cfg


def read_config(
    config: str | Path,
    *,
    head: str | None = None,
    stage: str | None = None,
    loss: str | None = None,
) -> Config:
    """Read a config, with a head on it if there is one; arguments as :func:`load_settings`."""
    if head is not None:
        return compose(config, head, stage, loss)
    if stage is not None or loss is not None:
        raise input_error("--head", "given with --stage and --loss", None, "add --head ebm")
    return Config.fromfile(find_config(config))


def default_work_dir(cfg: Config) -> Path:
    """The folder of logs and checkpoints that a config names, or ``work_dirs/<its name>``."""
    return Path(cfg.get("work_dir") or Path("work_dirs") / Path(cfg.filename).stem)


def apply_amp(cfg: Config) -> None:
    """Switch mixed precision on: float16 with loss scaling on CUDA, bfloat16 on a CPU.

    Args:
        cfg: settings of a run; its ``optim_wrapper`` is changed in place.

    Raises:
        ValueError: if the optimizer wrapper has no mixed-precision counterpart.
    """
    cuda = torch.cuda.is_available()
    wanted = "AmpOptimWrapper" if cuda else "CPUAmpOptimWrapper"
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", wanted):
        raise input_error("optim_wrapper.type", f"OptimWrapper or {wanted}", kind)
    cfg.optim_wrapper.type = wanted
    if cuda:
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def check_settings(cfg: Config) -> None:
    """Raise where ranges, grids, classes or loaders of a config contradict each other.

    Args:
        cfg: settings of a run; not changed.

    Raises:
        ValueError: naming the place and the value that fits; see
            :func:`~ebm3d.adapters.engine.grids.check_grids`.
    """
    check_grids(cfg)
    loaders = {key: value for key, value in cfg.items() if key.endswith("_dataloader") and value}
    for place, loader in loaders.items():
        for key, least in (("batch_size", 1), ("num_workers", 0)):
            if key in loader:
                check_count(f"{place}.{key}", loader[key], least)
    classes = cfg.get("class_names")
    if classes is None:
        return
    names, expected = list(classes), f"those of class_names, {list(classes)}"
    for place, node in nodes(loaders):
        metainfo = node.get("metainfo")
        if isinstance(metainfo, dict) and list(metainfo.get("classes", names)) != names:
            got = list(metainfo["classes"])
            raise input_error(f"{place}.metainfo.classes", expected, got)
        if (
            "dataloader" in place
            and node.get("sample_groups")
            and not {*node["sample_groups"]} <= {*names}
        ):
            got = list(node["sample_groups"])
            raise input_error(f"{place}.sample_groups", f"of {expected}", got)
    model = cfg.get("model", {})
    head, place = part_of(model, "bbox_head"), f"model.{part_name(model, 'bbox_head')}"
    head = head.get("dense_head", head)
    if head.get("anchor_generator") and head.get("num_classes", len(names)) != len(names):
        wanted = f"{len(names)}, the number of class_names"
        raise input_error(f"num_classes of {place}", wanted, head.num_classes)
    if class_order(head) not in (None, names):  # labels count through the tasks
        raise input_error(f"class_names of the tasks of {place}", expected, class_order(head))
