"""Which boxes the benchmark evaluates, and its greedy matching by center distance.

S samples; G labels and D detections that are evaluated; C classes; K limits of a match.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from ebm3d.boxes.iou import pair_iou
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

_SECONDS_PER_PAIR = 1e-8  # to the right power of ten


@dataclass(frozen=True, eq=False)
class NuScenesMatching:
    """Evaluated boxes of one result set, and their matches.

    Args:
        truth: samples and all labels.
        protocol: the configuration.
        labels: G evaluated labels, by sample.
        detections: D evaluated detections, in the order in which they are matched.
        rows: of these detections in the result set, ``(D,)``.
        partner: row of the label of each detection at each of ``protocol.dist_ths``, -1 without
            one, ``(K, D)``.
        num_left_out: labels and detections that are not evaluated, by reason.
    """

    truth: GroundTruth
    protocol: DetectionProtocol
    labels: NuScenesBoxes
    detections: NuScenesBoxes
    rows: IntArray
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
    left_out = {"labels": label_reasons, "detections": reasons}
    return _matching(truth, labels, detections.select(rows), rows, protocol, left_out)


def match_in_band(matching: NuScenesMatching, low: float, high: float) -> NuScenesMatching:
    """Match anew what lies at distances from the ego pose in ``[low, high)``, meters."""
    inside = [
        (low <= distances) & (distances < high)
        for distances in map(matching.truth.ego_distances, (matching.labels, matching.detections))
    ]
    labels, detections = matching.labels.select(inside[0]), matching.detections.select(inside[1])
    rows = matching.rows[inside[1]]
    return _matching(matching.truth, labels, detections, rows, matching.protocol, {})


def _matching(
    truth: GroundTruth,
    labels: NuScenesBoxes,
    detections: NuScenesBoxes,
    rows: IntArray,
    protocol: DetectionProtocol,
    left_out: dict[str, dict[str, int]],
) -> NuScenesMatching:
    """Match by center distance."""
    limits = np.tile(protocol.dist_ths, (len(CLASSES), 1))
    partner = match_greedily(truth, labels, detections, limits, by_iou=False)
    return NuScenesMatching(truth, protocol, labels, detections, rows, partner, left_out)


def match_greedily(
    truth: GroundTruth,
    labels: NuScenesBoxes,
    detections: NuScenesBoxes,
    limits: FloatArray,
    *,
    by_iou: bool,
) -> NDArray[np.int32]:
    """Return the row of the label of each detection, -1 without one, ``(K, D)``.

    In each sample the detections choose in their order, each the best free label of its class.

    Args:
        truth: samples.
        labels: by sample, ``(G,)``.
        detections: ``(D,)``.
        limits: by class: distance below which, or 3D IoU above which boxes match, ``(C, K)``.
        by_iou: whether the best label is the one of largest 3D IoU, else the nearest in xy.
    """
    order = np.argsort(detections.sample, kind="stable")
    counts = [np.bincount(b.sample, minlength=len(truth.tokens)) for b in (labels, detections)]
    starts = [np.concatenate([[0], np.cumsum(count)]) for count in counts]
    partner = np.full((limits.shape[1], len(detections)), -1, dtype=np.int32)
    with threads_for(int(counts[0] @ counts[1]) * _SECONDS_PER_PAIR):
        _match(
            *starts,
            order,
            labels.upright_boxes,
            labels.class_index,
            detections.upright_boxes,
            detections.class_index,
            -limits if by_iou else limits,
            by_iou,
            partner,
        )
    return partner


def _is_evaluated(
    truth: GroundTruth, boxes: NuScenesBoxes, protocol: DetectionProtocol
) -> tuple[BoolArray, dict[str, int]]:
    """Which boxes are evaluated, ``(N,)``, and how many are not, each counted at one reason."""
    ranges = np.array([protocol.class_range[name] for name in CLASSES], dtype=np.float64)
    inside: BoolArray = truth.ego_distances(boxes) < ranges[boxes.class_index]
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
    cycles = cycles[np.argsort(boxes.sample[cycles], kind="stable")]
    samples = boxes.sample[cycles]
    for sample, center, size, rotation in zip(*vars(racks).values(), strict=True):
        rows = cycles[slice(*np.searchsorted(samples, [sample, sample + 1]))]
        local = (boxes.translation[rows] - center) @ rotation
        inside[rows] |= (np.abs(local) <= size[[1, 0, 2]] / 2).all(axis=1)
    return inside


@njit(cache=True, parallel=True, error_model="numpy")
def _match(
    label_starts: IntArray,
    detection_starts: IntArray,
    order: IntArray,
    label_boxes: FloatArray,
    label_class: IntArray,
    boxes: FloatArray,
    class_index: IntArray,
    limits: FloatArray,
    by_iou: bool,
    partner: NDArray[np.int32],
) -> None:
    """Fill ``partner``, samples in parallel; costs are distances, or negative IoU."""
    for sample in prange(len(label_starts) - 1):
        first = label_starts[sample]
        num = label_starts[sample + 1] - first
        is_taken = np.zeros((limits.shape[1], num), dtype=np.bool_)
        near = np.empty(num, dtype=np.int64)
        costs = np.empty(num)
        for row in order[detection_starts[sample] : detection_starts[sample + 1]]:
            own_limits = limits[class_index[row]]
            largest = own_limits.max()
            num_near = 0
            for i in range(num):
                if label_class[first + i] != class_index[row]:
                    continue
                if by_iou:
                    cost = -pair_iou(label_boxes[first + i], boxes[row], True)
                else:
                    dx = boxes[row, 0] - label_boxes[first + i, 0]
                    dy = boxes[row, 1] - label_boxes[first + i, 1]
                    cost = math.sqrt(dx * dx + dy * dy)
                if cost < largest:
                    near[num_near], costs[num_near] = i, cost
                    num_near += 1
            for k in range(len(own_limits)):
                best = -1
                lowest = own_limits[k]
                for at in range(num_near):
                    if costs[at] < lowest and not is_taken[k, near[at]]:
                        lowest = costs[at]
                        best = near[at]
                if best >= 0:
                    is_taken[k, best] = True
                    partner[k, row] = first + best
