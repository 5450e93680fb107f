"""Training data without the objects that a config trains on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from mmengine import Config

pytestmark = pytest.mark.mmdet3d

_CATEGORIES = {"Pedestrian": 0, "Cyclist": 1, "Car": 2, "Van": 3, "DontCare": -1}


def _settings(
    folder: Path,
    classes: list[str],
    held: dict[str, int],
    *,
    difficulty: int = 0,
    num_points: int = 20,
    location: tuple[float, float, float] = (1.0, 2.0, 20.0),
    groups: dict[str, int] | None = None,
    rate: float = 1.0,
) -> Config:
    """A config of prepared data with so many objects of each class."""
    camera = [[0.0, -1, 0, 0], [0.0, 0, -1, 0], [1.0, 0, 0, 0], [0.0, 0, 0, 1]]
    instances = [
        {"bbox_label_3d": _CATEGORIES[name], "bbox_3d": [*location, 4, 1.5, 1.6, 0]}
        for name, number in held.items()
        for _ in range(number)
    ]
    info = {"instances": instances, "images": {"CAM2": {"lidar2cam": camera}}}
    infos = {"metainfo": {"categories": _CATEGORIES}, "data_list": [info]}
    (folder / "infos.pkl").write_bytes(pickle.dumps(infos))
    entry = {"difficulty": difficulty, "num_points_in_gt": num_points}
    database = {name: [entry] * held.get(name, 0) for name in _CATEGORIES if name != "DontCare"}
    (folder / "database.pkl").write_bytes(pickle.dumps(database))
    sampler = {
        "info_path": str(folder / "database.pkl"),
        "rate": rate,
        "prepare": {"filter_by_difficulty": [-1], "filter_by_min_points": {"Car": 5}},
        "sample_groups": dict.fromkeys(classes, 12) if groups is None else groups,
    }
    dataset = {
        "type": "KittiDataset",
        "data_root": str(folder),
        "ann_file": "infos.pkl",
        "metainfo": {"classes": classes},
        "pipeline": [
            {"type": "ObjectSample", "db_sampler": sampler},
            {"type": "ObjectRangeFilter", "point_cloud_range": [0, -25, -3, 50, 25, 1]},
        ],
    }
    return Config({"train_dataloader": {"dataset": {"type": "RepeatDataset", "dataset": dataset}}})


@pytest.mark.parametrize(
    ("classes", "held", "options", "message"),
    [
        (["Car"], {"Van": 12, "DontCare": 3}, {}, r"no object of class Car.*there are Van \(12\)"),
        (["Car"], {}, {}, "there are none"),
        (["Car", "Cat"], {"Car": 3}, {"groups": {}}, "no object of class Cat"),
        (["Car"], {"Car": 3}, {"difficulty": -1}, r"difficulty=\[-1\] leaves 0 of 3"),
        (
            ["Car"],
            {"Car": 3},
            {"num_points": 4},
            "leaves 3 of 3 objects, filter_by_min_points none",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    tmp_path: Path, classes: list[str], held: dict[str, int], options: Any, message: str
) -> None:
    from ebm3d.adapters.engine.data_checks import check_data

    with pytest.raises(ValueError, match=message):
        check_data(_settings(tmp_path, classes, held, **options))


@pytest.mark.parametrize(
    ("classes", "held", "options", "message"),
    [
        (["Car"], {"Car": 3, "Van": 1}, {}, ""),
        (["Car", "Van"], {"Car": 3}, {"rate": 0.0}, "no object of class Van"),
        (["Car"], {"Car": 3}, {"groups": {"Car": 1, "Van": 1}}, "no object of class Van"),
        (["Car"], {"Car": 3}, {"location": (1, 2, -20)}, "lies in point_cloud_range"),
    ],
)
def test_what_may_be_right_is_said(
    tmp_path: Path,
    classes: list[str],
    held: dict[str, int],
    options: Any,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mmengine.logging import MMLogger

    from ebm3d.adapters.engine import data_checks

    said: list[str] = []
    monkeypatch.setattr(
        MMLogger,
        "warning",
        lambda self, text, *values: said.append(text % values),
        raising=False,
    )
    data_checks.check_data(_settings(tmp_path, classes, held, **options))
    assert len(said) == bool(message)
    assert not message or message in said[0]


def _drives(folder: Path, held: dict[str, int], stored: dict[str, int]) -> Config:
    """A config of prepared drives with so many objects of each class in infos and database."""
    cfg = _settings(folder, list(held), {})
    cfg.train_dataloader.dataset.dataset.type = "NuScenesDataset"
    categories = {name: label for label, name in enumerate(("car", "truck", "barrier"))}
    instances = [
        {"bbox_label_3d": categories[name], "bbox_3d": [20.0, 0, 0, 4, 2, 1, 0]}
        for name, number in held.items()
        for _ in range(number)
    ]
    infos = {"metainfo": {"categories": categories}, "data_list": [{"instances": instances}]}
    (folder / "infos.pkl").write_bytes(pickle.dumps(infos))
    entry = {"difficulty": 0, "num_points_in_gt": 20}
    database = {name: [entry] * number for name, number in stored.items()}
    (folder / "database.pkl").write_bytes(pickle.dumps(database))
    return cfg


def test_a_database_with_foreign_objects_as_barriers_is_refused(tmp_path: Path) -> None:
    from ebm3d.adapters.engine.data_checks import check_data

    held = {"car": 3, "truck": 2, "barrier": 1}
    check_data(_drives(tmp_path, held, held))
    check_data(_drives(tmp_path, {"car": 1, "truck": 1, "barrier": 1}, {**held, "barrier": 9}))
    with pytest.raises(ValueError, match=r"barrier in .*create_data.py nuscenes"):
        check_data(_drives(tmp_path, held, {**held, "barrier": 2}))


def test_data_that_is_not_prepared_or_not_kitti_is_not_looked_at(tmp_path: Path) -> None:
    from ebm3d.adapters.engine.data_checks import check_data

    cfg = _settings(tmp_path, ["Car"], {})
    cfg.train_dataloader.dataset.dataset.type = "ToyData"
    cfg.train_dataloader.dataset.dataset.pipeline = []
    check_data(cfg)
    (tmp_path / "infos.pkl").unlink()
    cfg.train_dataloader.dataset.dataset.type = "KittiDataset"
    check_data(cfg)
    check_data(Config({}))
