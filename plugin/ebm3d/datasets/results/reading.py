"""Result files of any detector, recognized by what they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebm3d.datasets.kitti_splits import read_ids
from ebm3d.datasets.problems import DataError, Problem, missing_folder, unreadable
from ebm3d.datasets.results.frames import ResultFile
from ebm3d.datasets.results.kitti import KittiResults
from ebm3d.datasets.results.mmdet3d import KittiAnnos, MMDet3DResults, is_prediction
from ebm3d.datasets.results.nuscenes import NuScenesResults
from ebm3d.datasets.results.openpcdet import OpenPCDetResults, form_of
from ebm3d.datasets.results.pickles import load_pickle
from ebm3d.datasets.text import is_number

_KNOWN = (
    "a folder of KITTI text files, a pickle of OpenPCDet or mmdet3d, a folder of mmdet3d's JSON "
    "files, or a submission to nuScenes"
)
_REMEDY = "name the file or folder that the detector wrote"
_ANNOS = {"name", "location", "dimensions", "rotation_y", "score"}


def read_results(
    path: str | Path,
    calib: str | Path | None = None,
    name_map: Mapping[str, str] | None = None,
    *,
    class_names: Sequence[str] = (),
    nuscenes: str | Path | None = None,
    ids: str | Path | None = None,
) -> ResultFile:
    """Read detections; the format follows from the content.

    Args:
        path: folder or file.
        calib: folder of KITTI calibration files, for boxes in the camera frame.
        name_map: from class names of the file to others: ``{"car": "Car"}``.
        class_names: of label numbers, in the order of the detector's config (mmdet3d).
        nuscenes: data root, folder of tables or info file, for the poses (nuScenes).
        ids: text file of frame ids in the order of the file, where it names none (mmdet3d).

    Raises:
        DataError: if the format is unknown, something that it needs is not given, and with what is
            wrong in the files.
    """
    frame_ids = [] if ids is None else read_ids(ids)
    poses = _path(nuscenes)
    found = _read(Path(path), _path(calib), name_map or {}, class_names, frame_ids, poses)
    if not found.has_scores:
        got = "labels, without scores"
        raise DataError([Problem(Path(path), None, "detections", got, _REMEDY)])
    return found


def read_label_set(
    path: str | Path,
    calib: str | Path | None = None,
    name_map: Mapping[str, str] | None = None,
    *,
    origin: str | None = None,
) -> ResultFile:
    """Read the labels of a data set as results without scores, to be written back alike.

    Args:
        path: folder of label files, KITTI's or in the LiDAR frame (see ``read_lidar_labels``), or
            an info file of OpenPCDet.
        calib: folder of KITTI calibration files, for labels in the camera frame.
        name_map: from class names of the files to others.
        origin: where z is, of text files in the LiDAR frame: "center" (default) or "bottom".

    Raises:
        DataError: as :func:`read_results`.
    """
    found = _read(Path(path), _path(calib), name_map or {}, scores=False, origin=origin)
    if found.has_scores:
        remedy = "name the labels, or read these with read_results"
        raise DataError([Problem(Path(path), None, "labels", "detections, with scores", remedy)])
    return found


def _read(
    path: Path,
    calib: Path | None,
    name_map: Mapping[str, str],
    class_names: Sequence[str] = (),
    ids: Sequence[str] = (),
    nuscenes: Path | None = None,
    *,
    scores: bool = True,
    origin: str | None = None,
) -> ResultFile:
    """Read what is there."""
    if path.is_dir():
        folder, files = _files_of(path)
        if files[0].suffix == ".json":
            entries = [_load(file) for file in files]
            return MMDet3DResults(folder, entries, files, ids, class_names, name_map)
        if not scores and origin is None and calib is None and _is_lidar_text(files):
            origin = "center"
        return KittiResults(folder, calib, name_map, scores=scores, origin=origin)
    content = _load(path)
    entries = content if isinstance(content, list) else [content]
    first = entries[0] if entries else None
    if form_of(first):
        return OpenPCDetResults(path, entries, calib, name_map)
    if is_prediction(first):
        files = [path] if isinstance(content, dict) else []
        return MMDet3DResults(path, entries, files, ids, class_names, name_map)
    if isinstance(first, dict) and first.keys() >= _ANNOS:
        return KittiAnnos(path, entries, ids, calib, name_map)
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        return NuScenesResults(path, content, nuscenes, name_map)
    raise DataError([Problem(path, None, _KNOWN, _describe(content), _REMEDY)])


def _files_of(path: Path) -> tuple[Path, list[Path]]:
    """The files of a folder: in it, in OpenPCDet's ``data`` or in the inferencer's ``preds``."""
    for folder in (path, path / "data", path / "preds"):
        for suffix in ("txt", "json"):
            if files := sorted(folder.glob(f"[!.]*.{suffix}")):
                return folder, files
    names = sorted(inner.name for inner in path.iterdir())
    got = f"a folder with {', '.join(names[:5])}" if names else "an empty folder"
    raise DataError([Problem(path, None, _KNOWN, got, _REMEDY)])


def _load(path: Path) -> Any:
    """Content of a JSON file or a pickle, told by the first byte."""
    if not path.exists() and not path.suffix:
        raise DataError([missing_folder(path, _KNOWN, _REMEDY)])
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()[:1]
        if start in (b"{", b"["):
            return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError([unreadable(path, _KNOWN, error, _REMEDY)]) from error
    except (ValueError, RecursionError) as error:
        got = f"JSON that is damaged: {error}"
        raise DataError([Problem(path, None, _KNOWN, got, "write the file again")]) from error
    return load_pickle(path)


def _is_lidar_text(files: Sequence[Path]) -> bool:
    """Whether the first line of labels is x y z dx dy dz yaw class."""
    texts = (file.read_text(errors="replace") for file in files)
    words = next((text.splitlines()[0].split() for text in texts if text.strip()), [])
    return len(words) == 8 and (is_number(words[0]) or is_number(words[-1]))


def _describe(content: Any) -> str:
    """What a file holds that is of no known format."""
    kind = type(content).__name__
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict):
        return f"a {kind} with the keys {', '.join(map(str, list(first)[:12])) or '(none)'}"
    if first is content:
        return f"an empty {kind}" if isinstance(content, list) else f"one {kind}"
    return f"a {kind} of {type(first).__name__}"


def _path(path: str | Path | None) -> Path | None:
    """A path, if there is one."""
    return None if path is None else Path(path)
