"""The tables of nuScenes: what detection with LiDAR needs of them, read once into arrays.

N samples (key frames), S LiDAR sweeps (key frames among them), A annotations. Rotations are
quaternions (w, x, y, z), lengths meters, timestamps microseconds. Positions of annotations and ego
poses are in the global frame. -1 stands for no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.annotations import LABEL_TABLES, Annotations, read_annotations
from ebm3d.datasets.nuscenes.poses import rotation_matrices
from ebm3d.datasets.nuscenes.records import Rows
from ebm3d.datasets.nuscenes.table_reader import TableReader
from ebm3d.errors import input_error

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CHANNEL = "LIDAR_TOP"
_TABLES = ("scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose")


@dataclass(frozen=True, eq=False)
class Samples:
    """Key frames, in the order of the table.

    Args:
        tokens: of the samples, N.
        timestamps: ``(N,)``.
        scenes: index of the scene, ``(N,)``.
        previous: the sample before in the scene, ``(N,)``.
        next: the sample after, ``(N,)``.
        sweeps: row of the key frame in the sweeps, ``(N,)``.
    """

    tokens: list[str]
    timestamps: IntArray
    scenes: IntArray
    previous: IntArray
    next: IntArray
    sweeps: IntArray


@dataclass(frozen=True, eq=False)
class Sweeps:
    """Sample data of the LiDAR, in the order of the table.

    Args:
        tokens: of the sample data, S.
        samples: nearest sample, ``(S,)``.
        filenames: relative to the root, S.
        timestamps: ``(S,)``.
        is_key_frame: ``(S,)``.
        previous: the sweep before in the scene, ``(S,)``.
        next: the sweep after, ``(S,)``.
        ego_translations: of the car in the global frame, ``(S, 3)``.
        ego_rotations: ``(S, 4)``.
        sensor_translations: of the LiDAR in the car's frame, ``(S, 3)``.
        sensor_rotations: ``(S, 4)``.
    """

    tokens: list[str]
    samples: IntArray
    filenames: list[str]
    timestamps: IntArray
    is_key_frame: NDArray[np.bool_]
    previous: IntArray
    next: IntArray
    ego_translations: FloatArray
    ego_rotations: FloatArray
    sensor_translations: FloatArray
    sensor_rotations: FloatArray

    def ego_to_global(self, rows: IntArray | int) -> FloatArray:
        """Transforms from the car's frame to the global frame, ``(..., 4, 4)``."""
        return _transforms(self.ego_rotations[rows], self.ego_translations[rows])

    def lidar_to_ego(self, rows: IntArray | int) -> FloatArray:
        """Transforms from the LiDAR frame to the car's frame, ``(..., 4, 4)``."""
        return _transforms(self.sensor_rotations[rows], self.sensor_translations[rows])


@dataclass(frozen=True, eq=False)
class NuScenesTables:
    """The tables of one version.

    ``scenes`` are names; ``categories`` and ``instances`` (tokens) are what annotations point to.
    """

    root: Path
    version: str
    scenes: list[str]
    samples: Samples
    sweeps: Sweeps
    annotations: Annotations
    categories: list[str]
    instances: list[str]


def find_tables(path: Path, version: str | None = None) -> Path:
    """Return the folder of the tables of a version, in a data root or the path itself.

    Raises:
        ValueError: if there is none, or several and no version.
    """
    if (path / "scene.json").is_file():
        if version not in (None, path.name):
            raise input_error("version", f"{path.name}, whose tables {path} holds", version)
        return path
    folders = sorted(file.parent for file in path.glob("*/scene.json"))
    names = [folder.name for folder in folders]
    if version is None and len(folders) == 1:
        return folders[0]
    if version not in names:
        got = f"{version!r}" if version else "none"
        held = f"in {path} are tables of {', '.join(names) or 'no version'}"
        raise input_error("version", "a folder with scene.json and the other tables", got, held)
    return path / version


def read_tables(root: str | Path, version: str) -> NuScenesTables:
    """Read the tables in ``ROOT/VERSION`` and check what is used of them.

    Read are scene, sample, sensor, calibrated_sensor, sample_data, ego_pose; attribute, category,
    instance, sample_annotation, which a version that ends with "test" may lack. Records of cameras
    and radars are passed over.

    Raises:
        DataError: with all missing tables, or the defects of tables that belong together: tokens
            that are not in their table or in it twice, numbers that are not finite, sizes that are
            not positive, rotations that are no unit quaternions, samples without one LiDAR key
            frame, labels of a class with more than one attribute or an unknown one, links back in
            time.
    """
    is_test = version.endswith("test")
    reader = TableReader(Path(root) / version, _TABLES if is_test else _TABLES + LABEL_TABLES)
    scenes = reader.read("scene", name=str)
    scene_rows = reader.rows("scene", scenes)
    samples = reader.read_linked("sample", timestamp=int, scene_token=scene_rows.__getitem__)
    reader.check_links("sample", samples, "scene_token")
    sample_rows = reader.rows("sample", samples)
    sweeps = _read_sweeps(reader, sample_rows)
    key_frames = np.flatnonzero(sweeps.is_key_frame)
    counts = np.bincount(sweeps.samples[key_frames] + 1, minlength=len(sample_rows) + 1)[1:]
    reader.check("sample", counts != 1, samples, f"one key frame of {CHANNEL} in sample_data.json")
    sweep_of_sample = np.full(len(sample_rows) + 1, -1)
    sweep_of_sample[sweeps.samples[key_frames]] = key_frames
    categories, instances, annotations = read_annotations(reader, samples["timestamp"], sample_rows)
    reader.stop_at_problems()
    return NuScenesTables(
        root=Path(root),
        version=version,
        scenes=scenes["name"],
        samples=Samples(
            tokens=samples["token"],
            timestamps=samples["timestamp"],
            scenes=samples["scene_token"],
            previous=samples["prev"],
            next=samples["next"],
            sweeps=sweep_of_sample[:-1],
        ),
        sweeps=sweeps,
        annotations=annotations,
        categories=categories,
        instances=instances,
    )


def _read_sweeps(reader: TableReader, sample_rows: Rows) -> Sweeps:
    """Sample data of the LiDAR with its poses."""
    sensors = reader.read("sensor", ("channel", {CHANNEL}))
    calibrations = reader.read(
        "calibrated_sensor", ("sensor_token", {*sensors["token"]}), translation=3, rotation=4
    )
    calibration_rows = reader.rows("calibrated_sensor", calibrations)
    reader.check_poses("calibrated_sensor", calibrations)
    sweeps = reader.read_linked(
        "sample_data",
        ("calibrated_sensor_token", calibration_rows),
        sample_token=sample_rows.__getitem__,
        ego_pose_token=str,
        calibrated_sensor_token=calibration_rows.__getitem__,
        filename=str,
        timestamp=int,
        is_key_frame=int,
    )
    poses = reader.read(
        "ego_pose", ("token", {*sweeps["ego_pose_token"]}), translation=3, rotation=4
    )
    pose_rows = reader.rows("ego_pose", poses)
    reader.check_poses("ego_pose", poses)
    sweeps["ego_pose_token"] = np.array([pose_rows[t] for t in sweeps["ego_pose_token"]], np.int64)
    reader.check_links("sample_data", sweeps, "sample_token", "ego_pose_token")
    times, previous = sweeps["timestamp"], sweeps["prev"]
    bad = (previous >= 0) & (times[previous] >= times)
    reader.check("sample_data", bad, sweeps, f"'prev' of an earlier sweep of {CHANNEL}")
    reader.stop_at_problems()
    pose, calibration = sweeps["ego_pose_token"], sweeps["calibrated_sensor_token"]
    return Sweeps(
        tokens=sweeps["token"],
        samples=sweeps["sample_token"],
        filenames=sweeps["filename"],
        timestamps=sweeps["timestamp"],
        is_key_frame=sweeps["is_key_frame"] != 0,
        previous=sweeps["prev"],
        next=sweeps["next"],
        ego_translations=poses["translation"][pose],
        ego_rotations=poses["rotation"][pose],
        sensor_translations=calibrations["translation"][calibration],
        sensor_rotations=calibrations["rotation"][calibration],
    )


def _transforms(rotations: FloatArray, translations: FloatArray) -> FloatArray:
    """Homogeneous matrices ``(..., 4, 4)``."""
    result = np.zeros((*rotations.shape[:-1], 4, 4))
    result[..., :3, :3] = rotation_matrices(rotations)
    result[..., :3, 3] = translations
    result[..., 3, 3] = 1
    return result
