"""The clouds of a data set: one type of file and one layout, which the first of them must fit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ebm3d.datasets.cloud_layouts import (
    KITTI_LAYOUT,
    STANDARD,
    CloudLayout,
    column_names,
    find_doubt,
)
from ebm3d.datasets.point_clouds import (
    CLOUD_SUFFIXES,
    intensity_problem,
    read_table,
    resolve_layout,
)
from ebm3d.datasets.problems import DataError, Problem

_NUM_INSPECTED = 5


@dataclass(frozen=True)
class CloudSource:
    """The clouds of a data set: where they are, how to read them, and what to know of them."""

    folder: Path
    suffix: str = ".bin"
    layout: CloudLayout = KITTI_LAYOUT
    warnings: tuple[Problem, ...] = ()

    def path(self, frame_id: str) -> Path:
        """File of one frame."""
        return self.folder / f"{frame_id}{self.suffix}"

    @property
    def description(self) -> str:
        """Type and columns of the files."""
        columns = ", ".join(self.layout.columns)
        most = self.layout.max_intensity
        scale = f", intensities to {most:g}" if most != 1 else ""
        return f"{self.suffix} files of {self.layout.brief} ({columns}){scale}"

    @property
    def is_standard(self) -> bool:
        """Whether a training reads the files as they are."""
        return self.suffix == ".bin" and self.layout == KITTI_LAYOUT


def inspect_clouds(folder: Path, frame_ids: Sequence[str], layout: CloudLayout) -> CloudSource:
    """Find type and layout of the clouds of some frames.

    Args:
        folder: of the clouds.
        frame_ids: some of the first are looked at; what is missing is left to their reader.
        layout: what was asked for.

    Raises:
        DataError: once, if the folder has no file of these frames, or the first clouds look like
            another layout.
    """
    there = {path.name.partition(".")[0] for path in folder.iterdir()}
    if there.isdisjoint(frame_ids):
        got = f"none of {len(frame_ids)} (first {frame_ids[0]})"
        got += f", but {min(there)} to {max(there)}" if there else ", nor any other file"
        remedy = "list the frames by the names of their files, or unpack their clouds there"
        raise DataError([Problem(folder, None, "clouds of the listed frames", got, remedy)])
    first = frame_ids[:_NUM_INSPECTED]
    suffixes = (
        s for s in (".bin", *CLOUD_SUFFIXES) if any((folder / f"{i}{s}").is_file() for i in first)
    )
    suffix = next(suffixes, ".bin")
    files = [path for i in first if (path := folder / f"{i}{suffix}").is_file()]
    found, is_asked = resolve_layout(suffix, layout)
    warnings = []
    if not files:
        return CloudSource(folder, suffix, found)
    if suffix.endswith(".bin"):
        contents = [content for path in files if (content := path.read_bytes())]
        whole = [c for c in contents if len(c) % found.point_bytes == 0] or contents[:1]
        doubt = find_doubt(b"".join(whole), found, is_asked) if whole else None
        if doubt is not None:
            expected = f"clouds of {found.brief} ({', '.join(found.columns)})"
            raise DataError([Problem(folder, None, expected, *doubt)])
    else:
        try:
            table, found = read_table(files[0], layout)
        except DataError:
            return CloudSource(folder, suffix, found)
        missing = int(np.isnan(table).any(axis=1).sum())
        if missing:
            got = f"{missing} of {len(table)} of NaN, no returns, which are left out"
            remedy = "nothing, if the sensor's driver writes them"
            warnings.append(Problem(files[0], None, "points of finite numbers", got, remedy))
    source = CloudSource(folder, suffix, found)
    left_out = [name for name in found.columns if name not in STANDARD]
    expected, given = ", ".join(STANDARD), source.description
    if left_out:
        got, remedy = f"{given}: {', '.join(left_out)} left out", "nothing, if the names are right"
        warnings.append(Problem(folder, None, expected, got, remedy))
    if "intensity" not in found.columns:
        got, remedy = f"{given}: intensity is 0 throughout", "name its column, if there is one"
        warnings.append(Problem(folder, None, expected, got, remedy))
    return replace(source, warnings=tuple(warnings))


def intensity_warnings(folder: Path, ranges: Sequence[tuple[float, float]]) -> list[Problem]:
    """What to know of the smallest and largest intensities of all clouds."""
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    problem = intensity_problem(folder, low, high)
    if problem is None:
        return []
    count = sum(intensity_problem(folder, *r) is not None for r in ranges)
    return [replace(problem, got=f"{problem.got} in {count} of {len(ranges)} clouds")]


def add_cloud_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`cloud_layout` to a command."""
    add = parser.add_argument
    add("--cloud-columns", metavar="N|NAMES", help="of .bin clouds: 5, or x,y,z,intensity,ring")
    add("--cloud-dtype", default="float32", help="of .bin clouds: float32 (default) or float64")
    add("--max-intensity", type=float, default=1.0, help="divide intensities by it, such as 255")


def cloud_layout(options: argparse.Namespace) -> CloudLayout:
    """The layout that a command's options ask for."""
    columns = column_names(options.cloud_columns) if options.cloud_columns else ()
    return CloudLayout(columns, options.cloud_dtype, options.max_intensity)
