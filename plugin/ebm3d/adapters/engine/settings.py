"""From a config file and command-line options to the settings of one run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine import Config

from ebm3d.adapters.engine.composition import compose, find_config
from ebm3d.errors import input_error

_LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_RUNS = count()
_PATHS = ("data_root", "ann_file", "info_path")


def load_settings(
    config: str | Path | Config,
    *,
    head: str | None = None,
    stage: str | None = None,
    loss: str | None = None,
    work_dir: str | Path | None = None,
    seed: int | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = "none",
) -> Config:
    """Read a config and lay the options of one run over it.

    Args:
        config: a config file, the name of one that comes with the package, or what
            :func:`read_config` returned (changed in place).
        head: see :func:`~ebm3d.adapters.engine.composition.compose`; None for the config alone.
        stage: of ``head``.
        loss: of ``head``.
        work_dir: folder of logs and checkpoints; ``work_dirs/<name of the config>`` if neither
            this nor the config says one.
        seed: seed of the run in place of the config's.
        cfg_options: values by dotted key, ``{"train_dataloader.batch_size": 4}``. A top-level
            ``data_root`` also sets every ``data_root``, ``ann_file`` and ``info_path`` below the
            config's; a top-level ``point_cloud_range`` every ``point_cloud_range`` and the x and y
            of the anchors.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        The settings, checked by :func:`check_settings`.

    Raises:
        FileNotFoundError: if there is no such config, head or loss.
        ValueError: if the launcher is unknown or the settings contradict each other.
    """
    if launcher not in _LAUNCHERS:
        raise input_error("launcher", f"one of {', '.join(_LAUNCHERS)}", launcher)
    cfg = (
        config
        if isinstance(config, Config)
        else read_config(config, head=head, stage=stage, loss=loss)
    )
    options = cfg_options or {}
    root = cfg.get("data_root")
    cfg.merge_from_dict(options)
    if "data_root" in options and root is not None:
        _set_data_root(cfg._cfg_dict, root.rstrip("/"), str(cfg.data_root).rstrip("/"))
    if "point_cloud_range" in options:
        _set_range(cfg)
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
    """Raise where ranges or grids of a config contradict each other.

    A pipeline that cuts the cloud to another range than the voxels cover, or a middle encoder
    whose grid is not the range divided by the voxel size, trains without an error and detects
    badly.

    Args:
        cfg: settings of a run; not changed. A model without a voxel layer is not looked at.

    Raises:
        ValueError: naming both places.
    """
    layer = cfg.get("model", {}).get("data_preprocessor", {}).get("voxel_layer")
    if not layer or "point_cloud_range" not in layer:
        return
    bounds = [float(value) for value in layer["point_cloud_range"]]
    expected = f"the range of model.data_preprocessor.voxel_layer, {bounds}"
    for place, node in _nodes(cfg._cfg_dict):
        values = node.get("point_cloud_range")
        if values is not None and [float(value) for value in values] != bounds:
            where = f"{place}.point_cloud_range".lstrip(".")
            remedy = "say point_cloud_range once and hand it to every place"
            raise input_error(where, expected, list(values), remedy)
    default = _default_range(cfg.model.get("voxel_encoder", {}))
    if default is not None and [float(value) for value in default] != bounds:
        where = "model.voxel_encoder.point_cloud_range (left out: the host's default holds)"
        remedy = "hand point_cloud_range to the voxel encoder"
        raise input_error(where, expected, list(default), remedy)
    for place, anchors in _anchor_ranges(cfg.model):
        if [anchors[axis] for axis in (0, 1, 3, 4)] != [bounds[axis] for axis in (0, 1, 3, 4)]:
            remedy = "anchors spread over the map must cover what the map covers"
            raise input_error(f"x and y of {place}", expected, anchors, remedy)
    encoder = cfg.model.get("middle_encoder", {})
    grid = encoder.get("sparse_shape") or encoder.get("output_shape")
    if grid and layer.get("voxel_size"):
        size = layer["voxel_size"]
        cells = [round((bounds[axis + 3] - bounds[axis]) / size[axis]) for axis in (1, 0)]
        if list(grid)[-2:] != cells:
            where = "the grid of model.middle_encoder (rows y, columns x)"
            wanted = f"{cells}, the range divided by the voxel size"
            raise input_error(where, wanted, list(grid)[-2:])


def _nodes(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in a config with its dotted place."""
    if isinstance(node, dict):
        yield place, node
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list | tuple):
            yield from _nodes(value, f"{place}.{key}".lstrip("."))


def _anchor_ranges(model: Any) -> Iterator[tuple[str, list[float]]]:
    """Every range of an anchor generator with its dotted place."""
    for place, node in _nodes(model, "model"):
        for index, values in enumerate(node.get("anchor_generator", {}).get("ranges", ())):
            yield f"{place}.anchor_generator.ranges[{index}]", values


def _default_range(encoder: dict[str, Any]) -> Any:
    """The range a voxel encoder assumes where its config names none, if it has one."""
    cls = MODELS.get(encoder["type"]) if "type" in encoder else None
    if cls is None or "point_cloud_range" in encoder:
        return None
    parameter = inspect.signature(cls).parameters.get("point_cloud_range")
    return None if parameter is None else parameter.default


def _set_data_root(cfg: Any, old: str, new: str) -> None:
    """Move every path below one folder to another."""
    for _, node in _nodes(cfg):
        for key in _PATHS:
            value = node.get(key)
            if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
                node[key] = new + (value[len(old) :] or "/")


def _set_range(cfg: Config) -> None:
    """Hand the top-level ``point_cloud_range`` to every part that has one."""
    bounds = list(cfg.point_cloud_range)
    for _, anchors in _anchor_ranges(cfg.model):
        for axis in (0, 1, 3, 4):
            anchors[axis] = bounds[axis]
    for _, node in _nodes(cfg._cfg_dict):
        if node.get("point_cloud_range") is not None:
            node["point_cloud_range"] = list(bounds)
