"""Every config loads, builds, and agrees with itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import ebm3d
from tests.architecture.source_files import ROOT

pytestmark = pytest.mark.mmdet3d

_FOLDER = ROOT / "configs"
_CONFIGS = sorted(p for p in _FOLDER.rglob("*.py") if "_base_" not in p.parts)
_LONGEST_LEAF = 60


def _name(path: Path) -> str:
    return path.relative_to(_FOLDER).as_posix()


@cache
def _load(path: Path) -> Any:
    """A config with what it inherits, read once; not to be changed."""
    from mmengine import Config

    return Config.fromfile(path)


@pytest.fixture(scope="module", params=_CONFIGS, ids=_name)
def config(request: pytest.FixtureRequest) -> Any:
    """Each config that is not a base, with what it inherits."""
    return _load(request.param)


def _part(config: Any, name: str) -> Any:
    """A part of the model, whatever the host calls it."""
    return config.model.get(name) or config.model[f"pts_{name}"]


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested config with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{index}]")


def _named(config: Any, name: str) -> dict[str, Any]:
    """Every value of one name, by path."""
    return {p: v for p, v in _walk(config.to_dict()) if p.rpartition(".")[2] == name}


def test_configs_are_short_few_and_resolved_by_name():
    assert len(_CONFIGS) >= 4
    assert len(list(_FOLDER.rglob("*.py"))) <= 65  # no products of detectors and heads
    for path in _CONFIGS:
        assert Path(ebm3d.config_path(_name(path))) == path
        assert len(path.read_text().splitlines()) <= _LONGEST_LEAF
    with pytest.raises(FileNotFoundError, match=_CONFIGS[0].name):
        ebm3d.config_path("no_such_config.py")


def test_the_model_builds(config: Any):
    from mmdet3d.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    model = MODELS.build(deepcopy(config.model))  # the host writes into its argument
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_every_type_outside_the_model_is_registered(config: Any):
    from mmdet3d.registry import DATASETS, HOOKS, METRICS, TRANSFORMS, VISUALIZERS
    from mmdet3d.utils import register_all_modules

    register_all_modules()
    wanted = [
        (TRANSFORMS, [s["type"] for s in (*config.train_pipeline, *config.test_pipeline)]),
        (DATASETS, [config.train_dataloader.dataset.type, config.val_dataloader.dataset.type]),
        (HOOKS, [hook["type"] for hook in (*config.default_hooks.values(), *config.custom_hooks)]),
        (METRICS, [config.val_evaluator.type, config.test_evaluator.type]),
        (VISUALIZERS, [config.visualizer.type]),
    ]
    missing = [name for registry, names in wanted for name in names if registry.get(name) is None]
    assert not missing


def test_every_range_is_the_same(config: Any):
    # The host silently takes a range of the model that differs from the one of a pipeline.
    ranges = _named(config, "point_cloud_range")
    assert len(ranges) >= 3
    assert len({tuple(float(v) for v in value) for value in ranges.values()}) == 1, ranges


def test_the_grid_is_the_range_divided_by_the_voxel_size(config: Any):
    layer = config.model.data_preprocessor.voxel_layer
    low, high = layer.point_cloud_range[:3], layer.point_cloud_range[3:]
    cells = [(b - a) / v for a, b, v in zip(low, high, layer.voxel_size, strict=True)]
    assert all(math.isclose(c, round(c), abs_tol=1e-4) for c in cells), f"not whole: {cells}"
    middle = _part(config, "middle_encoder")
    shape = [round(c) for c in reversed(cells)]
    if "sparse_shape" in middle:
        assert list(middle.sparse_shape) == [shape[0] + 1, *shape[1:]]
    else:
        assert list(middle.output_shape) == shape[1:]


def test_lists_by_class_have_one_row_for_each_class(config: Any):
    num_classes = len(config.class_names)
    head = _part(config, "bbox_head")
    dense = head.get("dense_head", head)
    tasks = [name for task in dense.get("tasks", ()) for name in task.class_names]
    assert tasks == list(config.class_names) if tasks else dense.num_classes == num_classes
    assert list(config.val_dataloader.dataset.metainfo.classes) == list(config.class_names)
    for name in ("stds", "step_scale", "mean_sizes"):
        for path, rows in _named(config, name).items():
            if isinstance(rows, dict):
                assert set(rows) == set(config.class_names), path
            elif rows is not None and isinstance(rows[0], list | tuple):
                assert len(rows) in (1, num_classes), f"{path}: {len(rows)} rows"


def test_no_value_is_an_absolute_path(config: Any):
    absolute = {
        p: v for p, v in _walk(config.to_dict()) if isinstance(v, str) and v.startswith("/")
    }
    assert not absolute
