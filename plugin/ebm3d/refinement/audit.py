"""Labels that are unlikely: an energy's best box near each of them, and how far off it is.

N labels of all frames; C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.results import FrameResults
from ebm3d.refinement.points_energy import PointsEnergy, Row
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, RefinedFrame
from ebm3d.refinement.trust import ClassTrust, Trust

FloatArray = NDArray[np.float64]
LabelledFrame = tuple[FrameResults, NDArray[np.float32]]
EnergyOfFold = Callable[[int], PointsEnergy]

# Standard deviations along, across, up (m), of length, width, height (log ratio), yaw (rad): of
# the errors that are looked for, and of those that all labels have.
_SOUGHT_STD: Row = (0.35, 0.30, 0.15, 0.15, 0.15, 0.12, 0.17)
_USUAL_STD: Row = (0.10, 0.06, 0.06, 0.04, 0.04, 0.04, 0.03)
_TEMPERATURE = 3.0
_NUM_STEPS = 15
_LEAST_LABELS = 20  # of a class, below which no systematic difference is subtracted
MIN_POINTS = 5


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
        unlikeliness: ``(N,)`` squared Mahalanobis distance of the label from the proposal,
            scaled so that half of the labels of a class are below 6.3 (the median of chi-squared
            with 7 degrees of freedom); NaN where not judged.
        num_points: ``(N,)`` in the label.
        shifts: by class, ``(7,)`` median difference of labels from the energy's boxes, along,
            across, up (m), sizes (log ratio), yaw (rad), which was subtracted.
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
        return np.argsort(-np.nan_to_num(self.unlikeliness, nan=-1.0), kind="stable")

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
    """Judge labels by an energy, or by one for each fold that has not seen its frames.

    Each label climbs the posterior of an energy and of large errors of labels; the curvature there
    is the uncertainty. What labels of a class have in common against the maxima, a convention of
    the data set, is no error of a label: the median is subtracted.

    Args:
        frames: labels with their points ``(P, 4)``.
        energy: one for all frames, or a function of the fold.
        folds: of the frames, ``(len(frames),)``; with a function.
        min_points: labels of fewer points are not judged.
    """
    folds = np.zeros(len(frames), dtype=np.int64) if folds is None else folds
    parts: list[tuple[FrameResults, RefinedFrame, NDArray[np.int64]]] = []
    places: list[int] = []
    class_names: dict[str, None] = {}
    for fold in np.unique(folds).tolist():
        of_fold = energy if isinstance(energy, PointsEnergy) else energy(fold)
        class_names.update(dict.fromkeys(of_fold.settings.class_names))
        rows = np.flatnonzero(folds == fold).tolist()
        parts += _climbed(of_fold, (frames[row] for row in rows), min_points)
        places += rows
    return _judged([parts[i] for i in np.argsort(places)], list(class_names), min_points)


def _climbed(
    energy: PointsEnergy, frames: Iterable[LabelledFrame], min_points: int
) -> Iterator[tuple[FrameResults, RefinedFrame, NDArray[np.int64]]]:
    """Frames, their labels after the ascent, and the number of points in each."""
    trust = ClassTrust(_TEMPERATURE, _SOUGHT_STD)
    names = list(energy.settings.class_names)
    refiner = BoxRefiner(energy, Trust((trust,) * len(names)), _NUM_STEPS)
    read: list[tuple[FrameResults, NDArray[np.int64]]] = []

    def starts() -> Iterator[DetectedFrame]:
        """Frames with the labels that are judged."""
        for frame, points in frames:
            num_points = points_in_boxes(points, frame.boxes[:, :7]).sum(axis=0)
            read.append((frame, num_points))
            numbers = [names.index(n) if n in names else -1 for n in frame.names.tolist()]
            labels = np.where(num_points < min_points, -1, np.array(numbers, dtype=np.int64))
            yield DetectedFrame(points, frame.boxes[:, :7], labels)

    for row, climbed in enumerate(refiner(starts())):
        frame, num_points = read[row]
        yield frame, climbed, num_points


def _judged(
    parts: Sequence[tuple[FrameResults, RefinedFrame, NDArray[np.int64]]],
    class_names: Sequence[str],
    min_points: int,
) -> LabelAudit:
    """Distances of all labels from where they climbed to."""
    frames, climbed = [part[0] for part in parts], [part[1] for part in parts]
    names = np.concatenate([frame.names for frame in frames])
    labels = np.concatenate([frame.boxes[:, :7] for frame in frames])
    maxima = np.concatenate([frame.boxes for frame in climbed])
    covariance = np.concatenate([frame.box_covariance for frame in climbed])
    coding = LocalCoding(torch.from_numpy(maxima), torch.ones(maxima.shape, dtype=torch.float64))
    offsets = coding.encode(torch.from_numpy(labels))
    jacobian = coding.jacobian(torch.zeros_like(offsets)).numpy()
    difference = offsets.numpy()
    known = np.isfinite(covariance).all(axis=(1, 2))
    unlikeliness = np.full(len(labels), np.nan)
    proposals, shifts = labels.copy(), {}
    decoded = np.zeros_like(difference)
    for name in class_names:
        rows = np.flatnonzero(known & (names == name))
        shift = np.zeros(7)
        if len(rows) >= _LEAST_LABELS:
            shift = np.median(difference[rows], axis=0)
        shifts[name] = shift
        decoded[rows] = shift
        usual = jacobian[rows] * np.square(_USUAL_STD) @ jacobian[rows].transpose(0, 2, 1)
        residual = (jacobian[rows] @ (difference[rows] - shift)[..., None])
        distance = residual * np.linalg.solve(covariance[rows] + usual, residual)
        unlikeliness[rows] = distance.sum(axis=(1, 2))
        if len(rows) >= _LEAST_LABELS:
            unlikeliness[rows] *= chi2.median(7) / np.median(unlikeliness[rows])
    moved = coding.decode(torch.from_numpy(decoded)).numpy()
    proposals[known] = moved[known]
    return LabelAudit(
        np.repeat([frame.frame_id for frame in frames], [len(frame) for frame in frames]),
        np.concatenate([np.arange(len(frame)) for frame in frames]),
        names,
        labels,
        proposals,
        np.concatenate([frame.box_std for frame in climbed]),
        unlikeliness,
        np.concatenate([part[2] for part in parts]),
        shifts,
        min_points,
    )
