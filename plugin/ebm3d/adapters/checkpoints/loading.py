"""Load a checkpoint into a model, or say what it lacks."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, CheckpointLoader
from torch import Tensor, nn

from ebm3d.adapters.checkpoints.layouts import state_for, toolbox_of
from ebm3d.adapters.checkpoints.provenance import classes_of, differences, trained_on
from ebm3d.adapters.checkpoints.reading import check_file, newest_checkpoint
from ebm3d.errors import input_error

_HEAD = "refinement_head"
_PROGRESS = ("optimizer", "message_hub", "meta")
_OPTIMIZER_KINDS = {"betas", "momentum", "alpha", "rho"}  # by what a parameter group holds


def load_weights(
    model: nn.Module, checkpoint: str | Path, cfg: Config, *, refine: bool = True
) -> dict[str, Any]:
    """Load a checkpoint that must hold every parameter of a model.

    The host loads what fits and goes on: a detector's checkpoint in place of the refinement head's
    would evaluate a head that was never trained.

    Args:
        model: receives the checkpoint's parameters.
        checkpoint: what training saved.
        cfg: settings of the run, whose classes, voxels and anchors must be those of the training.
        refine: False if those of the refinement head may be missing.

    Returns:
        The checkpoint, its ``state_dict`` under the names of the model.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, lacks a tensor or has one of another shape, or was trained
            on other classes, voxels or anchors.
    """
    check_file(checkpoint)
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu", logger="silent")
    state = _load(model, content, str(checkpoint), cfg, "" if refine else _HEAD)
    return {**(content if "state_dict" in content else {}), "state_dict": state}


def read_meta(checkpoint: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of its training, nothing where it does not; raises as above."""
    check_file(checkpoint)
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu", logger="silent")
    meta = content.get("meta")
    return meta if isinstance(meta, dict) else {}


def check_loading(runner: Any, checkpoint: Any, *, is_frozen: bool) -> None:
    """Check a checkpoint that the runner has read and is about to load; changed in place.

    A frozen detector must be there as a whole, for a resumed training and a test all of the model,
    with the same classes, voxels and anchors. Training of a whole detector may start from a part.

    Args:
        runner: mmengine's.
        checkpoint: what it read.
        is_frozen: whether only the refinement head is trained.

    Raises:
        ValueError: see :func:`load_weights`; for a resumed training also without the optimizer's
            state, or with that of another model.
    """
    name = str(runner._load_from or newest_checkpoint(runner.work_dir))
    is_training = isinstance(runner._train_loop, BaseLoop)
    is_whole = runner._resume or not is_training
    optional = "" if is_whole else _HEAD if is_frozen else None
    split = "train_dataloader" if is_training else "test_dataloader"
    checkpoint["state_dict"] = _load(runner.model, checkpoint, name, runner.cfg, optional, split)
    if is_training and runner._resume:
        _check_progress(runner, checkpoint, name)


def _load(
    model: nn.Module,
    content: Any,
    name: str,
    cfg: Config,
    optional: str | None,
    split: str = "test_dataloader",
) -> OrderedDict[str, Tensor]:
    """Load and check; parameters with ``optional`` in their name may be missing, with None any."""
    module: nn.Module = model.module if is_model_wrapper(model) else model  # type: ignore[assignment]
    state, expected = state_for(module, content, name), module.state_dict()
    _check_tensors(module, state, expected, name, optional)
    meta = content.get("meta")
    _check_training(meta if isinstance(meta, dict) else {}, cfg, name, split, optional)
    return state


def _check_tensors(
    module: nn.Module,
    state: OrderedDict[str, Tensor],
    expected: dict[str, Tensor],
    name: str,
    optional: str | None,
) -> None:
    """Load what fits; raise at the first required tensor that does not; the others leave state."""
    subject = f"checkpoint {name}"
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    for key in [key for key in state if _differ(expected.get(key), state[key])]:
        del state[key]
    found = module.load_state_dict(state, strict=False)
    lost = {key for key in found.missing_keys if "num_batches_tracked" not in key}
    lost |= {key for key in shapes if key in expected and key not in state}
    required = [
        key
        for key in expected
        if key in lost and optional is not None and not (optional and optional in key)
    ]
    is_empty = optional is None and not any(key in expected for key in state)
    if required or is_empty:
        first = required[0] if required else next(iter(expected))
        raise input_error(
            subject,
            f"one that holds {first} of shape {tuple(expected[first].shape)}",
            f"{shapes.get(first, 'none')} (of {len(expected)} tensors it lacks {len(lost)})",
            toolbox_of(set(expected), state)
            or "give the checkpoint that this model's training saved",
        )
    children = dict(module.named_children())
    extra = [
        key for key in found.unexpected_keys
        if state[key].ndim > 1 and key.partition(".")[0] in children and _HEAD not in key
    ]  # fmt: skip
    if extra and optional is not None:
        got = f"one with {extra[0]} of shape {shapes[extra[0]]}, which the model has not"
        raise input_error(
            subject, "one of this config's model", got, "give the config it was trained with"
        )
    for key, value in state.items():
        if key in expected and value.is_floating_point() and bool(value.isnan().any()):
            raise input_error(
                subject, "of numbers", f"NaN in {key}", "give one from before training diverged"
            )
    partly = [key for key in lost if key in shapes or (optional is None and _HEAD not in key)]
    if partly:
        first = next(key for key in expected if key in partly)
        got = f"of shape {shapes[first]}" if first in shapes else "missing"
        _warn(
            f"{subject} is loaded in part: {len(partly)} of the model's {len(expected)} tensors "
            f"stay as they were, first {first} {tuple(expected[first].shape)}, {got} in it."
        )


def _differ(expected: Tensor | None, value: Tensor) -> bool:
    """Whether shapes differ; an empty buffer takes any, a number one in a list."""
    if expected is None or expected.numel() == 0:
        return False
    return expected.shape != value.shape and not (expected.ndim == 0 and value.numel() == 1)


def _check_training(
    meta: dict[str, Any], cfg: Config, name: str, split: str, optional: str | None
) -> None:
    """Raise, or warn where it may be right, if the config contradicts a checkpoint's training."""
    place, classes = classes_of(cfg, split)
    if classes and not trained_on(meta):
        _warn(f"checkpoint {name} does not say its classes: {classes} of {place} is not checked.")
    for item in differences(meta, cfg, split, _HEAD if optional is None else optional):
        expected = f"{item.trained}, as in the training of checkpoint {name}"
        if item.is_wrong and optional is not None:
            option = f'set --cfg-options "{item.place}={item.trained}"'.replace(", ", ",")
            remedy = f"{option}, or give a checkpoint trained with {item.now}"
            raise input_error(item.place, expected, item.now, remedy)
        _warn(f"{item.place} is {item.now}, not {expected}.")


def _check_progress(runner: Any, checkpoint: dict[str, Any], name: str) -> None:
    """Raise unless a checkpoint holds how far this model's training was."""
    subject = f"checkpoint {name} for --resume"
    missing = [key for key in _PROGRESS if not isinstance(checkpoint.get(key), dict)]
    if missing or not {"epoch", "iter"} <= set(checkpoint["meta"]):
        expected = f"one with {', '.join(_PROGRESS)}, as training saves it"
        remedy = f"start anew from its weights with --cfg-options load_from={name}"
        raise input_error(subject, expected, f"one without {missing or 'the epoch'}", remedy)
    checkpoint["meta"].pop("config", None)  # the host would execute it
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    saved = checkpoint["optimizer"]
    if optimizer is None or "param_groups" not in saved:
        return
    kinds = [_OPTIMIZER_KINDS & set(g) for g in (optimizer.defaults, *saved["param_groups"][:1])]
    if kinds[0] != kinds[-1]:
        got = f"one of an optimizer with {', '.join(sorted(kinds[-1])) or 'neither'}"
        raise input_error(subject, f"one of {type(optimizer).__name__}", got)
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    saved_sizes = [len(group["params"]) for group in saved["param_groups"]]
    if sizes != saved_sizes:
        expected = f"one whose optimizer has {sizes} parameters a group"
        raise input_error(
            subject, expected, saved_sizes, "resume with the settings of its training"
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    indices = [i for group in saved["param_groups"] for i in group["params"]]
    for index, parameter in zip(indices, parameters, strict=True):
        for key, value in saved["state"].get(index, {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                expected = f"one whose optimizer holds {key} of shape {tuple(parameter.shape)}"
                raise input_error(subject, expected, tuple(value.shape))


def _warn(message: str) -> None:
    """Log a warning."""
    print_log(message, logger="current", level=logging.WARNING)
