r"""The official figures: average precision, errors of true positives, and NDS.

.. math:: \mathrm{NDS} = \frac1{10}\Bigl(5\,\mathrm{mAP} + \sum_e \max(0, 1 - \bar e)\Bigr)

D detections and G labels of one class; P pairs of them; K limits of a match; B sets of weights of
the scenes, of which the official figures take one, ones, and a bootstrap many.
"""

from __future__ import annotations

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

    def as_dict(self) -> dict[str, Any]:
        """Return the first of the B with the keys of the kit's ``metrics_summary.json``."""
        rows = {name: CLASSES.index(name) for name in self.protocol.class_range}
        aps = {name: self.aps[0, row].tolist() for name, row in rows.items()}
        distances = [str(distance) for distance in self.protocol.dist_ths]
        return {
            "label_aps": {n: dict(zip(distances, own, strict=True)) for n, own in aps.items()},
            "mean_dist_aps": {name: float(np.mean(own)) for name, own in aps.items()},
            "mean_ap": float(self.mean_ap[0]),
            "label_tp_errors": {name: _by_error(self.errors[0, row]) for name, row in rows.items()},
            "tp_errors": _by_error(self.tp_errors[0]),
            "tp_scores": _by_error(self.tp_scores[0]),
            "nd_score": float(self.nd_score[0]),
        }


def _by_error(values: FloatArray) -> dict[str, float]:
    """Values ``(5,)`` by name of the error."""
    return dict(zip(TP_ERRORS, values.tolist(), strict=True))


def official_figures(matching: NuScenesMatching) -> Figures:
    """Compute the official figures, ``B`` = 1."""
    return weighted_figures(matching, np.ones((1, matching.truth.num_scenes), dtype=np.int32))


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
