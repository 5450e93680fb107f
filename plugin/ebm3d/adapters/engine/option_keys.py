"""Keys of a config that are read: by the runner, by what it builds, by the options of a run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from mmdet3d import registry
from mmengine import Config
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop
from torch import nn
from torch.utils.data import DataLoader

from ebm3d.adapters.engine.grids import nodes
from ebm3d.adapters.parts import part_of
from ebm3d.errors import input_error

RUNNER_KEYS = {*inspect.signature(Runner.__init__).parameters} - {"self", "cfg"} | {
    *("custom_imports", "find_unused_parameters", "model_wrapper_cfg", "sync_bn", "compile"),
    *("activation_checkpointing", "efficient_conv_bn_eval", "detector_config"),
}
EPOCHS = ("max_epochs", "refinement_epochs")
GEOMETRY = ("point_cloud_range", "voxel_size")
_ANYWHERE = {"type", "_delete_", "_scope_", "init_cfg", "priority", "convert_to_iter_based"}
_UNTYPED = {
    "train_dataloader": (DataLoader,),
    "train_cfg": (EpochBasedTrainLoop, IterBasedTrainLoop),
    "val_cfg": (ValLoop,),
    "test_cfg": (ValLoop,),
    "optim_wrapper": (OptimWrapper, AmpOptimWrapper),
    "randomness": (Runner.set_randomness,),
}
_UNTYPED |= dict.fromkeys(("val_dataloader", "test_dataloader"), _UNTYPED["train_dataloader"])
_MORE = {
    "train_dataloader": {"dataset", "sampler", "batch_sampler", "num_batch_per_epoch"},
    "train_cfg": {"by_epoch"},
    "optim_wrapper": {"constructor", "paramwise_cfg"},
}
_MORE |= dict.fromkeys(("val_dataloader", "test_dataloader"), _MORE["train_dataloader"])


def check_keys(cfg: Config, options: dict[str, Any]) -> None:
    """Raise for a key of a place that is not there, or that what is there does not take."""
    for key in options:
        node: Any = cfg
        names = key.split(".")
        for depth, name in enumerate(names):
            place = ".".join(names[:depth])
            if isinstance(node, list | tuple):
                if not (name.isdigit() and int(name) < len(node)):
                    indices = f"followed by an index from 0 to {len(node) - 1}"
                    raise input_error(f"--cfg-options {place}", indices, repr(name))
                node = node[int(name)]
            elif not isinstance(node, dict | Config):
                if node is not None:
                    got = f"{node!r}, which has no {name}"
                    raise input_error(f"--cfg-options {place}", "a dict or list", got)
                break
            elif name in node:
                node = node[name]
            else:
                _check_new_key(cfg, key, place, name, node, options)
                break


def _check_new_key(
    cfg: Config, key: str, place: str, name: str, node: Any, options: dict[str, Any]
) -> None:
    """Raise unless a dict of the config takes one more key, naming the one that was meant."""
    if not place:
        spread = {k for _, part in nodes(cfg._cfg_dict) for k in part}
        taken: Any = {*RUNNER_KEYS, *(k for k in EPOCHS if counts_epochs(cfg, k))}
        taken |= {*GEOMETRY, "data_root"} & spread
    else:
        taken = _taken(place, options.get(f"{place}.type", node.get("type")))
        if place == "train_cfg" and options.get("train_cfg.by_epoch", node.get("by_epoch")):
            taken = {*(taken or ())} - {"max_iters"}
    if taken is None:
        close = get_close_matches(name, node, 1, 0.8)
        if not close:
            if place.startswith("model."):
                text = f"{key} is new in {place}: whether anything reads it is not known."
                print_log(text, "current", logging.WARNING)
            return
    elif name in taken:
        return
    else:
        tail = f".{key[len(place) :].lstrip('.')}"
        ends = [p for p, _ in leaves(cfg) if p.endswith(tail) and p.split(".")[0] in RUNNER_KEYS]
        ends = [p for p in ends if p.split(".")[0] == key.split(".")[0]] or ends
        if ends:
            raise _unread(key, " or ".join(ends[:3]))
        close = get_close_matches(name, {k for k in (*taken, *node) if k[0] != "_"}, 1)
    prefix, rest = place and f"{place}.", key[len(f"{place}.{name}".lstrip(".")) :]
    raise _unread(key, f"{prefix}{close[0]}{rest}" if close else "")


def _unread(key: str, meant: str) -> ValueError:
    """The error for an option that nothing reads."""
    remedy = f"the nearest that is read is {meant}" if meant else ""
    return input_error(
        f"--cfg-options {key}", "a key that is read", "one that nothing reads", remedy
    )


def _taken(place: str, kind: Any) -> Collection[str] | None:
    """The keys that the dict at a place may have; None if that is not known."""
    if place in _UNTYPED:
        return {*_MORE.get(place, ()), *_ANYWHERE}.union(
            *(_parameters(part) or () for part in _UNTYPED[place])
        )
    if not isinstance(kind, str | type):
        return None
    found = [] if isinstance(kind, str) else [kind]
    for part in vars(registry).values() if isinstance(kind, str) else ():
        with suppress(ImportError):  # one of the host's registries names a module it lacks
            cls = part.get(kind) if isinstance(part, Registry) else None
            found += [] if cls is None else [cls]
    parameters = [_parameters(cls) for cls in found]
    if not found or None in parameters:
        return None
    return _ANYWHERE.union(*(names or () for names in parameters))


def _parameters(function: Any) -> set[str] | None:
    """Parameters of a function or of a class and, through ``**kwargs``, its bases; None if any."""
    classes = inspect.getmro(function) if inspect.isclass(function) else (function,)
    names: set[str] = set()
    for cls in classes:
        if cls in (nn.Module, object):
            return names
        if inspect.isclass(cls) and "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(
            cls.__init__ if inspect.isclass(cls) else cls
        ).parameters.values()
        names |= {p.name for p in parameters}
        if all(p.kind != p.VAR_KEYWORD for p in parameters):
            return names
    return None


def counts_epochs(cfg: Config, key: str) -> bool:
    """Whether a key means the epochs of the config's training."""
    head = part_of(cfg.get("model") or {}, "bbox_head")
    trains = "max_epochs" in (cfg.get("train_cfg") or {})
    return trains and (
        key == "max_epochs" or (key == "refinement_epochs" and "refinement_head" in head)
    )


def leaves(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Every value of a dict of a config with its dotted place."""
    for place, node in nodes(cfg._cfg_dict):
        for key, value in node.items():
            yield f"{place}.{key}".lstrip("."), value
