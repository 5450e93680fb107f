"""Whether the prepared data of a config hold what it trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import Config
from mmengine.fileio import load
from mmengine.logging import MMLogger

from ebm3d.errors import input_error

_DATASETS = ("KittiDataset", "NuScenesDataset")
_LAST = "barrier"  # of nuScenes' classes: the host's name for the label -1


def check_data(cfg: Config) -> None:
    """Raise where no class to train, or none to sample, has an object in the training data.

    Of some that have none a warning tells, and of barriers' objects that are foreign an error.
    Only info files of ``KittiDataset`` and ``NuScenesDataset`` that exist are looked at.

    Args:
        cfg: settings of a run; not changed.

    Raises:
        ValueError: naming the class, the file, and what it holds.
    """
    for dataset in _datasets(cfg.get("train_dataloader", {}).get("dataset")):
        path = Path(dataset.get("data_root") or "", dataset.get("ann_file") or "")
        found: Counter[str] = Counter()
        if dataset.get("type", "").endswith(_DATASETS) and path.is_file():
            found = _check_infos(dataset, load(str(path)), path)
        for transform in dataset.get("pipeline", ()):
            sampler = transform.get("db_sampler")
            if sampler and sampler.get("rate", 1.0) > 0 and Path(sampler["info_path"]).is_file():
                _check_database(sampler, load(sampler["info_path"]), found)


def _datasets(node: Any) -> Iterator[Any]:
    """The data sets inside wrappers (``RepeatDataset``, ``ConcatDataset``)."""
    if isinstance(node, list | tuple):
        for part in node:
            yield from _datasets(part)
    elif node:
        yield node
        yield from _datasets(node.get("dataset"))
        yield from _datasets(node.get("datasets"))


def _check_infos(dataset: Any, infos: dict[str, Any], path: Path) -> Counter[str]:
    """Compare classes and range of a data set with its info file's objects, which it returns."""
    names = {label: name for name, label in infos["metainfo"]["categories"].items()}
    found = Counter(
        names[instance["bbox_label_3d"]]
        for info in infos["data_list"]
        for instance in info["instances"]
        if instance["bbox_label_3d"] >= 0
    )
    classes = list((dataset.get("metainfo") or {}).get("classes") or found)
    absent = [name for name in classes if not found[name]]
    if not classes or absent:
        what = f"no object of class {', '.join(absent)}" if absent else "no object"
        got = f"{what} in {path}; there are {_listed(found)}"
        if len(absent) == len(classes) or not set(absent) <= set(names.values()):
            remedy = "train on a class that is there, or correct the labels and prepare them again"
            raise input_error("metainfo.classes", "classes of the training data", got, remedy)
        MMLogger.get_current_instance().warning("%s: what is not there is not learned.", got)
    for transform in dataset.get("pipeline", ()):
        if transform["type"] == "ObjectRangeFilter":
            chosen = {label for label, name in names.items() if name in classes}
            _check_range(transform["point_cloud_range"], infos["data_list"], chosen, path)
    return found


def _check_range(bounds: Any, frames: list[Any], labels: set[int], path: Path) -> None:
    """Warn if no object lies where the pipeline keeps objects."""
    centers = [np.zeros((0, 2))]
    for info in frames:
        location = [i["bbox_3d"][:3] for i in info["instances"] if i["bbox_label_3d"] in labels]
        if location:
            camera = info.get("images", {}).get("CAM2")  # KITTI's boxes are in its frame
            to_lidar = np.eye(4) if camera is None else np.linalg.inv(camera["lidar2cam"])
            centers.append((np.array(location) @ to_lidar[:3, :3].T + to_lidar[:3, 3])[:, :2])
    xy = np.concatenate(centers)
    inside = (xy > np.array(bounds[:2])) & (xy < np.array(bounds[3:5]))
    if len(xy) and not inside.all(axis=1).any():
        low, high = xy.min(axis=0).round(1).tolist(), xy.max(axis=0).round(1).tolist()
        message = "no object of %s lies in point_cloud_range %s: their x and y are from %s to %s."
        MMLogger.get_current_instance().warning(message, path, list(bounds), low, high)


def _check_database(
    sampler: Any, database: dict[str, list[dict[str, Any]]], found: Counter[str]
) -> None:
    """Compare the classes to sample with what the sampler's filters leave of the database."""
    path, problems = sampler["info_path"], {}
    for name, wanted in sampler["sample_groups"].items():
        if wanted > 0:
            problems[name] = _problem_of_sampling(name, sampler, database)
    absent = {name: problem for name, problem in problems.items() if problem}
    for got, remedy in absent.values():
        if len(absent) == len(problems):
            expected = f"classes with objects in {path}"
            raise input_error("sample_groups of ObjectSample", expected, got, remedy)
        MMLogger.get_current_instance().warning("ObjectSample: %s in %s; %s.", got, path, remedy)
    surplus = {name for name, objects in database.items() if len(objects) > found[name]}
    if found and surplus == {_LAST}:
        expected = f"at most the {found[_LAST]} of the training data"
        got = f"{len(database[_LAST])}: the host files objects of all other classes under this one"
        remedy = "prepare the data again: python tools/create_data.py nuscenes"
        raise input_error(f"objects of class {_LAST} in {path}", expected, got, remedy)


def _problem_of_sampling(
    name: str, sampler: Any, database: dict[str, list[dict[str, Any]]]
) -> tuple[str, str] | None:
    """What is wrong, and what to do, where nothing of a class is left to sample."""
    prepare, objects = sampler.get("prepare") or {}, database.get(name, [])
    removed = prepare.get("filter_by_difficulty", [])
    least = prepare.get("filter_by_min_points", {}).get(name, 0)
    kept = [info for info in objects if info["difficulty"] not in removed]
    if any(info["num_points_in_gt"] >= least for info in kept):
        return None
    if objects:
        got = f"{name}, of which filter_by_difficulty={list(removed)} leaves {len(kept)} of "
        got += f"{len(objects)} objects, filter_by_min_points none"
        return got, f"set prepare=dict(), or drop {name} from sample_groups"
    sizes = Counter({key: len(infos) for key, infos in database.items() if infos})
    got = f"no object of class {name}; there are {_listed(sizes)}"
    return got, f"drop {name} from sample_groups and from the classes, or correct the labels"


def _listed(counts: Counter[str]) -> str:
    """Classes with their numbers, the most frequent first."""
    return ", ".join(f"{name} ({number})" for name, number in counts.most_common()) or "none"
