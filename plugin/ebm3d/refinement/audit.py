"""Labels that are unlikely: the density of an energy at each label, and its best box near it.

N labels of all frames; C classes; S boxes around a label.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.results import FrameResults
from ebm3d.refinement.detections import class_labels
from ebm3d.refinement.points_energy import PointsEnergy, Row
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, RefinedFrame
from ebm3d.refinement.training_data import MIN_POINTS
from ebm3d.refinement.trust import BandTrust, Trust

FloatArray = NDArray[np.float64]
LabelledFrame = tuple[FrameResults, NDArray[np.float32]]
EnergyOfFold = Callable[[int], PointsEnergy]

# Errors that are looked for, standard deviations along, across, up (m), of length, width, height
# (log ratio), yaw (rad).
ERROR_STD: Row = (0.35, 0.30, 0.15, 0.15, 0.15, 0.12, 0.17)
_TEMPERATURE = 2.0  # of f in the unlikeliness
_NUM_SAMPLES = 512
_NUM_STEPS = 15
_LEAST_LABELS = 20  # of a class, below which no systematic difference is subtracted


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """What is known of each label after an audit.

    Attributes:
        frame_ids: of the N labels, ``(N,)``.
        rows: place of the label in its frame, ``(N,)``.
        names: class names, ``(N,)``.
        labels: ``(N, 7)``, LiDAR frame, z at the bottom.
        proposals: ``(N, 7)`` the most likely boxes near them, less what is systematic; as the
            labels where these are not judged.
        std: ``(N, 7)`` standard deviations of x, y, z, sizes (m), yaw (rad) of the proposals; NaN
            where not judged.
        unlikeliness: ``(N,)`` u of :func:`audit_labels` less its median, in (robust) standard
            deviations, of the labels of the class (of all labels, where it has fewer than 20); NaN
            where not judged.
        num_points: ``(N,)`` in the label.
        shifts: by class, ``(7,)`` median difference of labels from the maxima of f, along, across,
            up (m), sizes (log ratio), yaw (rad), which was subtracted.
        min_points: labels of fewer points are not judged.
    """

    frame_ids: NDArray[np.str_]
    rows: NDArray[np.int64]
    names: NDArray[np.str_]
    labels: FloatArray
    proposals: FloatArray
    std: FloatArray
    unlikeliness: FloatArray
    num_points: NDArray[np.int64]
    shifts: Mapping[str, FloatArray]
    min_points: int = MIN_POINTS

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """``(N,)``."""
        return np.isfinite(self.unlikeliness)

    def order(self) -> NDArray[np.int64]:
        """Labels from the least likely one on; those that are not judged come last."""
        return np.argsort(-np.nan_to_num(self.unlikeliness, nan=-np.inf), kind="stable")

    def reason(self, label: int) -> str:
        """Why a label is not judged; empty if it is."""
        if self.is_judged[label]:
            return ""
        number = self.num_points[label]
        if number < self.min_points:
            return f"{number} point{'s' if number != 1 else ''}, fewer than {self.min_points}"
        return "no energy for its class"


def audit_labels(
    frames: Sequence[LabelledFrame],
    energy: PointsEnergy | EnergyOfFold,
    folds: NDArray[np.int64] | None = None,
    min_points: int = MIN_POINTS,
) -> LabelAudit:
    r"""Judge labels by an energy, or by one for each fold that has not seen its frames.

    A label y is as unlikely as boxes around it, with errors e of labels, are likely in its place:

    .. math:: u(y) = \log \mathrm{E}_e \exp\frac{f(y \oplus e - b)}{\tau} - \frac{f(y - b)}{\tau}

    where b is what labels of the class have in common against the maxima of f, a convention of the
    data set and no error of a label. The proposal is the maximum of f and the density of e, plus b;
    the curvature there is its uncertainty.

    Args:
        frames: labels with their points ``(P, 4)``.
        energy: one for all frames, or a function of the fold.
        folds: of the frames, ``(len(frames),)``; with a function.
        min_points: labels of fewer points are not judged.
    """
    folds = np.zeros(len(frames), dtype=np.int64) if folds is None else folds
    energies: dict[int, PointsEnergy] = {}
    parts: dict[int, tuple[FrameResults, RefinedFrame]] = {}
    for fold in np.unique(folds).tolist():
        energies[fold] = energy if isinstance(energy, PointsEnergy) else energy(fold)
        rows = np.flatnonzero(folds == fold).tolist()
        climbed = _climb(energies[fold], (frames[row] for row in rows), min_points)
        parts.update(zip(rows, climbed, strict=True))
    labels, results = zip(*(parts[row] for row in range(len(frames))), strict=True)
    names = np.concatenate([frame.names for frame in labels])
    boxes = np.concatenate([frame.boxes[:, :7] for frame in labels])
    proposals, shift, shifts = _proposals(boxes, results, names)
    starts = np.cumsum([0, *map(len, labels)])
    unlikeliness, num_points = np.full(len(boxes), np.nan), np.zeros(len(boxes), dtype=np.int64)
    for row, fold in enumerate(folds.tolist()):
        rows = slice(starts[row], starts[row + 1])
        detected, num_points[rows] = _labels_to_judge(energies[fold], *frames[row], min_points)
        unlikeliness[rows] = _unlikeliness(energies[fold], detected, shift[rows])
    unlikeliness = _standardized(unlikeliness, names)
    return LabelAudit(
        np.repeat([frame.frame_id for frame in labels], np.diff(starts)),
        np.concatenate([np.arange(len(frame)) for frame in labels]),
        names,
        boxes,
        proposals,
        np.concatenate([frame.box_std for frame in results]),
        unlikeliness,
        num_points,
        shifts,
        min_points,
    )


def _labels_to_judge(
    energy: PointsEnergy, frame: FrameResults, points: NDArray[np.float32], min_points: int
) -> tuple[DetectedFrame, NDArray[np.int64]]:
    """A frame whose class is -1 where labels are not judged, and the number of points in each."""
    boxes = frame.boxes[:, :7]
    num_points = points_in_boxes(points, boxes).sum(axis=0)
    labels = class_labels(frame.names, energy.settings.class_names)
    labels[num_points < min_points] = -1
    return DetectedFrame(points, boxes, labels, frame.scores), num_points


def _climb(
    energy: PointsEnergy, frames: Iterable[LabelledFrame], min_points: int
) -> Iterator[tuple[FrameResults, RefinedFrame]]:
    """Frames, and their labels after the ascent of f and the density of errors."""
    bands = (BandTrust(1.0, ERROR_STD),)
    trust = Trust((bands,) * len(energy.settings.class_names), borders=())
    labels: list[FrameResults] = []

    def starts() -> Iterator[DetectedFrame]:
        """Frames as the refiner reads them."""
        for frame, points in frames:
            labels.append(frame)
            yield _labels_to_judge(energy, frame, points, min_points)[0]

    for row, climbed in enumerate(BoxRefiner(energy, trust, _NUM_STEPS)(starts())):
        yield labels[row], climbed


def _proposals(
    boxes: FloatArray, climbed: Sequence[RefinedFrame], names: NDArray[np.str_]
) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
    """Maxima plus what is systematic; that, of each label ``(N, 7)`` and by class."""
    maxima = np.concatenate([frame.boxes for frame in climbed])
    moved = np.concatenate([frame.moved for frame in climbed])
    coding = _meters(maxima)
    offsets = coding.encode(torch.from_numpy(boxes)).numpy()
    shift, shifts = np.zeros_like(boxes), {}
    for name in np.unique(names[moved]).tolist():
        rows = moved & (names == name)
        if rows.sum() >= _LEAST_LABELS:
            shift[rows] = np.median(offsets[rows], axis=0)
        shifts[name] = shift[rows][0]
    proposals = coding.decode(torch.from_numpy(shift)).numpy()
    return np.where(moved[:, None], proposals, boxes), shift, shifts


def _unlikeliness(energy: PointsEnergy, frame: DetectedFrame, shift: FloatArray) -> FloatArray:
    """u of the labels of a frame, ``(N,)``; NaN where they are not judged."""
    result = np.full(len(frame.boxes), np.nan)
    rows = np.flatnonzero(frame.labels >= 0)
    if len(rows):
        parameter = next(energy.parameters())
        centers = _meters(frame.boxes[rows]).decode(torch.from_numpy(-shift[rows])).to(parameter)
        labels = torch.from_numpy(frame.labels[rows]).to(parameter.device)
        f = energy.around([torch.from_numpy(frame.points).to(parameter)], centers, labels)
        coding = LocalCoding(centers, centers.new_tensor(ERROR_STD).expand(len(rows), -1))
        with torch.no_grad():
            near = f(coding.decode(_errors().to(parameter).expand(len(rows), -1, -1)))
            log_mean = torch.logsumexp(near / _TEMPERATURE, dim=1) - math.log(_NUM_SAMPLES)
            result[rows] = (log_mean - f(centers) / _TEMPERATURE).cpu().numpy()
    return result


def _standardized(values: FloatArray, names: NDArray[np.str_]) -> FloatArray:
    """Values less their median, in the median deviation of a Gaussian: of the class, or of all."""
    result = np.full(len(values), np.nan)
    known = np.isfinite(values)
    for name in np.unique(names[known]).tolist():
        rows = known & (names == name)
        like = values[rows if rows.sum() >= _LEAST_LABELS else known]
        deviation = 1.4826 * float(np.median(np.abs(like - np.median(like))))
        result[rows] = (values[rows] - np.median(like)) / (deviation or 1.0)
    return result


@functools.cache
def _errors() -> Tensor:
    """Errors in standard deviations, ``(S, 7)``: the same for all labels, symmetric."""
    half = torch.randn(_NUM_SAMPLES // 2, 7, generator=torch.Generator().manual_seed(0))
    return torch.cat((half, -half))


def _meters(boxes: FloatArray) -> LocalCoding:
    """Residuals in meters, log ratios and radians around boxes."""
    reference = torch.from_numpy(boxes)
    return LocalCoding(reference, torch.ones_like(reference))
