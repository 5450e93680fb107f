r"""The official figures: average precision, errors of true positives, and NDS.

.. math:: \mathrm{NDS} = \frac1{10}\Bigl(5\,\mathrm{mAP} + \sum_e \max(0, 1 - \bar e)\Bigr)

D detections and G labels of one class; P pairs of them; K limits of a match; B sets of weights of
the scenes, of which the official figures take one, ones, and a bootstrap many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.localization import wrap
from ebm3d.evaluation.nuscenes.average_precision import weighted_aps, weighted_errors
from ebm3d.evaluation.nuscenes.boxes import FloatArray, NuScenesBoxes
from ebm3d.evaluation.nuscenes.matching import NuScenesMatching
from ebm3d.evaluation.nuscenes.protocol import (
    HALF_TURN_CLASSES,
    TP_ERRORS,
    UNDEFINED_ERRORS,
    DetectionProtocol,
)

_SECONDS_PER_DETECTION = 1e-8  # and set of weights; to the right power of ten


@dataclass(frozen=True, eq=False)
class Figures:
    """Average precision ``(B, C, K)`` and errors of true positives ``(B, C, 5)``; C as CLASSES.

    Errors are NaN where a class has none, and for all classes where the labels do not tell.
    """

    protocol: DetectionProtocol
    aps: FloatArray
    errors: FloatArray

    @property
    def mean_ap(self) -> FloatArray:
        """Mean AP, ``(B,)``."""
        return np.asarray(self.aps.mean(axis=(1, 2)))

    @property
    def tp_errors(self) -> FloatArray:
        """Errors of true positives, means of the classes that have them, ``(B, 5)``."""
        is_unknown = np.isnan(self.errors).all(axis=1)
        means = np.nanmean(np.where(is_unknown[:, None], 0.0, self.errors), axis=1)
        return np.where(is_unknown, np.nan, means)

    @property
    def tp_scores(self) -> FloatArray:
        """What each error adds to NDS, ``(B, 5)``."""
        return np.maximum(0.0, 1.0 - self.tp_errors)

    @property
    def nd_score(self) -> FloatArray:
        """The nuScenes detection score, ``(B,)``."""
        weight = self.protocol.mean_ap_weight
        total = weight * self.mean_ap + self.tp_scores.sum(axis=1)
        return np.asarray(total / (weight + len(TP_ERRORS)))


@dataclass(frozen=True, eq=False)
class NuScenesEvaluation:
    """The official figures of one result set: ``figures`` with B = 1, in ``eval_time`` seconds."""

    figures: Figures
    eval_time: float

    @property
    def mean_ap(self) -> float:
        """Mean AP, in [0, 1]."""
        return float(self.figures.mean_ap[0])

    @property
    def nd_score(self) -> float:
        """The nuScenes detection score, in [0, 1]."""
        return float(self.figures.nd_score[0])

    def label_aps(self, class_name: str) -> dict[float, float]:
        """Return AP of a class by distance."""
        aps = self.figures.aps[0, CLASSES.index(class_name)]
        return dict(zip(self.figures.protocol.dist_ths, aps.tolist(), strict=True))

    def label_tp_errors(self, class_name: str) -> dict[str, float]:
        """Return the errors of true positives of a class; NaN for those it does not have."""
        return _by_error(self.figures.errors[0, CLASSES.index(class_name)])

    @property
    def tp_errors(self) -> dict[str, float]:
        """Means of the classes' errors."""
        return _by_error(self.figures.tp_errors[0])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures with the keys of the development kit's ``metrics_summary.json``."""
        protocol = self.figures.protocol
        aps = {name: self.label_aps(name) for name in protocol.class_range}
        return {
            "label_aps": {n: {str(d): ap for d, ap in by.items()} for n, by in aps.items()},
            "mean_dist_aps": {n: float(np.mean([*by.values()])) for n, by in aps.items()},
            "mean_ap": self.mean_ap,
            "label_tp_errors": {n: self.label_tp_errors(n) for n in protocol.class_range},
            "tp_errors": self.tp_errors,
            "tp_scores": _by_error(self.figures.tp_scores[0]),
            "nd_score": self.nd_score,
            "eval_time": self.eval_time,
            "cfg": protocol.as_dict(),
        }


def _by_error(values: FloatArray) -> dict[str, float]:
    """Values ``(5,)`` by name of the error."""
    return dict(zip(TP_ERRORS, values.tolist(), strict=True))


def evaluate_matching(matching: NuScenesMatching) -> NuScenesEvaluation:
    """Compute the official figures."""
    started = time.perf_counter()
    figures = weighted_figures(matching, np.ones((1, matching.truth.num_scenes), dtype=np.int32))
    return NuScenesEvaluation(figures, time.perf_counter() - started)


def weighted_figures(matching: NuScenesMatching, weights: NDArray[np.int32]) -> Figures:
    """Compute the figures as if each scene were there as often as ``weights`` ``(B, scenes)``."""
    protocol = matching.protocol
    at_tp = protocol.dist_ths.index(protocol.dist_th_tp)
    aps = average_precisions(matching, matching.partner, weights)
    errors = np.ones((len(weights), len(CLASSES), len(TP_ERRORS)))
    scenes = matching.truth.scene[matching.detections.sample]
    label_scenes = matching.truth.scene[matching.labels.sample]
    for index, name in enumerate(CLASSES):
        partner = np.where(matching.detections.class_index == index, matching.partner[at_tp], -1)
        rows = np.flatnonzero(matching.detections.class_index == index)
        matched = np.flatnonzero(partner >= 0)
        labels = matching.labels.select(partner[matched].astype(np.int64))
        detections = matching.detections.select(matched)
        num_labels = _labels_of_scenes(matching, index, label_scenes)
        with threads_for(len(rows) * len(weights) * _SECONDS_PER_DETECTION):
            errors[:, index] = weighted_errors(
                matching.detections.score[rows],
                scenes[rows],
                partner[rows] >= 0,
                pair_errors(name, labels, detections),
                num_labels,
                weights,
                protocol.first_recall,
            )
        for error in UNDEFINED_ERRORS.get(name, ()):
            errors[:, index, TP_ERRORS.index(error)] = np.nan
    if not matching.truth.has_attributes:
        errors[..., TP_ERRORS.index("attr_err")] = np.nan
    return Figures(protocol, aps, errors)


def average_precisions(
    matching: NuScenesMatching, partner: NDArray[np.int32], weights: NDArray[np.int32]
) -> FloatArray:
    """Average precision of matches ``(K, D)`` by class, ``(B, C, K)``, in [0, 1]."""
    protocol = matching.protocol
    scenes = matching.truth.scene[matching.detections.sample]
    label_scenes = matching.truth.scene[matching.labels.sample]
    aps = np.zeros((len(weights), len(CLASSES), len(partner)))
    for index in range(len(CLASSES)):
        rows = np.flatnonzero(matching.detections.class_index == index)
        num_labels = _labels_of_scenes(matching, index, label_scenes)
        with threads_for(len(rows) * partner.shape[0] * len(weights) * _SECONDS_PER_DETECTION):
            aps[:, index] = weighted_aps(
                scenes[rows],
                partner[:, rows] >= 0,
                num_labels,
                weights,
                protocol.first_recall,
                protocol.min_precision,
            )
    return aps


def _labels_of_scenes(
    matching: NuScenesMatching, index: int, label_scenes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of evaluated labels of a class in each scene."""
    of_class = matching.labels.class_index == index
    return np.bincount(label_scenes[of_class], minlength=matching.truth.num_scenes)


def pair_errors(class_name: str, labels: NuScenesBoxes, detections: NuScenesBoxes) -> FloatArray:
    """Return the errors of pairs, columns ``TP_ERRORS``, ``(P, 5)``; NaN where one is unknown."""
    delta = detections.translation[:, :2] - labels.translation[:, :2]
    common = np.minimum(labels.size, detections.size).prod(axis=1)
    union = labels.size.prod(axis=1) + detections.size.prod(axis=1) - common
    period = np.pi if class_name in HALF_TURN_CLASSES else 2 * np.pi
    is_wrong = np.asarray(labels.attribute != detections.attribute, dtype=np.float64)
    return np.column_stack(
        [
            np.hypot(*delta.T),
            1 - common / union,
            np.abs(wrap(labels.yaw - detections.yaw, period)),
            np.hypot(*(detections.velocity - labels.velocity).T),
            np.where(labels.attribute < 0, np.nan, is_wrong),
        ]
    )
