"""A detector's config combined with a head and a training method: ``--head``, ``--loss``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from mmengine import Config

from ebm3d.adapters.engine.grids import nodes
from ebm3d.adapters.parts import LAG, class_order, part_name, part_of, sweep_columns
from ebm3d.errors import input_error
from ebm3d.paths import config_path

STAGES = ("dense", "refinement")
REFINED_DETECTORS = {
    "VoxelNet": "RefinedVoxelNet",
    "CenterPoint": "RefinedCenterPoint",
    "MVXFasterRCNN": "RefinedMVXFasterRCNN",
}
"""Detectors of the host by the class that hands its points to a refinement head."""
_ENERGY = "EBMRefinementHead"
_ENERGIES = ("ebm", "ebm_3class", "ebm_nuscenes")
_KEYS = {"head": ("dense_head", "refinement_head"), "loss": ("refinement_head", "proposal")}
_FOLDERS = {"head": "_base_/heads", "loss": "_base_/losses"}


class Variant(NamedTuple):
    """A file of ``configs/``: its name, what it can be (stages of a head), its first line."""

    name: str
    stages: tuple[str, ...]
    summary: str


def compose(
    config: str | Path, head: str, stage: str | None = None, loss: str | None = None
) -> Config:
    """Put a head on a detector.

    Args:
        config: config of a detector with a dense head on the first map of its neck.
        head: name of a file in ``configs/_base_/heads``, or a path of one like them.
        stage: "dense": the head's box regression replaces that of the dense head; "refinement":
            the head refines the boxes of the frozen detector. By default the first that it has.
        loss: training method of an energy: a file in ``configs/_base_/losses``, or a path.

    Returns:
        The config, named ``<head>[_<loss>][_refinement]_<config>.py``.

    Raises:
        FileNotFoundError: if there is no such config, head or loss; it lists those there are.
        ValueError: if they do not fit together; it says what would.
    """
    path = find_config(config)
    cfg = _read_file("config", path)
    if "model" not in cfg:
        raise input_error(f"config {path}", "one of a detector, with a model", "none")
    place, dense = part_name(cfg.model, "bbox_head"), part_of(cfg.model, "bbox_head")
    has_points = cfg.model.type in REFINED_DETECTORS
    if "refinement_head" in dense or dense.get("type") == "DistributionAnchor3DHead":
        remedy = "give the config of the detector alone, such as second_kitti.py"
        raise input_error("config for --head", "one of a stock detector", path.name, remedy)
    variant, method = _read("head", head), None if loss is None else _read("loss", loss)
    stages = _stages(variant)
    if stage not in (None, *stages):
        raise input_error(f"--stage with --head {head}", " or ".join(stages), stage)
    chosen = stage or stages[0]
    part = variant.get("refinement_head", {})
    trains_energy = part.get("type", _ENERGY) == _ENERGY and not {"regression", "loss"} & set(part)
    trains_energy = trains_energy or part.get("type") == _ENERGY
    if method is not None and (chosen == "dense" or not trains_energy):
        raise input_error("--head with --loss", "an energy without a loss, such as ebm", head)
    if chosen == "dense":
        if dense.get("type") != "Anchor3DHead":
            got = f"{dense.get('type')} in {path.name}"
            remedy = "use --stage refinement" if has_points and dense else ""
            raise input_error(f"model.{place} for --stage dense", "an Anchor3DHead", got, remedy)
        has_velocity = dense.bbox_coder.get("code_size", 7) > 7
        velocity = {"loss_velocity": dense.loss_bbox} if has_velocity else {}
        replaced = {"type": "DistributionAnchor3DHead", "loss_bbox": None, **velocity}
        dense.update(**replaced, **variant.dense_head)
    else:
        if not has_points or not dense:
            expected = f"a {' or '.join(REFINED_DETECTORS)} with a {place}"
            got = f"{cfg.model.type} in {path.name}"
            raise input_error("model.type for a refinement head", expected, got)
        _refine(cfg, _refinement_head(cfg, head, variant, method))
        shipped = path == Path(config_path("second_kitti.py")).with_name(path.name)
        cfg.detector_config = path.name if shipped else str(path.absolute())
    _add_plugin(cfg)
    for file in filter(None, (variant, method)):
        cfg.custom_imports.imports += _imports(file)
    # A resolved config names the folder and the checkpoints of its run, which is another one.
    cfg.pop("work_dir", None)
    if cfg.get("resume"):
        cfg.resume, cfg.load_from = False, None
    names = [Path(name).stem for name in (head, loss) if name is not None]
    names += [chosen] if chosen != stages[0] else []
    file = path.with_name("_".join([*names, path.name]))
    return Config(cfg._cfg_dict, cfg_text=cfg.text, filename=str(file))


def find_config(config: str | Path) -> Path:
    """Return the path of a config file, or of one that comes with the package."""
    return Path(config) if Path(config).is_file() else Path(config_path(str(config)))


def variants(kind: str) -> Iterator[Variant]:
    """Yield what there is of a kind: "config", "head" or "loss"."""
    root = Path(config_path("second_kitti.py")).parent
    for file in sorted((root / _FOLDERS.get(kind, "")).glob("*.py")):
        comment = takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
        summary = " ".join(line.removeprefix("# ") for line in comment).partition(". ")[0]
        stages = _stages(Config.fromfile(file)) if kind == "head" else ()
        yield Variant(file.stem, stages, summary)


def _stages(head: Config) -> tuple[str, ...]:
    """What a head can be, its usual place first."""
    return tuple(stage for stage in STAGES if f"{stage}_head" in head)


def _read(kind: str, name: str) -> Config:
    """The file of a head or loss."""
    path = Path(name)
    if not path.is_file():
        names = [variant.name for variant in variants(kind)]
        if name not in names:
            raise FileNotFoundError(
                f"--{kind}: expected one of {', '.join(names)}, or a file like those in configs/"
                f"{_FOLDERS[kind]}, but got {name!r}"
            )
        path = Path(config_path(f"{_FOLDERS[kind]}/{name}.py"))
    cfg, keys = _read_file(f"--{kind}", path), _KEYS[kind]
    parts = [cfg[key] for key in keys if key in cfg]
    if not parts or not all(isinstance(part, dict) for part in parts):
        got = ", ".join(cfg) or "nothing"
        raise input_error(f"--{kind} {name}", f"a file with a dict {' or '.join(keys)}", got)
    return cfg


def _read_file(name: str, path: Path) -> Config:
    """A config file; errors name it."""
    try:
        return Config.fromfile(path)
    except (SyntaxError, OSError, ImportError, NameError, KeyError) as error:
        got = f"{type(error).__name__}: {error}"
        raise input_error(f"{name} {path}", "a config that can be read", got) from error


def _imports(cfg: Config) -> list[str]:
    """The modules of ``custom_imports``, where mmengine takes one name or several."""
    imports = cfg.get("custom_imports", {}).get("imports", [])
    return [imports] if isinstance(imports, str) else list(imports)


def _refinement_head(cfg: Config, name: str, head: Config, method: Config | None) -> Any:
    """The config of a refinement head for the classes of a detector, trained by a method."""
    for key in ("class_names", "point_cloud_range"):
        if key not in cfg:
            raise input_error(f"{key} of the config", "said at its top level", None)
    classes = class_order(part_of(cfg.model, "bbox_head")) or list(cfg.class_names)
    if "type" in head.refinement_head and name != "ebm":
        if list(head.get("table_classes", classes)) != classes:
            raise input_error(f"class_names with --head {name}", head.table_classes, classes)
        chosen = head.refinement_head
    else:
        chosen = _energy_of(cfg, classes)
    if "type" not in head.refinement_head:  # what differs from the energy
        if "regression" in head.refinement_head:
            del chosen["loss"], chosen["refiner"]
            chosen.type, chosen.network.type = "RegressionRefinementHead", "RegressionNetwork"
        chosen = _merged(chosen, head.refinement_head)
    if method is not None and "proposal" in method:
        if "mean_sizes" not in chosen.network:
            raise input_error("--head with a learned proposal", "one with network.mean_sizes", name)
        chosen.noise = {**method.proposal, "base": chosen.noise}
    if method is not None and "refinement_head" in method:
        chosen = _merged(chosen, method.refinement_head)
    return chosen


def _energy_of(cfg: Config, classes: list[str]) -> Any:
    """The config of an energy whose tables are by these classes, in their order or by name."""
    tables = []
    for variant in _ENERGIES:
        table = _read("head", variant)
        tables.append(table)
        head = table.refinement_head
        if list(table.table_classes) == classes and not isinstance(head.network.mean_sizes, dict):
            return head
        if {*classes} <= {*table.table_classes} and isinstance(head.network.mean_sizes, dict):
            head.class_names = classes
            _fit_points(cfg, head)
            return head
    expected = " or ".join(", ".join(table.table_classes) for table in tables)
    remedy = "give a head with tables of these classes like configs/_base_/heads/ebm.py"
    raise input_error("class_names", expected, ", ".join(classes), remedy)


def _fit_points(cfg: Config, head: Any) -> None:
    """Let pools of points with time lags read the columns that a config's sweeps have."""
    columns = sweep_columns(step for _, step in nodes({"train": cfg.get("train_dataloader")}))
    if columns is None or LAG not in columns:
        name = "use_dim of LoadPointsFromMultiSweeps"
        expected = f"with column {LAG}, the time lag, by which points move with a box"
        remedy = "load sweeps in the training pipeline, with their time lag"
        raise input_error(name, expected, columns, remedy)
    scales = tuple(1 / 255 if column == 3 else 1.0 for column in columns[3:])
    for pool in [pool for pool in head.pooling if "time_feature" in pool]:
        pool.update(num_features=len(columns), feature_scales=scales)
        pool.time_feature = columns.index(LAG)


def _merged(base: Any, changes: Any) -> Any:
    """A config with changes laid over it, as a config over its base."""
    cfg = Config({"head": base})
    cfg.merge_from_dict({"head": changes})
    return cfg.head


def _add_plugin(cfg: Config) -> None:
    """Add the plugin's imports and hooks to the config of a detector that lacks them."""
    plugin = Config.fromfile(config_path("_base_/plugin.py"))
    imports = _imports(cfg)
    missing = [name for name in plugin.custom_imports.imports if name not in imports]
    cfg.custom_imports = {**cfg.get("custom_imports", {}), "imports": [*imports, *missing]}
    hooks = cfg.get("custom_hooks", [])
    types = [hook["type"] for hook in hooks]
    cfg.custom_hooks = [*hooks, *(h for h in plugin.custom_hooks if h["type"] not in types)]
    if "EpochSeedHook" not in types and "train_dataloader" in cfg:
        cfg.train_dataloader.persistent_workers = False  # the hook seeds workers as they start


def _refine(cfg: Config, head: Any) -> None:
    """Wrap the dense head of a config; its schedule becomes that of refinement heads."""
    model = cfg.model
    dense_head = part_of(model, "bbox_head")
    model.type = REFINED_DETECTORS[model.type]
    model[part_name(model, "bbox_head")] = {
        "type": "RefinedDenseHead",
        "dense_head": dense_head,
        "refinement_head": {
            "in_channels": dense_head.in_channels,
            "point_cloud_range": cfg.point_cloud_range,
            **head,
        },
    }
    base = Config.fromfile(config_path("_base_/schedules/refinement.py"))
    schedule, train = base.refinement_schedule, base.refinement_schedule.train_cfg
    epochs = cfg.get("refinement_epochs", train.max_epochs)
    train.update(max_epochs=epochs, val_interval=epochs)
    cfg.find_unused_parameters = base.find_unused_parameters
    for key, value in schedule.items():
        cfg[key] = value
