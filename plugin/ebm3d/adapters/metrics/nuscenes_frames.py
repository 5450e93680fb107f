"""Frames of an info file of nuScenes. S frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import load

from ebm3d.adapters.metrics.kitti_conversion import frame_id_of
from ebm3d.datasets.nuscenes.tables import read_tables
from ebm3d.errors import input_error
from ebm3d.evaluation.nuscenes.boxes import FloatArray, GroundTruth, IntArray, Racks
from ebm3d.evaluation.nuscenes.ground_truth import tables_truth
from ebm3d.evaluation.nuscenes.infos import info_truth, named_defects


@dataclass(frozen=True, eq=False)
class NuScenesFrames:
    """What the metric needs of an info file.

    Args:
        ann_file: the file.
        tokens: of the samples, S.
        rows: by frame id, the stem of the cloud's name.
        transforms: LiDAR to global frame, ``(S, 4, 4)``.
        truth: of all frames; ``None`` without labels.
    """

    ann_file: str
    tokens: tuple[str, ...]
    rows: Mapping[str, int]
    transforms: FloatArray
    truth: GroundTruth | None

    def frame_id(self, path: str) -> str:
        """Return the frame id of a cloud.

        Raises:
            ValueError: if no frame has a cloud of this name.
        """
        frame_id = frame_id_of(path)
        if frame_id not in self.rows:
            remedy = "give the metric the ann_file of the data set that is evaluated"
            raise input_error("frames", f"among those of {self.ann_file}", repr(frame_id), remedy)
        return frame_id


def read_frames(
    ann_file: str, data_root: Path, backend_args: dict[str, Any] | None
) -> NuScenesFrames:
    """Read an info file, and the tables where it lacks what the protocol needs and they are there.

    Raises:
        ValueError: if clouds of several frames have one name.
        DataError: for a file or tables that are damaged.
    """
    with named_defects(Path(ann_file)):
        content = load(ann_file, backend_args=backend_args)
        infos = content["data_list"]
        names = [frame_id_of(info["lidar_points"]["lidar_path"]) for info in infos]
        tokens = tuple(info["token"] for info in infos)
        shape = (len(infos), 4, 4)
        ego_to_global = np.reshape([info["ego2global"] for info in infos], shape)
        lidar_to_ego = np.reshape([i["lidar_points"]["lidar2ego"] for i in infos], shape)
        truth = None
        if any(info.get("instances") for info in infos):
            truth = info_truth(content["metainfo"], infos)
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        got = f"{len(names)} clouds of {len(rows)} names, {twice!r} more than once"
        remedy = "frames are identified by the name of their cloud: rename the clouds"
        raise input_error(f"clouds of {ann_file}", "named differently", got, remedy)
    if truth is not None and truth.notes:
        version = truth.version
        if version and (data_root / version / "scene.json").is_file():
            truth = _table_truth(data_root, version, tokens, truth.split)
    return NuScenesFrames(ann_file, tokens, rows, ego_to_global @ lidar_to_ego, truth)


def select_samples(truth: GroundTruth, chosen: IntArray) -> GroundTruth:
    """Return the ground truth of some samples, in the order of ``chosen``."""
    place = np.full(len(truth.tokens), -1)
    place[chosen] = np.arange(len(chosen))
    labels = replace(truth.labels, sample=place[truth.labels.sample])
    racks = replace(truth.racks, sample=place[truth.racks.sample])
    return replace(
        truth,
        tokens=tuple(truth.tokens[row] for row in chosen.tolist()),
        scene=np.unique(truth.scene[chosen], return_inverse=True)[1],
        ego_translation=truth.ego_translation[chosen],
        labels=labels.select(labels.sample >= 0),
        racks=Racks(*(column[racks.sample >= 0] for column in vars(racks).values())),
    )


def _table_truth(data_root: Path, version: str, tokens: tuple[str, ...], split: str) -> GroundTruth:
    """Ground truth of the samples of an info file, from the tables.

    Raises:
        ValueError: if samples of the file are not in the tables.
    """
    tables = read_tables(data_root, version)
    truth = tables_truth(tables, tuple(tables.scenes), split)
    index = {token: row for row, token in enumerate(truth.tokens)}
    missing = [token for token in tokens if token not in index]
    if missing:
        got = f"{len(missing)} others, the first {missing[0]}"
        remedy = "give the metric the data_root that the info file was made from"
        raise input_error("samples", f"among those of {data_root / version}", got, remedy)
    return select_samples(truth, np.array([index[token] for token in tokens], dtype=np.int64))
