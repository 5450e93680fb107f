"""Every config loads, builds, and agrees with itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import ebm3d
from tests.architecture.source_files import ROOT

pytestmark = pytest.mark.mmdet3d

_FOLDER = ROOT / "configs"
_CONFIGS = sorted(p for p in _FOLDER.rglob("*.py") if "_base_" not in p.parts)
_LONGEST_LEAF = 60
_DETECTORS = [
    f"{detector}_{data}"
    for detector, data in product(
        ("second", "pointpillars"), ("kitti", "kitti_cpu", "simulated_cpu")
    )
]
_REGRESSIONS = ("direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")


def _name(path: Path) -> str:
    """A config as :func:`ebm3d.config_path` takes it, less its ending."""
    return path.relative_to(_FOLDER).with_suffix("").as_posix()


@pytest.fixture(scope="module", params=_CONFIGS, ids=_name)
def config_file(request: pytest.FixtureRequest) -> Path:
    """Each config that is not a base."""
    return request.param


@cache
def _load(path: Path) -> Any:
    """A config with what it inherits; read once, since reading takes longest; not to be changed."""
    from mmengine import Config

    return Config.fromfile(path)


@pytest.fixture(scope="module")
def config(config_file: Path) -> Any:
    """The config, with what it inherits."""
    return _load(config_file)


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


def test_there_are_configs():
    assert len(_CONFIGS) >= 4


def test_every_regression_has_a_dense_head_and_a_second_stage_on_every_detector():
    dense = {f"{r}_{d}" for r, d in product(_REGRESSIONS, _DETECTORS)}
    second = {
        f"second_stage/{r}_{d}" for r, d in product((*_REGRESSIONS, "confidence"), _DETECTORS)
    }
    names = {_name(path) for path in _CONFIGS}
    assert dense | second <= names
    assert {name for name in names if name.startswith("second_stage/")} == second


@pytest.mark.parametrize("detector", _DETECTORS)
@pytest.mark.parametrize("regression", _REGRESSIONS)
def test_a_dense_regression_differs_from_its_detector_in_the_head_alone(
    regression: str, detector: str
):
    changed = _changed(detector, f"{regression}_{detector}")
    base = _base(f"dense_{regression}")  # its own settings are inherited beside the model's
    assert {key for key in changed if key.split(".")[0] not in base} == {
        f"model.bbox_head.{key}" for key in ("type", "loss_bbox", "regression")
    }
    assert base["regression"] == _regression(f"{regression}_{detector}")


@pytest.mark.parametrize("detector", _DETECTORS)
@pytest.mark.parametrize("regression", _REGRESSIONS)
def test_a_second_stage_differs_from_the_energy_in_what_a_regression_needs_alone(
    regression: str, detector: str
):
    name = f"second_stage/{regression}_{detector}"
    changed = _changed(f"ebm_{detector}", name)
    base = _base(regression)
    assert {key for key in changed if key.split(".")[0] not in base} == {
        f"model.bbox_head.refinement_head.{key}"
        for key in ("type", "network.type", "loss", "refiner", "regression", "num_iterations")
    }
    assert base["regression"] == _regression(name)


@pytest.mark.parametrize("detector", _DETECTORS)
def test_a_confidence_differs_from_the_energy_in_the_loss_and_the_steps_alone(detector: str):
    changed = _changed(f"ebm_{detector}", f"second_stage/confidence_{detector}")
    head = "model.bbox_head.refinement_head."
    wanted = {"loss.type", "loss.target", "refiner.type", "refiner.step_size"}
    assert {key.removeprefix(head) for key in changed} == wanted


def _changed(first: str, second: str) -> set[str]:
    """Dotted keys in which two configs differ; of a part that only one has, the key of the part."""
    return set(_differences(*(_load(_FOLDER / f"{n}.py").to_dict() for n in (first, second))))


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Dotted keys of different values."""
    for key in {*one, *other}:
        place = f"{path}.{key}" if path else key
        if isinstance(one.get(key), dict) and isinstance(other.get(key), dict):
            yield from _differences(one[key], other[key], place)
        elif key not in one or key not in other or one[key] != other[key]:
            yield place


def _regression(name: str) -> Any:
    """The regression of a config's last head."""
    head = _load(_FOLDER / f"{name}.py").to_dict()["model"]["bbox_head"]
    return head.get("refinement_head", head)["regression"]


def _base(name: str) -> dict[str, Any]:
    """All settings of a base of regressions."""
    return _load(_FOLDER / "_base_" / "regressions" / f"{name}.py").to_dict()


def test_a_config_is_found_by_its_name(config_file: Path):
    name = str(config_file.relative_to(ROOT / "configs"))
    assert Path(ebm3d.config_path(name)) == config_file


def test_an_unknown_config_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(FileNotFoundError, match=_CONFIGS[0].name):
        ebm3d.config_path("no_such_config.py")


def test_the_model_builds(config: Any):
    from mmdet3d.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    model = MODELS.build(deepcopy(config.model))  # the host writes into what it is given
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
    middle = config.model.middle_encoder
    shape = [round(c) for c in reversed(cells)]
    if "sparse_shape" in middle:
        assert list(middle.sparse_shape) == [shape[0] + 1, *shape[1:]]
    else:
        assert list(middle.output_shape) == shape[1:]


def test_lists_by_class_have_one_row_for_each_class(config: Any):
    num_classes = len(config.class_names)
    head = config.model.bbox_head
    dense = head.get("dense_head", head)
    assert dense.num_classes == num_classes
    assert list(config.val_dataloader.dataset.metainfo.classes) == list(config.class_names)
    for name in ("stds", "step_scale", "mean_sizes"):
        for path, rows in _named(config, name).items():
            if rows is not None and isinstance(rows[0], list | tuple):
                assert len(rows) in (1, num_classes), f"{path}: {len(rows)} rows"


def test_no_value_is_an_absolute_path(config: Any):
    absolute = {
        p: v for p, v in _walk(config.to_dict()) if isinstance(v, str) and v.startswith("/")
    }
    assert not absolute


def test_a_leaf_states_differences_only(config_file: Path):
    assert len(config_file.read_text().splitlines()) <= _LONGEST_LEAF
