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


def check_data(cfg: Config) -> None:
    """Raise where a class to train or to sample has no object in the training data.

    The host starts anyway, and ends in its sampler or after a thousand frames without an object.
    Only info files of ``KittiDataset`` that exist are looked at.

    Args:
        cfg: settings of a run; not changed.

    Raises:
        ValueError: naming the class, the file, and what it holds.
    """
    for dataset in _datasets(cfg.get("train_dataloader", {}).get("dataset")):
        path = Path(dataset.get("data_root") or "", dataset.get("ann_file") or "")
        if dataset.get("type", "").endswith("KittiDataset") and path.is_file():
            _check_infos(dataset, load(str(path)), path)
        for transform in dataset.get("pipeline", ()):
            sampler = transform.get("db_sampler")
            if sampler and sampler.get("rate", 1.0) > 0 and Path(sampler["info_path"]).is_file():
                _check_database(sampler, load(sampler["info_path"]))


def _datasets(node: Any) -> Iterator[Any]:
    """The data sets inside wrappers (``RepeatDataset``, ``ConcatDataset``)."""
    if isinstance(node, list | tuple):
        for part in node:
            yield from _datasets(part)
    elif node:
        yield node
        yield from _datasets(node.get("dataset"))
        yield from _datasets(node.get("datasets"))


def _check_infos(dataset: Any, infos: dict[str, Any], path: Path) -> None:
    """Compare the classes of a data set, and its range, with the objects of its info file."""
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


def _check_range(bounds: Any, frames: list[Any], labels: set[int], path: Path) -> None:
    """Warn if no object lies where the pipeline keeps objects."""
    centers = [np.zeros((0, 2))]
    for info in frames:
        location = [i["bbox_3d"][:3] for i in info["instances"] if i["bbox_label_3d"] in labels]
        if location:
            to_camera = np.array(info["images"]["CAM2"]["lidar2cam"])
            to_lidar = np.linalg.inv(to_camera)
            centers.append((np.array(location) @ to_lidar[:3, :3].T + to_lidar[:3, 3])[:, :2])
    xy = np.concatenate(centers)
    inside = (xy > np.array(bounds[:2])) & (xy < np.array(bounds[3:5]))
    if len(xy) and not inside.all(axis=1).any():
        low, high = xy.min(axis=0).round(1).tolist(), xy.max(axis=0).round(1).tolist()
        message = "no object of %s lies in point_cloud_range %s: their x and y are from %s to %s."
        MMLogger.get_current_instance().warning(message, path, list(bounds), low, high)


def _check_database(sampler: Any, database: dict[str, list[dict[str, Any]]]) -> None:
    """Compare the classes to sample with what the sampler's filters leave of the database."""
    path, prepare = sampler["info_path"], sampler.get("prepare") or {}
    removed, least = (
        prepare.get("filter_by_difficulty", []),
        prepare.get("filter_by_min_points", {}),
    )
    for name, wanted in sampler["sample_groups"].items():
        objects = database.get(name, [])
        kept = [info for info in objects if info["difficulty"] not in removed]
        left = [info for info in kept if info["num_points_in_gt"] >= least.get(name, 0)]
        if left or wanted <= 0:
            continue
        expected = f"classes with objects in {path}"
        if objects:
            got = f"{name}, of which filter_by_difficulty={list(removed)} leaves {len(kept)} of "
            got += f"{len(objects)} objects, filter_by_min_points none"
            remedy = f"set prepare=dict(), or drop {name} from sample_groups"
        else:
            sizes = Counter({key: len(infos) for key, infos in database.items() if infos})
            got = f"no object of class {name}; there are {_listed(sizes)}"
            remedy = f"drop {name} from sample_groups and from the classes, or correct the labels"
        raise input_error("sample_groups of ObjectSample", expected, got, remedy)


def _listed(counts: Counter[str]) -> str:
    """Classes with their numbers, the most frequent first."""
    return ", ".join(f"{name} ({number})" for name, number in counts.most_common()) or "none"
