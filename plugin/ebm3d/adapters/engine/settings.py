"""From a config file and command-line options to the settings of one run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine import Config

from ebm3d.errors import input_error
from ebm3d.paths import config_name, config_path

_LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_RUNS = count()


def load_settings(
    config: str | Path,
    *,
    work_dir: str | Path | None = None,
    seed: int | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = "none",
) -> Config:
    """Read a config and lay the options of one run over it.

    Args:
        config: a config file, or the name of one that comes with the package.
        work_dir: folder of logs and checkpoints; ``work_dirs/<name of the config>``, with the
            folder it has under ``configs/``, if neither this nor the config says one.
        seed: seed of the run in place of the config's.
        cfg_options: values by dotted key, ``{"train_dataloader.batch_size": 4}``. A top-level
            ``data_root`` or ``point_cloud_range`` among them reaches every place of the config
            that holds the config's own one.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        The settings, checked by :func:`check_settings`.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if the launcher is unknown or the settings contradict each other.
    """
    if launcher not in _LAUNCHERS:
        raise input_error("launcher", f"one of {', '.join(_LAUNCHERS)}", launcher)
    path = Path(config) if Path(config).is_file() else Path(config_path(str(config)))
    cfg = Config.fromfile(path)
    before = {key: cfg.get(key) for key in ("data_root", "point_cloud_range")}
    cfg.merge_from_dict(cfg_options or {})
    if before["data_root"] is not None and cfg.data_root != before["data_root"]:
        _replace(cfg._cfg_dict, _folder(before["data_root"]), _folder(cfg.data_root))
    if before["point_cloud_range"] is not None:
        for _, anchors in _anchor_ranges(cfg._cfg_dict.get("model")):
            for axis in (0, 1, 3, 4):
                if anchors[axis] == before["point_cloud_range"][axis]:
                    anchors[axis] = cfg.point_cloud_range[axis]
        _replace(cfg._cfg_dict, before["point_cloud_range"], cfg.point_cloud_range)
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / config_name(path))
    if seed is not None:
        cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}
    cfg.launcher = launcher
    # mmengine keeps logger, message hub and visualizer by this name and the second of the start:
    # two runs of one process within a second would share them.
    cfg.experiment_name = f"{path.stem}_{next(_RUNS)}"
    check_settings(cfg)
    return cfg


def apply_amp(cfg: Config) -> None:
    """Switch mixed precision on: float16 with loss scaling on CUDA, bfloat16 on a CPU.

    Args:
        cfg: settings of a run; its ``optim_wrapper`` is changed in place.

    Raises:
        ValueError: if the optimizer wrapper is one that has no mixed-precision counterpart.
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
    """Raise where the range or the voxel grid of a config contradict each other.

    A pipeline that cuts the cloud to another range than the voxels cover, or a middle encoder
    whose grid is not the range divided by the voxel size, trains and evaluates without an error
    and detects badly.

    Args:
        cfg: settings of a run; not changed. A model without a voxel layer is not looked at.

    Raises:
        ValueError: naming both places.
    """
    layer = cfg.get("model", {}).get("data_preprocessor", {}).get("voxel_layer")
    if not layer or "point_cloud_range" not in layer:
        return
    bounds = [float(value) for value in layer["point_cloud_range"]]
    for place, found in _ranges(cfg._cfg_dict):
        if [float(value) for value in found] != bounds:
            raise input_error(
                place,
                f"the range of model.data_preprocessor.voxel_layer, {bounds}",
                list(found),
                "say point_cloud_range once and hand it to every place",
            )
    silent = _default_range(cfg.model.get("voxel_encoder", {}))
    if silent is not None and [float(value) for value in silent] != bounds:
        raise input_error(
            "model.voxel_encoder.point_cloud_range (left out: the host's default holds)",
            f"the range of model.data_preprocessor.voxel_layer, {bounds}",
            list(silent),
            "hand point_cloud_range to the voxel encoder",
        )
    for place, anchors in _anchor_ranges(cfg.model):
        if [anchors[axis] for axis in (0, 1, 3, 4)] != [bounds[axis] for axis in (0, 1, 3, 4)]:
            raise input_error(
                f"x and y of {place}",
                f"the range of model.data_preprocessor.voxel_layer, {bounds}",
                anchors,
                "anchors spread over the map must cover what the map covers",
            )
    encoder = cfg.model.get("middle_encoder", {})
    grid = encoder.get("sparse_shape") or encoder.get("output_shape")
    if grid and layer.get("voxel_size"):
        cells = [
            round((bounds[axis + 3] - bounds[axis]) / layer["voxel_size"][axis]) for axis in (1, 0)
        ]
        if list(grid)[-2:] != cells:
            raise input_error(
                "the grid of model.middle_encoder (rows y, columns x)",
                f"{cells}, the range divided by the voxel size",
                list(grid)[-2:],
            )


def _anchor_ranges(node: Any, place: str = "model") -> Iterator[tuple[str, list[float]]]:
    """Every range of an anchor generator in a config, with its dotted place."""
    if not isinstance(node, dict):
        return
    for index, values in enumerate(node.get("anchor_generator", {}).get("ranges", ())):
        yield f"{place}.anchor_generator.ranges[{index}]", values
    for key, value in node.items():
        yield from _anchor_ranges(value, f"{place}.{key}")


def _default_range(encoder: dict[str, Any]) -> Any:
    """The range a voxel encoder assumes where its config names none, if it has one."""
    cls = MODELS.get(encoder["type"]) if "type" in encoder else None
    if cls is None or "point_cloud_range" in encoder:
        return None
    parameter = inspect.signature(cls).parameters.get("point_cloud_range")
    return None if parameter is None else parameter.default


def _ranges(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``point_cloud_range`` in a config, with its dotted place."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{place}.{key}" if place else str(key)
            if key == "point_cloud_range" and value is not None:
                yield here, value
            else:
                yield from _ranges(value, here)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _ranges(value, f"{place}.{index}")


def _replace(node: Any, old: Any, new: Any) -> None:
    """Put ``new`` for ``old`` in every list and dict of a config; folders by their prefix."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, str) and isinstance(old, str) and value.startswith(old):
            node[key] = new + value[len(old) :]
        elif isinstance(old, list) and _same_numbers(value, old):
            node[key] = list(new)
        elif isinstance(value, dict | list):
            _replace(value, old, new)


def _same_numbers(value: Any, numbers: list[float]) -> bool:
    """Whether a value of a config is this list of numbers."""
    return (
        isinstance(value, list | tuple)
        and len(value) == len(numbers)
        and all(isinstance(item, int | float) for item in value)
        and all(math.isclose(a, b) for a, b in zip(value, numbers, strict=True))
    )


def _folder(path: str) -> str:
    """A folder with a slash at its end, as the host's configs write it."""
    return path if path.endswith("/") else f"{path}/"
