"""Ground truth of a split, from an info file: the package's own or the host's."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASSES
from ebm3d.datasets.nuscenes.frames import global_boxes
from ebm3d.datasets.nuscenes.poses import rotation_matrices, yaw_quaternions
from ebm3d.datasets.nuscenes.splits import OFFICIAL_SPLITS
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.evaluation.nuscenes.boxes import FloatArray, GroundTruth, NuScenesBoxes, Racks
from ebm3d.evaluation.nuscenes.protocol import RACK_CATEGORY

_EXPECTED = "an info file (.pkl, version 1.1) with metainfo and data_list"
_REMEDY = "write it with tools/create_data.py nuscenes"
_BY_CREATE_DATA = "infos of tools/create_data.py nuscenes have them, and so have the tables"
_NO_ATTRIBUTES = f"The infos have no attr_label: no AAE, and no NDS; {_BY_CREATE_DATA}."
_NO_CATEGORIES = (
    "The infos have no category, so bicycle racks are unknown: bicycles and motorcycles in them "
    f"are evaluated; {_BY_CREATE_DATA}."
)
_NO_GLOBAL_BOX = (
    "The infos have no global_box: headings are of the LiDAR frame, off by up to 0.1 degrees where "
    f"the car tilts; {_BY_CREATE_DATA}."
)


def read_info_truth(path: str | Path) -> GroundTruth:
    """Read the ground truth of an info file.

    Scenes begin where a key frame has no sweeps before it. What a file of the host does not hold is
    in ``notes``: attributes, bicycle racks, exact headings.

    Raises:
        DataError: if the file cannot be read, is of another version, or has no labels.
    """
    path = Path(path)
    with named_defects(path):
        with path.open("rb") as file:
            content: Any = pickle.load(file)
        meta, infos = content["metainfo"], content["data_list"]
        if len(infos) == 0:
            raise DataError([Problem(path, None, _EXPECTED, "no key frame", _REMEDY)])
        if not any("instances" in info and info["instances"] for info in infos):
            expected = "labels, which results are evaluated against"
            remedy = "evaluate on a split with annotations, or submit to the leaderboard"
            raise DataError([Problem(path, None, expected, "none", remedy)])
        return info_truth(meta, infos)


@contextmanager
def named_defects(path: Path) -> Iterator[None]:
    """Raise what goes wrong with the reading of an info file as a ``DataError`` that names it."""
    try:
        yield
    except OSError as error:
        raise DataError([unreadable(path, _EXPECTED, error, _REMEDY)]) from error
    except DataError:
        raise
    except (pickle.UnpicklingError, EOFError, ImportError, AttributeError) as error:
        raise DataError([Problem(path, None, _EXPECTED, f"no pickle: {error}", _REMEDY)]) from error
    except _BadValue as error:
        expected, got = error.args
        raise DataError([Problem(path, None, expected, got, _REMEDY)]) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        got = f"an entry that is missing or of another type: {error!r}"
        raise DataError([Problem(path, None, _EXPECTED, got, _REMEDY)]) from error


class _BadValue(Exception):
    """What was expected of an info file, and what is there."""


def info_truth(meta: Mapping[str, Any], infos: Sequence[Mapping[str, Any]]) -> GroundTruth:
    """Return the ground truth of an info file's ``metainfo`` and ``data_list``.

    What is wrong with them raises within :func:`named_defects`.
    """
    instances = [part for info in infos for part in info.get("instances", ())]
    counts = [len(info.get("instances", ())) for info in infos]
    sample = np.repeat(np.arange(len(infos)), counts)
    ego_to_global = np.array([info["ego2global"] for info in infos], dtype=np.float64)
    lidar_to_ego = np.array([i["lidar_points"]["lidar2ego"] for i in infos], dtype=np.float64)
    class_of = [CLASSES.index(n) if n in CLASSES else -1 for n in _categories(meta)]
    labels = np.array([part["bbox_label_3d"] for part in instances], dtype=np.int64)
    _check(bool({*class_of} - {-1}), f"classes among {', '.join(CLASSES)}", _categories(meta))
    is_label = (labels >= -1) & (labels < len(class_of))
    _check(is_label.all(), f"bbox_label_3d from -1 to {len(class_of) - 1}", labels[~is_label])
    class_index = np.array([*class_of, -1])[labels]  # -1, of no class, is the last one
    has_global = all("global_box" in part for part in instances)
    if has_global:
        boxes = np.array([part["global_box"] for part in instances], dtype=np.float64)
    else:
        boxes = _from_lidar(instances, (ego_to_global @ lidar_to_ego)[sample])
    _check_values(infos, boxes, class_index, sample, ego_to_global)
    has_attributes = all("attr_label" in part for part in instances)
    attribute = np.array([part.get("attr_label", -1) for part in instances], dtype=np.int64)
    points = [(part["num_lidar_pts"], part["num_radar_pts"]) for part in instances]
    columns = NuScenesBoxes(
        sample=sample,
        translation=boxes[:, :3],
        size=boxes[:, [4, 3, 5]],
        yaw=boxes[:, 6],
        velocity=boxes[:, 7:9],
        class_index=class_index,
        attribute=np.where(attribute < len(ATTRIBUTES), attribute, -1),
        score=np.full(len(boxes), np.nan),
        num_points=np.array(points, dtype=np.int64).sum(axis=1),
    )
    split = str(meta.get("split", ""))
    has_categories = all("category" in part for part in instances)
    is_rack = np.array([part.get("category") == RACK_CATEGORY for part in instances])
    racks = columns.select(is_rack)
    rotations = rotation_matrices(yaw_quaternions(racks.yaw))
    missing = {_NO_ATTRIBUTES: has_attributes, _NO_CATEGORIES: has_categories}
    missing |= {_NO_GLOBAL_BOX: has_global}
    return GroundTruth(
        tokens=tuple(info["token"] for info in infos),
        scene=_scenes(infos),
        ego_translation=ego_to_global[:, :3, 3],
        labels=columns.select(class_index >= 0),
        racks=Racks(racks.sample, racks.translation, racks.size, rotations),
        version=str(meta.get("version", "")),
        split=split,
        follows_samples=bool(split) and split not in OFFICIAL_SPLITS,
        has_attributes=has_attributes,
        notes=tuple(note for note, is_there in missing.items() if not is_there),
    )


def _scenes(infos: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Index of the scene of each frame; in files of the host a frame without sweeps begins one."""
    if all("scene" in info for info in infos):
        names = {info["scene"]: None for info in infos}
        index = {name: number for number, name in enumerate(names)}
        return np.array([index[info["scene"]] for info in infos], dtype=np.int64)
    begins = [0, *(not info.get("lidar_sweeps") for info in infos[1:])]
    return np.cumsum(begins[: len(infos)])


def _check_values(
    infos: Sequence[Mapping[str, Any]],
    boxes: FloatArray,
    class_index: NDArray[np.int64],
    sample: NDArray[np.int64],
    ego_to_global: FloatArray,
) -> None:
    """Raise unless samples are different, poses finite, and boxes finite and of some size."""
    tokens = [info["token"] for info in infos]
    twice = [token for token, num in Counter(tokens).items() if num > 1]
    _check(not twice, "each sample once", [f"{token!r} again" for token in twice])
    is_pose = np.isfinite(ego_to_global).all(axis=(1, 2))
    bad = np.flatnonzero(~is_pose)
    _check(is_pose.all(), "finite ego2global", [f"others in {tokens[i]}" for i in bad[:1]])
    is_box = np.isfinite(boxes[:, :7]).all(axis=1) & (boxes[:, 3:6] > 0).all(axis=1)
    is_box &= ~np.isinf(boxes[:, 7:9]).any(axis=1)
    bad = np.flatnonzero(~is_box & (class_index >= 0))
    got = [f"{boxes[i].tolist()} in {tokens[sample[i]]}" for i in bad[:1]]
    _check(not len(bad), "finite boxes of positive size", [*got, f"{len(bad)} such"])


def _check(is_valid: bool | np.bool_, expected: str, got: Any) -> None:
    """Raise unless something holds; the first values of ``got`` are shown."""
    if not is_valid:
        raise _BadValue(expected, ", ".join(map(str, got[:3])))


def _categories(meta: Mapping[str, Any]) -> list[str]:
    """Names of the classes, in the order of their labels."""
    categories: Mapping[str, int] = meta["categories"]
    return sorted(categories, key=categories.__getitem__)


def _from_lidar(instances: Sequence[Mapping[str, Any]], transforms: FloatArray) -> FloatArray:
    """Boxes ``(N, 9)`` as ``global_box``, from those of the LiDAR frame."""
    boxes = np.array([part["bbox_3d"] for part in instances], dtype=np.float64)
    boxes[:, 2] -= boxes[:, 5] / 2  # infos have the center
    center, yaw, _ = global_boxes(boxes, transforms)
    # The part in the LiDAR's xy plane of a velocity in the global one: undone without loss.
    velocity = np.array([part["velocity"] for part in instances], dtype=np.float64)
    velocity = np.linalg.solve(transforms[:, :2, :2].transpose(0, 2, 1), velocity[..., None])
    return np.column_stack([center, boxes[:, 3:6], yaw, velocity[..., 0]])
