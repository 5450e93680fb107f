"""Point clouds: read from the usual files, written in the KITTI layout, cut to a camera's view.

The KITTI layout is float32 (x, y, z, intensity), point after point, in a ``.bin`` file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.atomic import write_into_set
from ebm3d.datasets.cloud_files import PARSERS
from ebm3d.datasets.cloud_layouts import (
    MAX_RANGE,
    METERS,
    STANDARD,
    CloudLayout,
    column_names,
    find_doubt,
    is_far,
)
from ebm3d.datasets.kitti_calibration import KittiCalibration
from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.errors import shape_error

NUM_FEATURES = len(STANDARD)
CLOUD_SUFFIXES = (".pcd.bin", ".bin", ".npy", ".pcd", ".ply")
_NUSCENES = ("x", "y", "z", "intensity", "ring")  # of .pcd.bin
_ANY = CloudLayout()
_RESTORE = "copy the file from the data set again"


def cloud_suffix(path: str | Path) -> str | None:
    """The one of ``CLOUD_SUFFIXES`` that a file's name ends with, or None."""
    name = str(path).lower()
    return next((suffix for suffix in CLOUD_SUFFIXES if name.endswith(suffix)), None)


def cloud_id(name: str) -> str:
    """Frame id of a cloud: its file's name without one of ``CLOUD_SUFFIXES``."""
    name = Path(name).name
    return name[: len(name) - len(cloud_suffix(name) or "")]


def read_cloud(path: str | Path, layout: CloudLayout = _ANY) -> NDArray[np.float32]:
    """Read x, y, z in meters, LiDAR frame, and intensity of a cloud, ``(P, 4)``, P > 0.

    Intensity is 0 where the file has none; further columns are left out. ``.npy``, ``.ply`` and
    ``.pcd`` files know their types, all but plain ``.npy`` their columns. Points of ``.ply`` and
    ``.pcd`` files with NaN coordinates, which stand for no return, are left out.

    Args:
        path: a ``.bin``, ``.pcd.bin`` (nuScenes), ``.npy``, ``.ply`` or ``.pcd`` file.
        layout: of ``.bin`` and plain ``.npy`` files; by default that of KITTI, of ``.pcd.bin`` that
            of nuScenes. Its ``max_intensity`` holds for all.

    Raises:
        DataError: if the file is missing, empty, cut off, of another layout, or holds a value that
            is not finite, or coordinates beyond 1,000 m.
    """
    path = Path(path)
    table, layout = read_table(path, layout)
    with np.errstate(over="ignore", invalid="ignore"):
        points = layout.select(table)
    if cloud_suffix(path) in (".pcd", ".ply"):
        points = points[~np.isnan(points[:, :3]).any(axis=1)]
    _check(path, points, layout)
    return points


def read_standard(path: str | Path) -> NDArray[np.float32]:
    """Read what :func:`write_cloud` wrote, ``(P, 4)``, unchecked."""
    return np.fromfile(path, dtype="<f4").reshape(-1, NUM_FEATURES)


def read_table(path: Path, layout: CloudLayout) -> tuple[NDArray[Any], CloudLayout]:
    """Read all columns of a cloud, ``(P, C)``, and what they are; see :func:`read_cloud`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError([unreadable(path, "a point cloud", error, _RESTORE)]) from error
    suffix = cloud_suffix(path)
    if suffix is None:
        expected = f"a cloud: {', '.join(CLOUD_SUFFIXES)}"
        got = f"a file named {path.name}"
        raise DataError([Problem(path, None, expected, got, "convert or rename it")])
    if suffix in PARSERS:
        return _parse(path, content, suffix, layout)
    layout, is_asked = resolve_layout(suffix, layout)
    return _split(path, content, layout, is_asked), layout


def resolve_layout(suffix: str, layout: CloudLayout) -> tuple[CloudLayout, bool]:
    """The layout of files of one type, and whether it was asked for or is the type's."""
    if layout.columns or suffix in PARSERS:
        return layout, True
    is_nuscenes = suffix == ".pcd.bin"
    return replace(layout, columns=_NUSCENES if is_nuscenes else STANDARD), is_nuscenes


def write_cloud(
    path: str | Path, points: NDArray[np.float32], num_columns: int = NUM_FEATURES
) -> None:
    """Write points ``(P, 4)``, and zeros for further columns, to a file in a folder that exists."""
    if points.ndim != 2 or points.shape[1] != NUM_FEATURES:
        raise shape_error("points", "(P, 4) with columns (x, y, z, intensity)", points)
    table = np.zeros((len(points), num_columns), dtype="<f4")
    table[:, :NUM_FEATURES] = points
    write_into_set(path, table.tobytes())


def intensity_problem(path: Path, low: float, high: float) -> Problem | None:
    """What to know of intensities from ``low`` to ``high``, or None if they lie in [0, 1]."""
    if low >= 0 and high <= 1:
        return None
    most = next((most for most in (1.0, 255.0, 65535.0) if high <= most), high)
    remedy = f"give max_intensity={most:g} (--max-intensity {most:g}), or the sensor's largest"
    if low < 0:
        remedy = "bring them there"
    expected = "intensities from 0 to 1, as trained detectors expect"
    return Problem(path, None, expected, f"{low:.4g} to {high:.4g}", remedy)


def in_camera_view(
    points: NDArray[np.float32], calibration: KittiCalibration, width: int, height: int
) -> NDArray[np.bool_]:
    """Return which points ``(P, >= 3)``, LiDAR frame, lie in the image of camera 2, ``(P,)``."""
    rows = calibration.lidar_to_image_matrix
    x, y, z = points[:, :3].T.astype(np.float64)
    u, v, depth = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in rows)
    # u and v are pixels times depth: no division, and no point behind the camera passes.
    seen: NDArray[np.bool_] = (u >= 0) & (u < width * depth) & (v >= 0) & (v < height * depth)
    return seen


def _split(path: Path, content: bytes, layout: CloudLayout, is_asked: bool) -> NDArray[Any]:
    """The columns of a ``.bin`` file, ``(P, C)``."""
    doubt = find_doubt(content, layout, is_asked) if content else None
    if doubt is not None:
        expected = f"{layout.brief} ({', '.join(layout.columns)})"
        raise DataError([Problem(path, None, expected, *doubt)])
    size = layout.point_bytes
    if not content or len(content) % size:
        each = f"{len(layout.columns)} {layout.dtype} per point"
        got = f"{len(content)} bytes" + (", cut off within a point" if content else "")
        expected = f"a positive multiple of {size} bytes ({each})"
        raise DataError([Problem(path, None, expected, got, _RESTORE)])
    number = "<f4" if layout.dtype == "float32" else "<f8"
    return np.frombuffer(content, dtype=number).reshape(-1, len(layout.columns))


def _parse(
    path: Path, content: bytes, suffix: str, layout: CloudLayout
) -> tuple[NDArray[Any], CloudLayout]:
    """Columns ``(P, C)`` of a file that knows its types, and what they are."""
    problem = partial(Problem, path, None, f"a {suffix} cloud")
    try:
        data = PARSERS[suffix](content)
    except ImportError as error:
        raise DataError([problem(str(error), "pip install plyfile")]) from error
    except Exception as error:  # of any kind: the parsers meet any bytes
        raise DataError([problem(str(error), _RESTORE)]) from error
    if data.dtype.names is not None:
        names = [name for name in data.dtype.names if data.dtype[name].kind in "fiu"]
        table = np.stack([data[name].ravel() for name in names] or [np.zeros(0)], axis=-1)
        try:
            columns = replace(layout, columns=tuple(names)).columns
        except ValueError:
            got = f"fields {', '.join(data.dtype.names)}"
            raise DataError([problem(got, "name the columns x, y, z, intensity")]) from None
        if ("intensity" in layout.columns) > ("intensity" in columns):
            got = f"fields {', '.join(columns)}, and no intensity as in others"
            raise DataError([problem(got, "bring all clouds to the same fields")])
        return table, replace(layout, columns=columns)
    if data.ndim != 2 or data.dtype.kind not in "fiu" or not 3 <= data.shape[1] <= 64:
        got = f"an array of shape {data.shape} and type {data.dtype}"
        raise DataError([problem(got, "store an array (P, C), with columns x, y, z, intensity")])
    if not layout.columns:
        layout = replace(layout, columns=column_names(str(data.shape[1])))
    if len(layout.columns) != data.shape[1]:
        got = f"{data.shape[1]} columns where {len(layout.columns)} are asked for"
        raise DataError([problem(got, f"give columns={data.shape[1]} or their names")])
    return data, layout


def _check(path: Path, points: NDArray[np.float32], layout: CloudLayout) -> None:
    """Raise if there are no points, or their values cannot be."""
    if not len(points):
        raise DataError([Problem(path, None, "points", "none", _RESTORE)])
    finite = np.isfinite(points)
    if not finite.all():
        first, column = np.argwhere(~finite)[0]
        count = int((~finite).any(axis=1).sum())
        got = f"{points[first, column]} as {STANDARD[column]} of point {first}"
        got += f" ({count} of {len(points)} points are not finite)"
        remedy = f"{_RESTORE}, or remove these points from it"
        raise DataError([Problem(path, None, "finite values", got, remedy)])
    if not path.name.endswith(".bin") and is_far(points):
        expected = f"coordinates up to {MAX_RANGE:,.0f} m from the sensor"
        got = f"up to {np.abs(points[:, :3]).max():.6g}"
        raise DataError([Problem(path, None, expected, got, METERS)])
    if layout.max_intensity != 1 and points[:, 3].max() > 1:
        got = f"{points[:, 3].max() * layout.max_intensity:g}"
        expected = f"intensities up to max_intensity = {layout.max_intensity:g}"
        raise DataError([Problem(path, None, expected, got, "give the largest of the sensor")])
