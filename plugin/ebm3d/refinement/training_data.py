"""Labelled clouds for the training of an energy: read or simulated, and the tables of classes.

P points; N boxes of a frame; C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.processes import map_in_order
from ebm3d.datasets.results import FrameResults, ResultFile
from ebm3d.datasets.results.frames import mapped
from ebm3d.errors import input_error
from ebm3d.noise import fit_noise_stds
from ebm3d.refinement.detections import class_labels, true_boxes_of
from ebm3d.refinement.points_energy import Row
from ebm3d.refinement.training import TrainingFrame
from ebm3d.simulation import simulate_frame
from ebm3d.simulation.dataset import frame_seed

MIN_POINTS = 5  # of a label to be trained on
MIN_BOXES = 50  # of a class to be trained on, unless it is asked for
_MIN_PAIRS = 50  # of a class, to fit its noise

# Standard deviations of a detector's errors, by length of the class (m): those of ebm3d's heads.
_NOISE: tuple[tuple[float, Row], ...] = (
    (1.3, (0.10, 0.10, 0.08, 0.12, 0.10, 0.06, 0.15)),
    (3.0, (0.14, 0.10, 0.08, 0.08, 0.12, 0.06, 0.10)),
    (np.inf, (0.25, 0.10, 0.12, 0.10, 0.065, 0.08, 0.08)),
)

LabelledCloud = tuple[FrameResults, NDArray[np.float32]]


@dataclass
class TrainingData:
    """Frames to train on and held-out ones, with counts by class of what is in both.

    Attributes:
        class_names: C.
        mean_sizes: length, width, height (m) by class.
        train: frames.
        held_out: frames to choose the checkpoint by.
        frame_ids: of all: held-out ones choose the checkpoint.
        num_boxes: by class, in ``train`` and ``held_out``.
        num_sparse: labels left out for fewer than ``MIN_POINTS`` points.
        others: labels of other classes.
    """

    class_names: tuple[str, ...]
    mean_sizes: tuple[Row, ...] = ()
    train: list[TrainingFrame] = field(default_factory=list)
    held_out: list[TrainingFrame] = field(default_factory=list)
    frame_ids: list[str] = field(default_factory=list)
    num_boxes: dict[str, tuple[int, int]] = field(default_factory=dict)
    num_sparse: int = 0
    others: Counter[str] = field(default_factory=Counter)


def choose_classes(labels: Iterable[FrameResults]) -> tuple[str, ...]:
    """Return the classes with ``MIN_BOXES`` labels or more, the most frequent first.

    Raises:
        ValueError: if there is none.
    """
    counts = Counter(name for frame in labels for name in frame.names.tolist())
    chosen = tuple(name for name, number in counts.most_common() if number >= MIN_BOXES)
    if not chosen:
        got = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "none"
        raise input_error("labels", f"{MIN_BOXES} or more of a class", got, "name it by --classes")
    return chosen


def gather(
    frames: Iterable[LabelledCloud],
    class_names: Sequence[str],
    held_out: set[str],
    mean_sizes: Sequence[Row] | None = None,
) -> TrainingData:
    """Bring labelled clouds into the form of a training.

    Args:
        frames: labels and their points.
        class_names: of the energy to train.
        held_out: ids of the frames that are not trained on.
        mean_sizes: of an energy that the training goes on from, whose classes need no labels.

    Raises:
        ValueError: if a class, or all that an energy knows, has no label to train on.
    """
    data = TrainingData(tuple(class_names))
    sizes: list[list[NDArray[np.float64]]] = [[] for _ in class_names]
    counts = np.zeros((2, len(class_names)), dtype=np.int64)
    for frame, points in frames:
        labels = class_labels(frame.names, class_names)
        data.others.update(frame.names[labels < 0].tolist())
        num_points = points_in_boxes(points, frame.boxes[:, :7]).sum(axis=0)
        kept = (labels >= 0) & (num_points >= MIN_POINTS)
        data.num_sparse += int(((labels >= 0) & ~kept).sum())
        boxes, labels = frame.boxes[kept, :7], labels[kept]
        for label, box in zip(labels.tolist(), boxes, strict=True):
            sizes[label].append(box[3:6])
        is_held_out = frame.frame_id in held_out
        counts[int(is_held_out)] += np.bincount(labels, minlength=len(class_names))
        part = data.held_out if is_held_out else data.train
        part.append(
            TrainingFrame(
                torch.from_numpy(points),
                torch.from_numpy(boxes.astype(np.float32)),
                torch.from_numpy(labels),
            )
        )
        data.frame_ids.append(frame.frame_id)
    needed = class_names if mean_sizes is None or not counts[0].any() else ()
    for name, (trained, _) in zip(class_names, counts.T.tolist(), strict=True):
        if name in needed and not trained:
            got = f"none of {sum(data.others.values()) + int(counts.sum())}"
            remedy = "leave it out of --classes, or give --map with its name in the labels"
            raise input_error(f"labels of {name}", f"with {MIN_POINTS} points", got, remedy)
    data.num_boxes = {n: (a, b) for n, (a, b) in zip(class_names, counts.T.tolist(), strict=True)}
    if mean_sizes is None:
        mean_sizes = [tuple(np.mean(rows, axis=0).tolist()) for rows in sizes]
    data.mean_sizes = tuple(mean_sizes)
    return data


def simulated_frames(num_frames: int, seed: int, workers: int) -> Iterable[LabelledCloud]:
    """Yield simulated frames; each depends on the seed and its place alone."""
    job = partial(_simulate, seed)
    return map_in_order(job, range(num_frames), workers, "ebm3d.refinement.training_data")


def with_names(frames: Iterable[LabelledCloud], name_map: Mapping[str, str]) -> list[LabelledCloud]:
    """Return frames with their classes renamed."""
    return [
        (replace(frame, names=mapped(frame.names.tolist(), name_map)), points)
        for frame, points in frames
    ]


def noise_stds(
    class_names: Sequence[str],
    mean_sizes: Sequence[Row],
    detections: ResultFile | None = None,
    labels: Mapping[str, FrameResults] | None = None,
) -> tuple[tuple[Row, ...], list[str]]:
    """Return standard deviations of the noise by class, and where each row is from.

    Fitted to the errors of detections of the labelled frames where a class has enough of them, else
    from a table by length of the class.
    """
    rows, origins = [], []
    pairs: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    if detections is not None and labels is not None:
        frames = [frame for frame in detections.frames if frame.frame_id in labels]
        own = [labels[frame.frame_id] for frame in frames]
        true = np.concatenate([np.zeros((0, 7)), *true_boxes_of(frames, own)])
        boxes = np.concatenate([np.zeros((0, 7)), *(frame.boxes[:, :7] for frame in frames)])
        names = np.concatenate([np.zeros(0, "<U1"), *(frame.names for frame in frames)])
        matched = ~np.isnan(true[:, 0])
        for name in class_names:
            of_class = matched & (names == name)
            pairs[name] = true[of_class], boxes[of_class]
    for name, size in zip(class_names, mean_sizes, strict=True):
        found = pairs.get(name)
        if found is not None and len(found[0]) >= _MIN_PAIRS:
            stds = fit_noise_stds(*map(torch.from_numpy, found))
            rows.append(tuple(round(value, 4) for value in stds.tolist()))
            origins.append(f"errors of {len(found[0])} detections")
        else:
            rows.append(next(row for longest, row in _NOISE if size[0] <= longest))
            origins.append("table by size")
    return tuple(rows), origins


def _simulate(seed: int, index: int) -> LabelledCloud:
    """One frame."""
    frame = simulate_frame(frame_seed(seed, 0, index))
    scores = np.full(len(frame.names), np.nan)
    return FrameResults(f"{index:06d}", frame.boxes, frame.names, scores), frame.points
