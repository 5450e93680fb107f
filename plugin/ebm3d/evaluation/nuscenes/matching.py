"""Which boxes the benchmark evaluates, and its greedy matching by center distance.

S samples; G labels and D detections that are evaluated; K distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.kernels import threads_for
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.nuscenes.boxes import (
    BoolArray,
    FloatArray,
    GroundTruth,
    IntArray,
    NuScenesBoxes,
    Racks,
)
from ebm3d.evaluation.nuscenes.protocol import RACK_CLASSES, DetectionProtocol

_SECONDS_PER_PAIR = 1e-9  # and distance; to the right power of ten


@dataclass(frozen=True, eq=False)
class NuScenesMatching:
    """Evaluated boxes of one result set, and their matches.

    Args:
        truth: samples and all labels.
        protocol: the configuration.
        labels: G evaluated labels, by sample.
        detections: D evaluated detections, in the order in which they are matched.
        partner: row of the label of each detection at each of ``protocol.dist_ths``, -1 without
            one, ``(K, D)``.
        num_left_out: labels and detections that are not evaluated, by reason.
    """

    truth: GroundTruth
    protocol: DetectionProtocol
    labels: NuScenesBoxes
    detections: NuScenesBoxes
    partner: NDArray[np.int32]
    num_left_out: dict[str, dict[str, int]]

    def pairs(self, distance: float) -> tuple[IntArray, IntArray]:
        """Return rows of labels and detections that match at a distance, by descending score."""
        partner = self.partner[self.protocol.dist_ths.index(distance)]
        rows = np.flatnonzero(partner >= 0)
        return partner[rows].astype(np.int64), rows


def match_boxes(
    truth: GroundTruth, detections: NuScenesBoxes, protocol: DetectionProtocol
) -> NuScenesMatching:
    """Select the boxes that are evaluated, and match them."""
    is_label, label_reasons = _is_evaluated(truth, truth.labels, protocol)
    is_detection, reasons = _is_evaluated(truth, detections, protocol)
    labels = truth.labels.select(is_label)
    labels = labels.select(np.argsort(labels.sample, kind="stable"))
    rows = np.flatnonzero(is_detection)
    rows = rows[np.argsort(detections.score[rows], kind="stable")[::-1]]  # ties: later rows first
    chosen = detections.select(rows)
    order = np.argsort(chosen.sample, kind="stable")
    num_samples = len(truth.tokens)
    starts = [
        np.concatenate([[0], np.cumsum(np.bincount(boxes.sample, minlength=num_samples))])
        for boxes in (labels, chosen)
    ]
    num_pairs = int(np.prod([np.diff(start) for start in starts], axis=0).sum())
    distances = np.array(protocol.dist_ths)
    partner = np.full((len(distances), len(chosen)), -1, dtype=np.int32)
    with threads_for(num_pairs * len(distances) * _SECONDS_PER_PAIR):
        _match(
            *starts,
            order,
            np.ascontiguousarray(labels.translation),
            labels.class_index,
            np.ascontiguousarray(chosen.translation),
            chosen.class_index,
            distances,
            partner,
        )
    left_out = {"labels": label_reasons, "detections": reasons}
    return NuScenesMatching(truth, protocol, labels, chosen, partner, left_out)


def _is_evaluated(
    truth: GroundTruth, boxes: NuScenesBoxes, protocol: DetectionProtocol
) -> tuple[BoolArray, dict[str, int]]:
    """Which boxes are evaluated, ``(N,)``, and how many are not, each counted at one reason."""
    ranges = np.array([protocol.class_range[name] for name in CLASSES])[boxes.class_index]
    inside: BoolArray = truth.ego_distances(boxes) < ranges
    with_points = inside & (boxes.num_points != 0)
    outside_racks = with_points & ~_in_racks(truth.racks, boxes)
    counts = [len(boxes), *(int(kept.sum()) for kept in (inside, with_points, outside_racks))]
    reasons = ("out_of_range", "without_points", "in_bicycle_racks")
    return outside_racks, dict(zip(reasons, (-np.diff(counts)).tolist(), strict=True))


def _in_racks(racks: Racks, boxes: NuScenesBoxes) -> BoolArray:
    """Which bicycles and motorcycles have their center in a rack, ``(N,)``."""
    inside = np.zeros(len(boxes), dtype=np.bool_)
    classes = [CLASSES.index(name) for name in RACK_CLASSES]
    cycles = np.flatnonzero(np.isin(boxes.class_index, classes))
    cycles = cycles[np.isin(boxes.sample[cycles], racks.sample)]
    for sample, center, size, rotation in zip(*vars(racks).values(), strict=True):
        rows = cycles[boxes.sample[cycles] == sample]
        local = (boxes.translation[rows] - center) @ rotation
        inside[rows] |= (np.abs(local) <= size[[1, 0, 2]] / 2).all(axis=1)
    return inside


@njit(cache=True, parallel=True, error_model="numpy")
def _match(
    label_starts: IntArray,
    detection_starts: IntArray,
    order: IntArray,
    label_centers: FloatArray,
    label_class: IntArray,
    centers: FloatArray,
    class_index: IntArray,
    distances: FloatArray,
    partner: NDArray[np.int32],
) -> None:
    """Fill ``partner``, samples in parallel: each detection takes the nearest free label."""
    for sample in prange(len(label_starts) - 1):
        first, last = label_starts[sample], label_starts[sample + 1]
        for k in range(len(distances)):
            taken = np.zeros(last - first, dtype=np.bool_)
            for at in range(detection_starts[sample], detection_starts[sample + 1]):
                row = order[at]
                nearest = np.inf
                best = -1
                for label in range(first, last):
                    if label_class[label] != class_index[row] or taken[label - first]:
                        continue
                    dx = centers[row, 0] - label_centers[label, 0]
                    dy = centers[row, 1] - label_centers[label, 1]
                    distance = math.sqrt(dx * dx + dy * dy)
                    if distance < nearest:
                        nearest = distance
                        best = label
                if nearest < distances[k]:
                    taken[best - first] = True
                    partner[k, row] = best
