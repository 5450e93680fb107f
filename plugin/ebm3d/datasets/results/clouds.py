"""Clouds by frame id, and labels or results beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.cloud_layouts import CloudLayout
from ebm3d.datasets.cloud_source import inspect_clouds
from ebm3d.datasets.kitti_splits import match_ids
from ebm3d.datasets.point_clouds import CLOUD_SUFFIXES, cloud_id, cloud_suffix, read_cloud
from ebm3d.datasets.problems import DataError, Problem, missing_folder
from ebm3d.datasets.results.frames import FrameResults, ResultFile

_REMEDY = "name the folder of the clouds: velodyne_reduced, velodyne, points, samples/LIDAR_TOP"
_ANY = CloudLayout()


class FrameClouds:
    """The clouds of a folder, of one type and layout; what others have differs is refused.

    Args:
        folder: of ``.bin``, ``.pcd.bin``, ``.npy``, ``.ply`` or ``.pcd`` files, with or without
            intensity.
        layout: of ``.bin`` and plain ``.npy`` files; by default that of KITTI (or nuScenes).

    Attributes:
        ids: of the clouds, sorted: their names without suffix.
        warnings: what to know of them: columns left out, no intensity.

    Raises:
        DataError: if there is no cloud, or the first ones look like another layout.
    """

    def __init__(self, folder: str | Path, layout: CloudLayout = _ANY) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError([missing_folder(self.folder, "a folder of clouds", _REMEDY)])
        files = [path.name for path in self.folder.iterdir() if cloud_suffix(path)]
        names = [name for name in files if not name.startswith(".")]  # macOS' ._000000.bin
        self.ids = sorted({cloud_id(name) for name in names})
        if not self.ids:
            got = f"none of {', '.join(CLOUD_SUFFIXES)}"
            raise DataError([Problem(self.folder, None, "clouds", got, _REMEDY)])
        try:
            self._source = inspect_clouds(self.folder, self.ids, layout)
        except DataError as error:
            raise DataError(map(_as_npy, error.problems)) from error
        self.warnings = self._source.warnings
        suffix = self._source.suffix
        self._known = {cloud_id(name) for name in names if cloud_suffix(name) == suffix}

    def __len__(self) -> int:
        """The number of clouds."""
        return len(self.ids)

    def path(self, frame_id: str) -> Path:
        """File of a frame; the frame 3 is the cloud 000003 where that alone exists."""
        if frame_id not in self._known:
            frame_id = match_ids([frame_id], self._known)[0]
        return self._source.path(frame_id)

    def read(self, frame_id: str) -> NDArray[np.float32]:
        """Points x, y, z, intensity (0 without) of a frame, LiDAR frame, ``(P, 4)``.

        Raises:
            DataError: if the cloud is missing or damaged.
        """
        return read_cloud(self.path(frame_id), self._source.layout)

    def differences(self, frame_ids: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the frames without cloud, and the clouds without frame."""
        wanted = list(frame_ids)
        matched = match_ids(wanted, self._known)
        missing = [i for i, name in zip(wanted, matched, strict=True) if name not in self._known]
        return missing, sorted(self._known.difference(matched))

    def check(self, results: ResultFile) -> list[Problem]:
        """Describe clouds without frame, if there are any.

        Raises:
            DataError: naming the frames without cloud.
        """
        missing, unused = self.differences(frame.frame_id for frame in results.frames)
        if missing:
            expected = f"a cloud for each of the {len(results.frames)} frames of {results.path}"
            got = f"none for {_named(missing)}; clouds are {self.ids[0]} to {self.ids[-1]}"
            raise DataError([Problem(self.folder, None, expected, got, _REMEDY)])
        check_one_each(results, self._known)
        if not unused:
            return []
        expected = f"results in {results.path} for each of {len(self)} clouds"
        got, remedy = f"none for {_named(unused)}", "nothing, if they were not asked for"
        return [Problem(self.folder, None, expected, got, remedy)]


class LabelledFrames(Sequence[tuple[FrameResults, NDArray[np.float32]]]):
    """Labels (or results) with their clouds, read when asked for: ``(frame, points (P, 4))``."""

    def __init__(self, labels: ResultFile, clouds: FrameClouds) -> None:
        self.labels, self.clouds = labels, clouds
        self.warnings = [*clouds.warnings, *clouds.check(labels)]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.labels.frames)

    def __getitem__(self, index: int) -> tuple[FrameResults, NDArray[np.float32]]:  # type: ignore[override]
        """A frame and its points."""
        frame = self.labels.frames[index]
        return frame, self.clouds.read(frame.frame_id)


def check_one_each(results: ResultFile, names: Iterable[str]) -> None:
    """Raise if two frames, such as 3 and 000003, stand for one of ``names``."""
    ids = [frame.frame_id for frame in results.frames]
    first: dict[str, str] = {}
    problems = []
    for frame_id, name in zip(ids, match_ids(ids, names), strict=True):
        if first.setdefault(name, frame_id) != frame_id:
            got = f"{first[name]} and {frame_id} for {name}"
            problems.append(Problem(results.path, None, "every frame once", got, "remove one"))
    if problems:
        raise DataError(problems)


def _as_npy(problem: Problem) -> Problem:
    """A problem of a layout, with a remedy that needs no option."""
    if "--cloud-" not in problem.remedy:
        return problem
    remedy = "write .npy files, which know their columns, or .bin files of x, y, z, intensity"
    return replace(problem, remedy=remedy)


def _named(ids: Collection[str]) -> str:
    """The number of frames and the first of them."""
    first = list(ids)[:3]
    return f"{len(ids)} ({', '.join(first)}{', ...' if len(ids) > len(first) else ''})"
