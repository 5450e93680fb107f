"""Ranges, voxels, grids and maps of a config: one geometry, said in many places."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from mmdet3d.registry import MODELS
from mmengine import Config
from mmengine.logging import print_log

from ebm3d.adapters.parts import part_name, part_of
from ebm3d.errors import input_error, is_number

_LAYER = "model.data_preprocessor.voxel_layer"
_TOLERANCE = 1e-3  # of a cell: what ranges and voxel sizes of a few decimals leave
_RANGES = ("point_cloud_range", "pc_range")  # the second of CenterHead, its first numbers
_EDGES = (0, 1, 3, 4)  # x and y of a range
_SHIFT = 0.02  # of the range, by which anchors of the host's own configs are off at the edges


def check_grids(cfg: Config) -> None:
    """Raise where ranges, voxel sizes, grids and strides of a config contradict each other.

    A pipeline that cuts the cloud to another range than the voxels cover, a grid that is not the
    range divided by the voxel size, or a map that the strides do not divide trains without an error
    and detects badly. Modules whose layers are not known are not looked at.

    Args:
        cfg: settings of a run; not changed. A model without a voxel layer is not looked at.

    Raises:
        ValueError: with the place and the value that fits.
    """
    model = cfg.get("model", {})
    layer = (model.get("data_preprocessor") or {}).get("voxel_layer")
    if not layer or "point_cloud_range" not in layer:
        return
    check_geometry(f"{_LAYER}.point_cloud_range", layer.point_cloud_range)
    bounds = [float(value) for value in layer.point_cloud_range]
    _check_copies(cfg, _RANGES, "range", bounds)
    default = _argument(part_of(model, "voxel_encoder"), "point_cloud_range")
    if default is not None and [float(value) for value in default] != bounds:
        where = f"model.{part_name(model, 'voxel_encoder')}.point_cloud_range"
        where += " (left out: the host's default holds)"
        remedy = "hand point_cloud_range to the voxel encoder"
        raise input_error(where, f"that of the voxel layer, {bounds}", list(default), remedy)
    shifted = []
    for place, anchors in anchor_ranges(model):
        shifts = [abs(anchors[a] - bounds[a]) / (bounds[a % 3 + 3] - bounds[a % 3]) for a in _EDGES]
        if max(shifts) > _SHIFT:
            expected = f"those of the voxel layer's range, {bounds}"
            remedy = "anchors spread over the map must cover what the map covers"
            raise input_error(f"x and y of {place}", expected, anchors, remedy)
        if max(shifts) > 0:
            shifted.append(f"{place}, {list(anchors)}")
    if shifted:
        text = f"x and y of {shifted[0]}, are not those of the voxel layer, {bounds}."
        print_log(text, "current", logging.WARNING)
    size = layer.get("voxel_size")
    if not isinstance(size, Sequence) or len(size) != 3:
        return
    check_geometry(f"{_LAYER}.voxel_size", size)
    _check_copies(cfg, ("voxel_size",), "voxel_size", [float(value) for value in size])
    _check_map(model, bounds, size)
    cells = num_cells(layer)
    _check_copies(cfg, ("grid_size",), "range divided by its voxel_size", cells)
    _check_grid(part_of(model, "middle_encoder"), model, bounds, cells)


def check_geometry(name: str, values: Any) -> None:
    """Raise unless ``values`` are a range, its low ends first, or with another name voxel sizes."""
    is_range = name.endswith("point_cloud_range")
    count = 6 if is_range else 3
    is_right = isinstance(values, list | tuple) and len(values) == count
    is_right = is_right and all(map(is_number, values))
    if is_range and not (is_right and all(values[a] < values[a + 3] for a in range(3))):
        expected = "[x, y, z, x, y, z] in m, every low end below its high end"
        raise input_error(name, expected, values)
    if not is_range and not (is_right and min(values) > 0):
        raise input_error(name, "three positive lengths in m, along x, y, z", values)


def num_cells(layer: Any) -> list[int]:
    """Voxels of a voxel layer's range along x, y and z."""
    bounds, size = layer.point_cloud_range, layer.voxel_size
    return [round((bounds[axis + 3] - bounds[axis]) / size[axis]) for axis in range(3)]


def nodes(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in a config with its dotted place."""
    if isinstance(node, dict):
        yield place, node
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list | tuple):
            yield from nodes(value, f"{place}.{key}".lstrip("."))


def anchor_ranges(model: Any) -> Iterator[tuple[str, list[float]]]:
    """Every range of an anchor generator with its dotted place."""
    for place, node in nodes(model, "model"):
        generator = node.get("anchor_generator")
        for index, values in enumerate((generator or {}).get("ranges", ())):
            yield f"{place}.anchor_generator.ranges[{index}]", values


def fit_places(cfg: Config, before: Config, keys: Sequence[str], keep_grid: bool) -> None:
    """Hand a top-level ``point_cloud_range`` or ``voxel_size`` to every part that has one.

    Args:
        cfg: changed in place; anchors get x and y of the range.
        before: the config without the option.
        keys: which of the two.
        keep_grid: leave the middle encoder's grid; otherwise it grows or shrinks with the cells.
    """
    values = {key: cfg[key] for key in keys}
    if "point_cloud_range" in keys:
        values |= dict.fromkeys(_RANGES, cfg.point_cloud_range)
    _set_places(cfg, values)
    _set_places(cfg, {"grid_size": num_cells(cfg.model.data_preprocessor.voxel_layer)})
    for _, anchors in anchor_ranges(cfg.model) if "point_cloud_range" in keys else ():
        for axis in _EDGES:
            anchors[axis] = cfg.point_cloud_range[axis]
    encoder = part_of(cfg.model, "middle_encoder")
    name = next((n for n in ("sparse_shape", "output_shape") if encoder.get(n)), None)
    if name and not keep_grid:
        new, old = (num_cells(c.model.data_preprocessor.voxel_layer)[::-1] for c in (cfg, before))
        shape = list(encoder[name])
        encoder[name] = [n + new[i - len(shape)] - old[i - len(shape)] for i, n in enumerate(shape)]


def _set_places(cfg: Config, values: dict[str, Sequence[float]]) -> None:
    """Set every list under one of the keys to the first numbers of its value."""
    for _, node in nodes(cfg._cfg_dict):
        for key in values.keys() & node.keys():
            if isinstance(node[key], list | tuple):
                node[key] = list(values[key])[: len(node[key])]


def _check_copies(cfg: Config, keys: Sequence[str], name: str, expected: Sequence[float]) -> None:
    """Raise where a place repeats a value of the voxel layer, or its first numbers, otherwise."""
    for place, node in nodes(cfg._cfg_dict):
        for key in keys:
            values = node.get(key)
            if not isinstance(values, list | tuple) or (key == "voxel_size" and not place):
                continue  # the model's sizes count, not a variable that made them
            if [float(value) for value in values] != list(expected[: len(values)]):
                where, first = f"{place}.{key}".lstrip("."), list(expected[: len(values)])
                wanted = f"{first}, the {name} of model.data_preprocessor.voxel_layer"
                remedy = f"say {key} once and hand it to every place"
                raise input_error(where, wanted, list(values), remedy)


def _check_map(model: Any, bounds: list[float], size: Sequence[float]) -> None:
    """Raise unless every axis of the range holds whole cells of the coarsest map."""
    stride = _stride(model)
    units = [size[0] * stride, size[1] * stride, size[2]]
    counts = [(bounds[axis + 3] - bounds[axis]) / units[axis] for axis in range(3)]
    wrong = [axis for axis in range(3) if abs(counts[axis] - round(counts[axis])) > _TOLERANCE]
    if not wrong:
        return
    fitting = []
    for up in (0, 1):
        ends = list(bounds)
        for axis in wrong:
            length = max(1, int(counts[axis]) + up) * units[axis]
            low = -length / 2 if bounds[axis] == -bounds[axis + 3] else bounds[axis]
            ends[axis], ends[axis + 3] = round(low, 6), round(low + length, 6)
        cells = [round((ends[axis + 3] - ends[axis]) / size[axis]) for axis in range(3)]
        fitting.append(
            f"{[f'{v:g}' for v in ends]} with {cells[0]} x {cells[1]} x {cells[2]} cells"
        )
    axis = wrong[0]
    unit = f"{stride} voxels" if axis < 2 and stride > 1 else "one voxel"
    expected = f"of a length along {'xyz'[axis]} that is a multiple of {units[axis]:g} m, {unit}"
    expected += " (the strides of middle encoder and backbone)" if stride > 1 and axis < 2 else ""
    length = bounds[axis + 3] - bounds[axis]
    got = f"{length:g} m, {length / size[axis]:g} voxels"
    remedy = f"the nearest are {' and '.join(fitting)}".replace("'", "")
    raise input_error("point_cloud_range", expected, got, remedy)


def _check_grid(encoder: Any, model: Any, bounds: list[float], cells: list[int]) -> None:
    """Raise unless the grid of the middle encoder holds the voxels, and the map its channels."""
    shape = list(encoder.get("sparse_shape") or encoder.get("output_shape") or ())
    if not shape:
        return
    name = "sparse_shape" if encoder.get("sparse_shape") else "output_shape"
    where, height = f"model.{part_name(model, 'middle_encoder')}.{name}", bounds[5] - bounds[2]
    wanted = [cells[2] + 1, cells[1], cells[0]] if name == "sparse_shape" else [cells[1], cells[0]]
    if shape[-2:] != wanted[-2:] or (len(shape) == 3 and shape[0] < cells[2]):
        expected, remedy = f"{wanted}, the range divided by the voxel size", ""
        if len(shape) == 3 and shape[0] < cells[2]:
            expected += " (in z one more, or as many)"
            remedy = f"or keep it with a voxel_size of {height / (shape[0] - 1):g} m in z"
        raise input_error(where, expected, shape, remedy)
    if encoder.get("type") == "PointPillarsScatter" and cells[2] != 1:
        where = "model.data_preprocessor.voxel_layer.voxel_size[2]"
        expected = f"{height:g} m, the height of the range: a pillar is one voxel"
        raise input_error(where, expected, f"{height / cells[2]:g} m", "set voxel_size")
    paddings, backbone = _paddings(encoder), part_of(model, "backbone")
    if paddings is None or backbone.get("type") != "SECOND":
        return
    heights = shape[0]
    for padding in paddings:
        heights = (heights + 2 * padding[0] - 3) // 2 + 1
    heights = (heights - 3) // 2 + 1  # the last convolution, without padding
    channels = _argument(encoder, "output_channels")
    if backbone.get("in_channels", channels * heights) != channels * heights:
        expected = f"{channels * heights}, {channels} channels at the {max(heights, 0)} heights "
        expected += f"that {where} {shape} leaves"
        remedy = "or choose a voxel_size in z with as many heights as before"
        where = f"model.{part_name(model, 'backbone')}.in_channels"
        raise input_error(where, expected, backbone.in_channels, remedy)


def _stride(model: Any) -> int:
    """Voxels along x and y that the coarsest map needs whole; of known modules alone."""
    encoder, neck = part_of(model, "middle_encoder"), part_of(model, "neck")
    paddings, backbone = _paddings(encoder), part_of(model, "backbone")
    stride = 1 if paddings is None else 2 ** len(paddings)
    if (backbone.get("type"), neck.get("type")) != ("SECOND", "SECONDFPN"):
        return stride
    strides, factors = _argument(backbone, "layer_strides"), _argument(neck, "upsample_strides")
    strides = [prod(strides[: level + 1]) for level in range(len(strides))]
    maps = [level / factor for level, factor in zip(strides, factors, strict=False)]
    if max(maps) - min(maps) > _TOLERANCE:
        fits = [level / maps[0] for level in strides[: len(factors)]]
        fits = [int(factor) if factor == int(factor) else factor for factor in fits]
        remedy = f"the strides of the backbone's maps are {strides}"
        where = f"model.{part_name(model, 'neck')}.upsample_strides"
        raise input_error(where, f"{fits}", list(factors), remedy)
    return stride * int(max(*strides, *maps))


def _paddings(encoder: Any) -> list[tuple[int, int, int]] | None:
    """Paddings (z, y, x) of the strided layers of a sparse encoder; None for other modules."""
    if encoder.get("type") not in ("SparseEncoder", "SparseEncoderSASSD"):
        return None
    blocks, paddings = (_argument(encoder, f"encoder_{n}") for n in ("channels", "paddings"))
    if _argument(encoder, "block_type") == "basicblock":
        chosen = [rows[len(stage) - 1] for stage, rows in zip(blocks, paddings, strict=True)][:-1]
    else:
        chosen = [rows[0] for rows in paddings[1 : len(blocks)]]
    return [tuple(p) if isinstance(p, list | tuple) else (p, p, p) for p in chosen]


def _argument(part: Any, name: str) -> Any:
    """An argument of a module as its config has it, or its default."""
    if name in part or "type" not in part:
        return part.get(name)
    cls = MODELS.get(part["type"])
    parameter = inspect.signature(cls).parameters.get(name) if cls else None
    value = None if parameter is None else parameter.default
    return None if value is inspect.Parameter.empty else value
