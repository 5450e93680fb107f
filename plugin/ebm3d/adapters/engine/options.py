"""Options of one run: read, laid over a config where they are read, refused where they are not."""

from __future__ import annotations

import ast
import logging
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from mmengine import Config, DictAction
from mmengine.logging import print_log

from ebm3d.adapters.engine.grids import check_geometry, fit_places, nodes
from ebm3d.adapters.engine.option_keys import (
    EPOCHS,
    GEOMETRY,
    RUNNER_KEYS,
    check_keys,
    counts_epochs,
    leaves,
)
from ebm3d.adapters.engine.schedules import check_rate, scale_schedule
from ebm3d.errors import input_error

_PATHS = ("data_root", "ann_file", "info_path")
_EPOCH_NAMES = (*EPOCHS, "epoch_num")
_ONCE = (*GEOMETRY, *_EPOCH_NAMES, "data_root", "class_names", "lr")
_PAST = "its base has used its own already"


class OptionAction(DictAction):
    """``KEY=VALUE`` pairs of a command line; values keep their spaces."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None
    ) -> None:
        """Add the pairs to the dict of the namespace."""
        wrong = next((value for value in values or () if "=" not in value), None)
        if wrong is not None:
            text = f"{option} must be KEY=VALUE, but got {wrong!r}"
            parser.error(f"{text}; put quotes around a pair that holds spaces")
        super().__call__(parser, namespace, values, option)

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        return parse_value(val)


def parse_value(text: str) -> Any:
    """Read a value of a command line: a number, boolean, None, text, or a list of them.

    As mmengine reads it, but spaces inside a text stay.
    """
    text = text.strip().strip("'\"")
    if text[:1] + text[-1:] not in ("()", "[]", "{}") and "," not in text:
        return DictAction._parse_int_float_bool(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if isinstance(value, tuple) and not text.startswith("("):
        return list(value)
    if isinstance(value, list | tuple | dict):
        return value
    held = re.sub(r"\s*([\[\](),])\s*", r"\1", text).replace(" ", "\0")  # mmengine drops spaces
    return _with_spaces(DictAction._parse_iterable(held))


def lay_over(read: Callable[[], Config], options: dict[str, Any]) -> Config:
    """Read a config with options.

    An option of a variable that the config's files compute with is assigned while they are read:
    all that depends on it follows. ``max_epochs`` means ``train_cfg.max_epochs``, in a config of a
    refinement head ``refinement_epochs`` too, and scales the schedule.

    Args:
        read: reads the config.
        options: values by dotted key.

    Raises:
        ValueError: if nothing reads an option, with the key that was meant.
    """
    plain = read()
    check_file(plain)
    if not options:
        return plain
    options = {k: str(v) if isinstance(v, PurePath) else v for k, v in options.items()}
    epochs = [key for key in EPOCHS if key in options and counts_epochs(plain, key)]
    for key in epochs:
        said = options.setdefault("train_cfg.max_epochs", options[key])
        if said != options[key]:
            raise input_error(key, f"train_cfg.max_epochs, {said}", options[key])
    check_keys(plain, options)
    for key, value in options.items():
        path = key.rpartition(".")[2] in _PATHS
        if path and not (isinstance(value, str) and value) and value is not None:
            remedy = "write ./NAME for a folder named like a number, and no commas"
            raise input_error(key, "the path of a file or folder", repr(value), remedy)
    for key in {*GEOMETRY} & {*options}:
        check_geometry(key, options[key])
    if isinstance(options.get("class_names", []), str):
        raise input_error("class_names", "a list", options["class_names"], "write ['NAME']")
    cfg = _overridden(read, plain, options)
    for key in [key for key in options if key not in epochs]:
        name = key.partition(".")[0]
        if name in RUNNER_KEYS or _value(plain, key) == options[key]:
            continue
        alone = _overridden(read, plain, {key: options[key]})
        if all(alone.get(part) == plain.get(part) for part in RUNNER_KEYS):
            value = plain.get(name)
            places = [] if isinstance(value, int) else _places(plain, value)
            remedy = f"set {', '.join(places)}" if places else ""
            remedy = "set max_epochs, or give --head" if name == EPOCHS[1] else remedy
            got = "a variable that none reads any more"
            raise input_error(
                f"--cfg-options {key}", "one that a part of the run reads", got, remedy
            )
        if name == "class_names":
            _check_new_classes(plain, cfg)
    check_rate(plain, cfg, options)
    return cfg


def check_file(cfg: Config) -> None:
    """Warn of, or refuse, variables that the config's own file sets and nothing reads.

    Args:
        cfg: as read from its file.

    Raises:
        ValueError: if it sets folder, classes, range, voxels, rate or epochs of a base anew, and
            the base has used its own already.
    """
    file = Path(cfg.filename or "")
    if file.suffix != ".py" or not file.is_file():
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    body = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    stored = {n.id for node in body for n in _names(node, ast.Store)} & {*cfg}
    for name in sorted(stored - {n.id for n in _names(tree, ast.Load)} - RUNNER_KEYS):
        if _is_handed(cfg, name):
            continue
        shadows = len(_said(cfg.text, name)) > 1
        if name in _ONCE and (shadows or counts_epochs(cfg, name)):
            got = f"{cfg[name]}, which nothing in the file hands on"
            option = f"--cfg-options {name}=VALUE"
            remedy = f"hand it to every dict that has it, or give {option}"
            raise input_error(f"{name} in {file.name}", "read by a part of the run", got, remedy)
        near = get_close_matches(name, RUNNER_KEYS, 1, 0.88)
        near += [place for place, _ in leaves(cfg) if place.endswith(f".{name}")][:1]
        if shadows or near:
            text = f"{file.name} sets {name}, which nothing reads"
            text += f"; the host reads {near[0]}." if near else f": {_PAST}."
            print_log(text, "current", logging.WARNING)
    if "data_root" in stored:
        others = [text for text in _said(cfg.text, "data_root") if text[1:-1] != cfg.data_root]
        if left := [place for text in others for place in _places(cfg, text[1:-1])]:
            text = f"data_root in {file.name} is {cfg.data_root}; {', '.join(left)} keep another."
            print_log(text, "current", logging.WARNING)


def _names(tree: ast.AST, context: type) -> list[ast.Name]:
    """Names that a part of a file stores or loads."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return [node for node in nodes if isinstance(node.ctx, context)]


def _said(text: str, name: str) -> list[str]:
    """What a config's file and its bases assign to a variable, each text once."""
    return [*dict.fromkeys(re.findall(rf"(?m)^{name}\b[^=\n]*=\s*(.*(?:\n[ \t]+.*)*)", text))]


def _is_handed(cfg: Config, name: str) -> bool:
    """Whether a part of the run has a variable's value; numbers under its name alone."""
    value, key = cfg[name], "max_epochs" if name in _EPOCH_NAMES else name
    if not isinstance(value, int | float):
        return bool(_places(cfg, value))
    return any(p.endswith(f".{key}") and other == value for p, other in leaves(cfg))


def _overridden(read: Callable[[], Config], plain: Config, options: dict[str, Any]) -> Config:
    """A config with options, and with what follows from them."""
    skipped = (*RUNNER_KEYS, *EPOCHS, *GEOMETRY, "data_root")  # set below, in every place
    helpers = {k: v for k, v in options.items() if k.partition(".")[0] not in skipped}
    with _assigned(helpers):
        cfg = read() if helpers else deepcopy(plain)
    epochs = (cfg.get("train_cfg") or {}).get("max_epochs")
    cfg.merge_from_dict(deepcopy(options))
    if "data_root" in options and plain.get("data_root"):
        _set_data_root(cfg._cfg_dict, plain.data_root.rstrip("/"), cfg.data_root.rstrip("/"))
    geometry = [key for key in GEOMETRY if key in options]
    if geometry:
        grids = ("sparse_shape", "output_shape")
        fit_places(cfg, plain, geometry, any(key.endswith(grids) for key in options))
    if epochs is not None and "train_cfg.max_epochs" in options:
        scale_schedule(cfg, epochs, options)
    return cfg


@contextmanager
def _assigned(options: dict[str, Any]) -> Iterator[None]:
    """While configs are read, variables of these names get the options' values."""
    original = Config._substitute_predefined_vars

    def substitute(filename: str, copy: str) -> None:
        original(filename, copy)
        if Path(filename).suffix == ".py":
            text = Path(copy).read_text(encoding="utf-8")
            Path(copy).write_text(_with_assignments(text, options), encoding="utf-8")

    Config._substitute_predefined_vars = staticmethod(substitute)
    try:
        yield
    finally:
        Config._substitute_predefined_vars = staticmethod(original)


def _with_assignments(text: str, options: dict[str, Any]) -> str:
    """The text of a config with options laid over each variable, after its assignment."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Name):
            continue
        changes = []
        for key, value in options.items():
            name, *parts = key.split(".")
            if name == target.id and parts:
                for part in reversed(parts):
                    value = {part: value}
                merge = "__import__('mmengine').Config._merge_a_into_b"
                changes.append(f"{name} = {merge}({value!r}, {name}, True)")
            elif name == target.id:
                changes.append(f"{name} = {value!r}")
        lines[node.end_lineno : node.end_lineno] = changes
    return "\n".join([*lines, ""])


def _check_new_classes(plain: Config, cfg: Config) -> None:
    """Raise where new classes have the anchors of the old."""
    before, after = (
        [n["anchor_generator"].get("sizes") for _, n in nodes(c.model) if "anchor_generator" in n]
        for c in (plain, cfg)
    )
    if before and before == after:
        expected = f"{list(plain.class_names)}, whose sizes the anchors have in this order"
        remedy = "write a config of these classes: anchors, sampled objects and tables by class"
        raise input_error("class_names", expected, list(cfg.class_names), remedy)


def _set_data_root(cfg: Any, old: str, new: str) -> None:
    """Move every path below one folder to another."""
    for _, node in nodes(cfg):
        for key in _PATHS:
            value = node.get(key)
            if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
                node[key] = new + (value[len(old) :] or "/")


def _places(cfg: Config, value: Any) -> list[str]:
    """Places of the run with a value, or with a path below it; three at most."""
    text = value.rstrip("/") if isinstance(value, str) else None
    found = (
        place
        for place, other in leaves(cfg)
        if place.partition(".")[0] in RUNNER_KEYS
        and (other == value or (text and isinstance(other, str) and other.startswith(text)))
    )
    return [place for place, _ in zip(found, range(3))]  # noqa: B905


def _value(cfg: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for name in key.split("."):
        is_list = isinstance(cfg, list | tuple)
        cfg = (
            cfg[int(name)] if is_list else cfg.get(name) if isinstance(cfg, dict | Config) else None
        )
    return cfg


def _with_spaces(value: Any) -> Any:
    """Texts of a value with the spaces that were held back."""
    if isinstance(value, list | tuple):
        return type(value)(map(_with_spaces, value))
    return value.replace("\0", " ") if isinstance(value, str) else value
