r"""The official figures: average precision, errors of true positives, and NDS.

.. math:: \mathrm{NDS} = \frac1{10}\Bigl(5\,\mathrm{mAP} + \sum_e \max(0, 1 - \bar e)\Bigr)

D detections and G labels of one class; P pairs of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.localization import wrap
from ebm3d.evaluation.nuscenes.boxes import BoolArray, FloatArray, NuScenesBoxes
from ebm3d.evaluation.nuscenes.matching import NuScenesMatching
from ebm3d.evaluation.nuscenes.protocol import (
    HALF_TURN_CLASSES,
    NUM_RECALLS,
    TP_ERRORS,
    UNDEFINED_ERRORS,
    DetectionProtocol,
)

_RECALLS: FloatArray = np.linspace(0, 1, NUM_RECALLS)


@dataclass(frozen=True)
class NuScenesEvaluation:
    """The official figures of one result set.

    Args:
        protocol: the configuration.
        label_aps: average precision by class and distance.
        label_tp_errors: errors of true positives by class; NaN where a class has none.
        eval_time: seconds.
    """

    protocol: DetectionProtocol
    label_aps: Mapping[str, Mapping[float, float]]
    label_tp_errors: Mapping[str, Mapping[str, float]]
    eval_time: float

    @property
    def mean_dist_aps(self) -> dict[str, float]:
        """AP by class, mean of the distances."""
        return {name: float(np.mean([*aps.values()])) for name, aps in self.label_aps.items()}

    @property
    def mean_ap(self) -> float:
        """Mean of the classes' AP."""
        return float(np.mean([*self.mean_dist_aps.values()]))

    @property
    def tp_errors(self) -> dict[str, float]:
        """Errors of true positives, means of the classes that have them."""
        errors = self.label_tp_errors.values()
        return {name: float(np.nanmean([error[name] for error in errors])) for name in TP_ERRORS}

    @property
    def tp_scores(self) -> dict[str, float]:
        """What each error adds to NDS."""
        return {name: max(0.0, 1.0 - error) for name, error in self.tp_errors.items()}

    @property
    def nd_score(self) -> float:
        """The nuScenes detection score."""
        weight, scores = self.protocol.mean_ap_weight, self.tp_scores.values()
        return float((weight * self.mean_ap + sum(scores)) / (weight + len(scores)))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures with the keys of the development kit's ``metrics_summary.json``."""
        return {
            "label_aps": {
                name: {str(distance): ap for distance, ap in aps.items()}
                for name, aps in self.label_aps.items()
            },
            "mean_dist_aps": self.mean_dist_aps,
            "mean_ap": self.mean_ap,
            "label_tp_errors": {name: dict(errors) for name, errors in self.label_tp_errors.items()},
            "tp_errors": self.tp_errors,
            "tp_scores": self.tp_scores,
            "nd_score": self.nd_score,
            "eval_time": self.eval_time,
            "cfg": self.protocol.as_dict(),
        }


def evaluate_matching(matching: NuScenesMatching) -> NuScenesEvaluation:
    """Compute the official figures."""
    started = time.perf_counter()
    protocol = matching.protocol
    aps: dict[str, dict[float, float]] = {}
    errors: dict[str, dict[str, float]] = {}
    for name in protocol.class_range:
        index = CLASSES.index(name)
        rows = np.flatnonzero(matching.detections.class_index == index)
        num_labels = int((matching.labels.class_index == index).sum())
        scores = matching.detections.score[rows]
        aps[name] = {}
        for k, distance in enumerate(protocol.dist_ths):
            partner = matching.partner[k, rows]
            is_match = partner >= 0
            precision, confidence = precision_curve(scores, is_match, num_labels)
            aps[name][distance] = average_precision(precision, protocol)
            if distance == protocol.dist_th_tp:
                labels = matching.labels.select(partner[is_match].astype(np.int64))
                detections = matching.detections.select(rows[is_match])
                errors[name] = _mean_errors(name, labels, detections, confidence, protocol)
    return NuScenesEvaluation(protocol, aps, errors, time.perf_counter() - started)


def precision_curve(
    scores: FloatArray, is_match: BoolArray, num_labels: int
) -> tuple[FloatArray, FloatArray]:
    """Read precision and score off at 101 recalls; zeros where there is no match.

    Args:
        scores: of the detections of one class, descending, ``(D,)``.
        is_match: which are true positives, ``(D,)``.
        num_labels: G.
    """
    if num_labels == 0 or not is_match.any():
        return np.zeros(NUM_RECALLS), np.zeros(NUM_RECALLS)
    right = np.cumsum(is_match).astype(np.float64)
    precision = right / np.arange(1, len(scores) + 1)
    recall = right / num_labels
    return (
        np.interp(_RECALLS, recall, precision, right=0),
        np.interp(_RECALLS, recall, scores, right=0),
    )


def average_precision(precision: FloatArray, protocol: DetectionProtocol) -> float:
    """Average precision of a curve ``(101,)``, in [0, 1]."""
    above = np.maximum(precision[protocol.first_recall :] - protocol.min_precision, 0)
    return float(above.mean()) / (1.0 - protocol.min_precision)


def _mean_errors(
    class_name: str,
    labels: NuScenesBoxes,
    detections: NuScenesBoxes,
    confidence: FloatArray,
    protocol: DetectionProtocol,
) -> dict[str, float]:
    """Errors of pairs ``(P,)`` by descending score, cumulative means averaged over recall."""
    known = np.flatnonzero(confidence)
    last = int(known[-1]) if len(known) else 0
    if last < protocol.first_recall or len(labels) == 0:
        means = dict.fromkeys(TP_ERRORS, 1.0)
    else:
        means = {}
        for name, errors in pair_errors(class_name, labels, detections).items():
            curve = np.interp(
                confidence[::-1], detections.score[::-1], _cumulative_mean(errors)[::-1]
            )[::-1]
            means[name] = float(curve[protocol.first_recall : last + 1].mean())
    return means | dict.fromkeys(UNDEFINED_ERRORS.get(class_name, ()), float("nan"))


def pair_errors(
    class_name: str, labels: NuScenesBoxes, detections: NuScenesBoxes
) -> dict[str, FloatArray]:
    """Return the errors of ``TP_ERRORS`` of pairs, ``(P,)``; NaN where the label is unknown."""
    delta = detections.translation[:, :2] - labels.translation[:, :2]
    common = np.minimum(labels.size, detections.size).prod(axis=1)
    union = labels.size.prod(axis=1) + detections.size.prod(axis=1) - common
    period = np.pi if class_name in HALF_TURN_CLASSES else 2 * np.pi
    is_wrong = np.asarray(labels.attribute != detections.attribute, dtype=np.float64)
    return {
        "trans_err": np.hypot(*delta.T),
        "scale_err": 1 - common / union,
        "orient_err": np.abs(wrap(labels.yaw - detections.yaw, period)),
        "vel_err": np.hypot(*(detections.velocity - labels.velocity).T),
        "attr_err": np.where(labels.attribute < 0, np.nan, is_wrong),
    }


def _cumulative_mean(values: FloatArray) -> FloatArray:
    """Mean of the known values down to each; 0 before the first known one, 1 if none is."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    num = np.cumsum(known)
    return np.asarray(np.nancumsum(values) / np.maximum(num, 1))
