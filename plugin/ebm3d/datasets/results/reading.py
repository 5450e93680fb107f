"""Result files of any detector, recognized by what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebm3d.datasets.problems import DataError, Problem, missing_folder, unreadable
from ebm3d.datasets.results.frames import ResultFile
from ebm3d.datasets.results.kitti import KittiResults
from ebm3d.datasets.results.openpcdet import OpenPCDetResults, form_of
from ebm3d.datasets.results.pickles import load_pickle
from ebm3d.datasets.text import is_number

_KNOWN = "a folder of KITTI text files, or a pickle of OpenPCDet"
_REMEDY = "name the file or folder that the detector wrote"


def read_results(
    path: str | Path,
    calib: str | Path | None = None,
    name_map: Mapping[str, str] | None = None,
) -> ResultFile:
    """Read detections; the format follows from the content.

    Args:
        path: folder or file.
        calib: folder of KITTI calibration files, for boxes in the camera frame.
        name_map: from class names of the file to others: ``{"car": "Car"}``.

    Raises:
        DataError: if the format is unknown, and with what is wrong in the files.
    """
    path, calib = Path(path), None if calib is None else Path(calib)
    found = _read(path, calib, name_map or {}, scores=True)
    if not found.has_scores:
        got = "labels, without scores"
        raise DataError([Problem(path, None, "detections", got, _REMEDY)])
    return found


def read_label_set(
    path: str | Path,
    calib: str | Path | None = None,
    name_map: Mapping[str, str] | None = None,
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
    path, calib = Path(path), None if calib is None else Path(calib)
    found = _read(path, calib, name_map or {}, scores=False, origin=origin)
    if found.has_scores:
        remedy = "name the labels, or read these with read_results"
        raise DataError([Problem(path, None, "labels", "detections, with scores", remedy)])
    return found


def _read(
    path: Path,
    calib: Path | None,
    name_map: Mapping[str, str],
    *,
    scores: bool,
    origin: str | None = None,
) -> ResultFile:
    """Read what is there."""
    if path.is_dir():
        folder = _folder_of(path)
        if not scores and origin is None and calib is None and _is_lidar_text(folder):
            origin = "center"
        return KittiResults(folder, calib, name_map, scores=scores, origin=origin)
    if not path.exists():
        raise DataError([_missing(path)])
    content = load_pickle(path)
    if isinstance(content, Sequence) and len(content) and form_of(content[0]):
        return OpenPCDetResults(path, content, calib, name_map)
    raise DataError([Problem(path, None, _KNOWN, _describe(content), _REMEDY)])


def _missing(path: Path) -> Problem:
    """Describe a path that is not there."""
    if not path.suffix:
        return missing_folder(path, _KNOWN, _REMEDY)
    return unreadable(path, _KNOWN, FileNotFoundError(), _REMEDY)


def _folder_of(path: Path) -> Path:
    """The folder of text files: this one, or ``data`` in it."""
    for folder in (path, path / "data"):
        if any(folder.glob("*.txt")):
            return folder
    names = sorted(inner.name for inner in path.iterdir())
    got = f"no .txt file among {len(names)}: {', '.join(names[:5])}" if names else "an empty folder"
    raise DataError([Problem(path, None, _KNOWN, got, _REMEDY)])


def _is_lidar_text(folder: Path) -> bool:
    """Whether the first line of the labels is x y z dx dy dz yaw class."""
    for path in sorted(folder.glob("*.txt")):
        words = path.read_text(errors="replace").partition("\n")[0].split()
        if words:
            return len(words) == 8 and (is_number(words[0]) or is_number(words[-1]))
    return False


def _describe(content: Any) -> str:
    """What a file holds that is of no known format."""
    kind = type(content).__name__
    first = content[0] if isinstance(content, Sequence) and len(content) else content
    if isinstance(first, Mapping):
        return f"a {kind} with the keys {', '.join(map(str, list(first)[:12]))}"
    return f"an empty {kind}" if first is content else f"a {kind} of {type(first).__name__}"
