"""Ground truth of a split, from tables or infos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebm3d.datasets.nuscenes.poses import headings, rotation_matrices
from ebm3d.datasets.nuscenes.splits import OFFICIAL_SPLITS, SPLITS_FILE, scenes_of_split
from ebm3d.datasets.nuscenes.tables import NuScenesTables, find_tables, read_tables
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.datasets.text import read_lines
from ebm3d.errors import input_error
from ebm3d.evaluation.nuscenes.boxes import GroundTruth, NuScenesBoxes, Racks
from ebm3d.evaluation.nuscenes.infos import read_info_truth
from ebm3d.evaluation.nuscenes.protocol import RACK_CATEGORY

_TABLE = "sample_annotation.json"
_SPLIT_OF_VERSION = {"v1.0-trainval": "val", "v1.0-mini": "mini_val", "v1.0-test": "test"}


def read_ground_truth(
    path: str | Path, version: str | None = None, split: str | None = None
) -> GroundTruth:
    """Read the ground truth of a split: an info file, or tables (:func:`read_table_truth`).

    Raises:
        ValueError: if version or split are unknown, or others than those of the infos.
        DataError: for missing or damaged files, and without annotations.
    """
    path = Path(path)
    if path.is_dir():
        return read_table_truth(path, version, split)
    if path.suffix == ".json":
        remedy = "give the folder that holds the tables"
        raise DataError(
            [Problem(path, None, "a folder of tables or a .pkl of infos", "a .json", remedy)]
        )
    truth = read_info_truth(path)
    for name, asked, held in (("version", version, truth.version), ("split", split, truth.split)):
        if asked is not None and held and asked != held:
            remedy = "leave the option out, or give another info file"
            raise input_error(name, f"{held}, of which {path} holds the infos", asked, remedy)
    return truth


def read_table_truth(
    path: str | Path, version: str | None = None, split: str | None = None
) -> GroundTruth:
    """Read the ground truth of a split from the tables.

    Args:
        path: the data root, or the folder of the tables.
        version: the folder in the root; needed only where there are several.
        split: an official one, one of ``splits.json`` beside the tables, or a text file with a
            scene a line; by default the validation split of the version.

    Raises:
        ValueError: if version or split are unknown.
        DataError: for missing or damaged tables, and without annotations.
    """
    folder = find_tables(Path(path), version)
    if not (folder / _TABLE).is_file():
        remedy = "evaluate on a version with annotations, or submit the results to the leaderboard"
        expected = f"annotations of {folder.name}, which results are evaluated against"
        raise DataError([Problem(folder / _TABLE, None, expected, "no such file", remedy)])
    split = split or _default_split(folder)
    scenes = _scenes(split, folder)
    return tables_truth(read_tables(folder.parent, folder.name), scenes, split)


def _default_split(folder: Path) -> str:
    """The split that results of a version are for if none is named."""
    if folder.name not in _SPLIT_OF_VERSION:
        own = f", or one of {folder / SPLITS_FILE}" if (folder / SPLITS_FILE).is_file() else ""
        expected = f"named for the version {folder.name}"
        raise input_error("split", expected, "none", f"give an official one{own}, or a file")
    return _SPLIT_OF_VERSION[folder.name]


def _scenes(split: str, folder: Path) -> tuple[str, ...]:
    """Names of the scenes of a split, or of a file with one a line."""
    if split in OFFICIAL_SPLITS or not Path(split).is_file():
        return scenes_of_split(split, folder.parent, folder.name)
    remedy = "write one a line, as scene-0103"
    lines = read_lines(Path(split), "names of scenes", remedy)
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise DataError([Problem(Path(split), None, "names of scenes", "none", remedy)])
    return names


def tables_truth(tables: NuScenesTables, scenes: tuple[str, ...], split: str) -> GroundTruth:
    """Select the ground truth of a split from tables.

    Raises:
        ValueError: if scenes of the split are not in the tables.
        DataError: if the tables hold no annotation.
    """
    index = {name: i for i, name in enumerate(tables.scenes)}
    missing = [name for name in scenes if name not in index]
    if missing:
        got = f"{split} with {len(missing)} others of {len(scenes)}, the first {missing[0]}"
        expected = f"of scenes that {tables.version} holds ({len(index)}: {tables.scenes[0]}, ...)"
        remedy = "choose the version and split that belong together (v1.0-mini: mini_val)"
        raise input_error("split", expected, got, remedy)
    samples = np.flatnonzero(np.isin(tables.samples.scenes, [index[name] for name in scenes]))
    place = np.full(len(tables.samples.tokens), -1)
    place[samples] = np.arange(len(samples))
    a = tables.annotations
    if len(a.samples) == 0:
        path = tables.root / tables.version / _TABLE
        remedy = "evaluate on a version with annotations"
        raise DataError([Problem(path, None, "annotations", "an empty table", remedy)])
    inside = place[a.samples] >= 0
    rows = np.flatnonzero(inside & (a.labels >= 0))
    is_rack = np.array([name == RACK_CATEGORY for name in tables.categories])[a.categories]
    racks = np.flatnonzero(inside & is_rack)
    key_frames = tables.samples.sweeps[samples]
    labels = NuScenesBoxes(
        sample=place[a.samples[rows]],
        translation=a.translations[rows],
        size=a.sizes[rows],
        yaw=headings(a.rotations[rows]),
        velocity=a.velocities[rows, :2],
        class_index=a.labels[rows],
        attribute=a.attributes[rows],
        score=np.full(len(rows), np.nan),
        num_points=(a.num_lidar_points + a.num_radar_points)[rows],
    )
    return GroundTruth(
        tokens=tuple(tables.samples.tokens[i] for i in samples.tolist()),
        scene=np.unique(tables.samples.scenes[samples], return_inverse=True)[1],
        ego_translation=tables.sweeps.ego_translations[key_frames],
        labels=labels,
        racks=Racks(
            place[a.samples[racks]],
            a.translations[racks],
            a.sizes[racks],
            rotation_matrices(a.rotations[racks]),
        ),
        version=tables.version,
        split=split,
        follows_samples=split not in OFFICIAL_SPLITS,
    )
