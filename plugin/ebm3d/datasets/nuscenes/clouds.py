"""Clouds of key frames and sweeps: files of float32 x, y, z, intensity, ring."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.cloud_layouts import CloudLayout
from ebm3d.datasets.point_clouds import read_cloud
from ebm3d.datasets.problems import DataError, Problem

KEY_FRAMES, SWEEPS = "samples/LIDAR_TOP", "sweeps/LIDAR_TOP"
_LAYOUT = CloudLayout(("x", "y", "z", "intensity", "ring"))
_MAX_READ = 40  # clouds whose values are looked at
_SIZE = f"a positive multiple of {_LAYOUT.point_bytes} bytes (5 float32 per point)"
_CLOSE = 1.0  # meters, of returns from the car itself in the host's pipeline


def check_clouds(root: Path, names: Iterable[str]) -> None:
    """Check that clouds are there, of whole points, and some of them by their values.

    Args:
        root: of the data set.
        names: files relative to it.

    Raises:
        DataError: with every defect of every file.
    """
    names = list(names)
    problems = [problem for name in names if (problem := _problem(root, name)) is not None]
    if not problems:
        for name in names[:: -(-len(names) // _MAX_READ) or 1]:
            try:
                read_cloud(root / name, _LAYOUT)
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(problems)


def read_sweep(path: Path) -> NDArray[np.float32]:
    """All points of a cloud, ``(P, 5)``.

    Raises:
        DataError: if the file is missing, of no whole points, or not finite.
    """
    size = path.stat().st_size if path.is_file() else 0
    points = np.fromfile(path, "<f4") if size and size % _LAYOUT.point_bytes == 0 else None
    if points is None or not np.isfinite(points).all():
        read_cloud(path, _LAYOUT)  # says what is wrong
    assert points is not None
    return points.reshape(-1, len(_LAYOUT.columns))


def without_close(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points beyond 1 m along x or y, as the host's ``remove_close``."""
    x, y = np.abs(points[:, :2].T)
    return points[(x >= _CLOSE) | (y >= _CLOSE)]


def _problem(root: Path, name: str) -> Problem | None:
    """What is wrong with a file by its name and size."""
    path = root / name
    folder, _, file = name.rpartition("/")
    if folder not in (KEY_FRAMES, SWEEPS) or (folder == SWEEPS and "samples" in file):
        expected = f"clouds in {KEY_FRAMES} or {SWEEPS}, whose names have no 'samples'"
        remedy = "move them there, and correct 'filename' in sample_data.json"
        return Problem(path, None, expected, f"filename {name!r}", remedy)
    try:
        size = path.stat().st_size
    except OSError:
        remedy = f"unpack its blob into {root}, or leave its scene out with --splits FILE"
        return Problem(path, None, "a cloud", "no such file", remedy)
    if size and size % _LAYOUT.point_bytes == 0:
        return None
    got = f"{size:,} bytes" + (", cut off within a point" if size else "")
    return Problem(path, None, _SIZE, got, "unpack its blob again: the download may be cut off")
