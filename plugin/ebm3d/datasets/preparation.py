"""From a data set in the KITTI layout to the files a training reads, on CPUs alone."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track

from ebm3d.datasets.cloud_layouts import CloudLayout
from ebm3d.datasets.cloud_source import CloudSource, inspect_clouds, intensity_warnings
from ebm3d.datasets.frame_files import (
    FULL_FOLDER,
    LABEL_FOLDERS,
    POINTS_FOLDER,
    REDUCED_FOLDER,
    KittiFrame,
    read_frame,
)
from ebm3d.datasets.kitti_infos import (
    DATABASE_FOLDER,
    database_infos,
    database_paths,
    frame_info,
    info_file,
)
from ebm3d.datasets.kitti_labels import DONT_CARE
from ebm3d.datasets.kitti_splits import read_splits
from ebm3d.datasets.label_checks import check_labels
from ebm3d.datasets.label_table import ClassSummary, LabelTable
from ebm3d.datasets.label_values import missing_classes
from ebm3d.datasets.lidar_labels import ORIGINS
from ebm3d.datasets.outputs import link_inputs, outputs_of, replace_outputs
from ebm3d.datasets.point_clouds import read_standard, write_cloud
from ebm3d.datasets.problems import DataError, Problem, missing_folder
from ebm3d.datasets.processes import map_in_order
from ebm3d.errors import check_count, input_error

_REDUCED_CLOUDS = f"training/{REDUCED_FOLDER}"
_DATABASE_INFOS = "kitti_dbinfos_train.pkl"
_INPUTS = ("ImageSets", "training/calib", "training/image_2", "training/planes")
_NO_CALIBRATION = "--no-calibration if there are no cameras and labels are in the LiDAR frame"


@dataclass(frozen=True)
class PreparationReport:
    """What ``prepare_kitti`` read and wrote.

    ``num_frames`` is by split, the numbers of objects (DontCare among them) are by class;
    ``reduced`` says whether camera-view clouds were made from full scans; ``warnings`` is what may
    be wrong with labels and clouds.
    """

    out: Path
    num_frames: dict[str, int]
    num_objects: dict[str, int]
    num_database_objects: dict[str, int]
    num_empty_frames: int  # without any object but DontCare
    num_default_sizes: int  # frames without an image
    reduced: bool
    lidar_only: bool
    classes: dict[str, ClassSummary]
    warnings: tuple[Problem, ...]
    seconds: float = field(compare=False)


def prepare_kitti(
    root: str | Path,
    *,
    out: str | Path | None = None,
    workers: int = 1,
    progress: bool = False,
    calibration: bool = True,
    box_origin: str = "center",
    unchecked_labels: bool = False,
    cloud_layout: CloudLayout | None = None,
) -> PreparationReport:
    """Check a data set in the KITTI layout and write all that a training reads beside it.

    Read are ``ImageSets/{train,val}.txt`` and, in ``training/``, ``calib``, ``label_2``, the clouds
    (``velodyne_reduced``, or full scans in ``velodyne``), and ``image_2`` (for sizes) and
    ``planes`` where they exist. Clouds are of one type and layout, which the first ones must fit.

    Written are ``kitti_infos_{train,val,trainval}.pkl``, ``kitti_gt_database/`` with
    ``kitti_dbinfos_train.pkl``, and from full scans, or clouds of another layout than KITTI's,
    ``training/velodyne_reduced/``; the bytes do not depend on ``workers``. They are moved into
    place when all are complete: an interrupted run changes nothing, or leaves no infos, so that
    nothing reads outputs of two runs.

    Args:
        root: the data set; may be read-only if ``out`` is another folder.
        out: where the outputs go, with links to the inputs; by default ``root``.
        workers: number of processes.
        progress: whether to show a progress bar on standard error.
        calibration: ``False`` for data without cameras and calibration: labels in the LiDAR frame
            (``ebm3d.datasets.lidar_labels``), in ``training/label_2``, or in ``labels`` beside
            clouds in ``points``; all points are kept.
        box_origin: of these labels, where ``z`` is: "center" or "bottom".
        unchecked_labels: take labels that do not fit the clouds: warnings in place of errors.
        cloud_layout: of the clouds, where they are not those of KITTI; see ``read_cloud``.

    Raises:
        DataError: with every defect of every file of every frame; if the labels do not fit the
            clouds; or if an output's place is taken by a file of other origin.
    """
    check_count("workers", workers)
    if box_origin not in ORIGINS:
        raise input_error("box_origin", " or ".join(map(repr, ORIGINS)), repr(box_origin))
    start = time.perf_counter()
    root = Path(root)
    target = root if out is None else Path(out)
    origin = None if calibration else box_origin
    clouds = _find_clouds(root, calibration)
    labels = clouds.parent / LABEL_FOLDERS[clouds.name]
    splits = read_splits(root / "ImageSets", clouds)
    ids = [frame_id for of_split in splits.values() for frame_id in of_split]
    source = inspect_clouds(clouds, ids, cloud_layout or CloudLayout())
    is_reduced = clouds.name == REDUCED_FOLDER
    writes_clouds = not (is_reduced and source.is_standard)
    if writes_clouds and is_reduced and target.resolve() == root.resolve():
        expected = "standard clouds, which are used where they are"
        remedy = f"rename the folder to {FULL_FOLDER}, or choose another output folder (--out)"
        problem = Problem(clouds, None, expected, source.description, remedy)
        raise DataError([problem])
    outputs = [f"kitti_infos_{split}.pkl" for split in (*splits, "trainval")]
    outputs += [_DATABASE_INFOS, DATABASE_FOLDER, *([_REDUCED_CLOUDS] if writes_clouds else [])]
    with replace_outputs(target, outputs) as folder:
        (folder / DATABASE_FOLDER).mkdir()
        if writes_clouds:
            (folder / _REDUCED_CLOUDS).mkdir(parents=True)
        process = partial(_process_frame, source, origin, folder)
        frames = _process_frames(process, splits, workers, progress)
        written = (folder if writes_clouds else root) / _REDUCED_CLOUDS
        table = LabelTable.of_frames(list(frames.values()))
        errors, warnings = check_labels(
            frames, table, labels, lambda frame_id: read_standard(written / f"{frame_id}.bin")
        )
        if errors and not unchecked_labels:
            raise DataError(errors)
        of_split = {split: [frames[i] for i in ids] for split, ids in splits.items()}
        warnings = [*errors, *warnings, *missing_classes(labels, **of_split)]
        ranges = [frame.intensities for frame in frames.values()]
        warnings += [*source.warnings, *intensity_warnings(clouds, ranges)]
        database = database_infos(of_split["train"])
        for split, ids in {**splits, "trainval": list(frames)}.items():
            infos = info_file([frame_info(frames[i]) for i in ids], lidar_only=not calibration)
            _dump(folder / f"kitti_infos_{split}.pkl", infos)
        _dump(folder / _DATABASE_INFOS, database)
        if target.resolve() != root.resolve():
            inputs = [*_INPUTS, *(str(place.relative_to(root)) for place in (clouds, labels))]
            link_inputs(root, target, [name for name in inputs if name not in outputs])
    names = Counter(name for frame in frames.values() for name in frame.objects.names.tolist())
    return PreparationReport(
        out=target,
        num_frames={split: len(ids) for split, ids in splits.items()},
        num_objects=dict(names.most_common()),
        num_database_objects={name: len(infos) for name, infos in database.items()},
        num_empty_frames=sum(set(f.objects.names) <= {DONT_CARE} for f in frames.values()),
        num_default_sizes=sum(f.image_size is None for f in frames.values()),
        reduced=clouds.name == FULL_FOLDER,
        lidar_only=not calibration,
        classes=table.summaries(),
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
    )


def _find_clouds(root: Path, calibration: bool) -> Path:
    """Folder of the clouds: reduced ones, unless they were made here from full scans."""
    full, reduced = root / "training" / FULL_FOLDER, root / _REDUCED_CLOUDS
    points = root / POINTS_FOLDER
    if full.is_dir() and (not reduced.is_dir() or _REDUCED_CLOUDS in outputs_of(root)):
        clouds = full
    elif points.is_dir() and not calibration:
        clouds = points
    elif reduced.is_dir():
        clouds = reduced
    else:
        remedy = "unpack the clouds there, or name the folder that holds training and ImageSets"
        if points.is_dir():
            remedy = f"give {_NO_CALIBRATION}"
        raise DataError([missing_folder(full, "a folder of clouds", remedy)])
    labels, calib = clouds.parent / LABEL_FOLDERS[clouds.name], clouds.parent / "calib"
    needed = [(labels, "labels", "unpack or link them there")]
    if calibration:
        needed.append((calib, "calibrations", f"unpack them there; or give {_NO_CALIBRATION}"))
    missing = [
        missing_folder(place, f"a folder of {kind}", remedy)
        for place, kind, remedy in needed
        if not place.is_dir()
    ]
    if missing:
        raise DataError(missing)
    return clouds


def _process_frames(
    process: Callable[[tuple[str, bool]], KittiFrame | tuple[Problem, ...]],
    splits: dict[str, list[str]],
    workers: int,
    progress: bool,
) -> dict[str, KittiFrame]:
    """Read all frames, in the order of the splits, and write their clouds; all defects together."""
    tasks = [(frame_id, split == "train") for split, ids in splits.items() for frame_id in ids]
    results = map_in_order(process, tasks, workers, __name__)
    console = Console(stderr=True)
    frames: dict[str, KittiFrame] = {}
    problems: list[Problem] = []
    for result in track(results, "frames", len(tasks), console=console, disable=not progress):
        if isinstance(result, KittiFrame):
            frames[result.frame_id] = result
        else:
            problems += result
    if problems:
        raise DataError(problems)
    return frames


def _process_frame(
    source: CloudSource, origin: str | None, folder: Path, task: tuple[str, bool]
) -> KittiFrame | tuple[Problem, ...]:
    """Read one frame, write its reduced cloud and, for training, its objects; or its defects."""
    frame_id, is_training = task
    try:
        frame, points, inside = read_frame(source, frame_id, origin)
    except DataError as error:
        return error.problems
    if (folder / _REDUCED_CLOUDS).is_dir():
        write_cloud(folder / _REDUCED_CLOUDS / f"{frame_id}.bin", points)
    if is_training:
        for row, path in database_paths(frame):
            object_points = points[inside[row]]
            object_points[:, :3] -= frame.boxes[row, :3]
            write_cloud(folder / path, object_points)
    return frame


def _dump(path: Path, content: object) -> None:
    """Pickle with a fixed protocol."""
    path.write_bytes(pickle.dumps(content, protocol=4))
