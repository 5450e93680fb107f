"""What a checkpoint says about its training, against a config: classes, voxels, anchors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

from mmengine import Config

# Keys of ``model`` that change what the same tensors mean.
_FIXED = {
    "voxel_size", "sizes", "rotations", "code_size", "dir_offset", "diff_rad_by_sin",
    "layer_strides", "mean_sizes", "grid",
}  # fmt: skip
_FIXED_TYPES = {"anchor_generator", "bbox_coder", "regression"}
_CLASSES = "metainfo.classes"
_PASSED_OVER = {"dense_head", "data_preprocessor"}  # levels that not every version has


class Difference(NamedTuple):
    """A setting that is not the training's; ``is_wrong`` if its results are then wrong."""

    place: str
    trained: Any
    now: Any
    is_wrong: bool = True


def differences(meta: dict[str, Any], cfg: Config, split: str, part: str) -> Iterator[Difference]:
    """Yield where a config differs from the training of a checkpoint, as far as both say it.

    Args:
        meta: of the checkpoint.
        cfg: settings of the run.
        split: whose classes count, ``"test_dataloader"``.
        part: of the model that is left out, ``"refinement_head"``; "" for none.
    """
    place, classes = classes_of(cfg, split)
    trained_classes = trained_on(meta)
    if classes and trained_classes and classes != trained_classes:
        yield Difference(place, trained_classes, classes)
    trained = _model_of(meta)
    is_regression = any(v == "RegressionRefinementHead" for v in trained.values())
    for path, now in _leaves(_plain(cfg.get("model", {}))):
        key, then = _key(path), trained.get(_key(path))
        if then is None or now is None or (part and part in path) or now == then:
            continue
        where, name = f"model.{'.'.join(path)}", key[-1]
        if name == "type":
            if len(key) > 1 and key[-2] in _FIXED_TYPES:
                yield Difference(where, then, now)
        elif name in _FIXED or (name == "stds" and is_regression):
            yield Difference(where, then, now)
        elif name == "point_cloud_range" and "voxel_layer" in key:
            yield Difference(where, then, now, is_wrong=_heights([now]) != _heights([then]))
        elif name == "ranges" and _heights(now) != _heights(then):
            yield Difference(where, then, now)


def classes_of(cfg: Config, split: str) -> tuple[str, list[str]]:
    """Return the place and the classes of a data loader; none where the config does not say."""
    place, node = f"{split}.dataset", (cfg.get(split) or {}).get("dataset") or {}
    while isinstance(node, dict) and "metainfo" not in node:
        inner = "dataset" if "dataset" in node else "datasets"
        if not node.get(inner):
            return place, []
        place, node = f"{place}.{inner}", node[inner]
        if isinstance(node, list):
            place, node = f"{place}.0", node[0]
    metainfo = node["metainfo"] if isinstance(node, dict) else {}
    classes = metainfo.get("classes") if isinstance(metainfo, dict) else None
    return f"{place}.{_CLASSES}", _names(classes)


def trained_on(meta: dict[str, Any]) -> list[str]:
    """Return the classes that a checkpoint was trained on; none where it does not say."""
    data = meta.get("dataset_meta")
    data = data if isinstance(data, dict) else {}
    return _names(data.get("classes") or data.get("CLASSES") or meta.get("CLASSES"))


def _names(classes: Any) -> list[str]:
    """Classes as a list; none where they are no sequence."""
    return [str(name) for name in classes] if isinstance(classes, (list, tuple)) else []


def settings_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the config that a checkpoint holds as text, which is not executed; literals alone."""
    text = meta.get("cfg") or meta.get("config")
    try:
        body = ast.parse(text).body if isinstance(text, str) else []
    except (SyntaxError, ValueError):
        return {}
    settings = [node for node in body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): _value(node.value) for node in settings}


def _model_of(meta: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Leaves of the model that a checkpoint was trained as."""
    return {_key(path): value for path, value in _leaves(settings_of(meta).get("model", {}))}


def _value(node: ast.expr) -> Any:
    """The value of a literal with ``dict(...)`` in it; None for anything else."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict":
        return {item.arg: _value(item.value) for item in node.keywords if item.arg}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs if key is not None}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    """The same with lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that holds no dict, with its path."""
    if isinstance(node, list) and any(isinstance(item, dict) for item in node):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, node


def _key(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without the levels that only some versions and heads have."""
    return tuple(part for part in path if part not in _PASSED_OVER)


def _heights(ranges: Any) -> list[Any]:
    """The z of ranges (x, y, z, x, y, z), which do not follow from the size of the map."""
    return [row[2::3] for row in ranges] if all(isinstance(r, list) for r in ranges) else ranges
