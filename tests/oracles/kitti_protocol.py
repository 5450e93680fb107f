"""The KITTI protocol as slow, plain Python, frame by frame and cutoff by cutoff.

Written from the rules in docs/evaluation.md. It matches every frame anew for every cutoff, where
the package stores what each detection changes; it shares only the input classes with the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from ebm3d.datasets.kitti_frames import KittiFrames

LIMITS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
NEIGHBORS = {"car": "van", "pedestrian": "person_sitting", "cyclist": ""}


@dataclass
class Counts:
    """Counts of one frame or of all."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    similarity: float = 0.0


def average_precisions(
    labels: KittiFrames,
    detections: KittiFrames,
    class_name: str,
    metric: str,
    threshold: float,
    difficulty: str,
) -> dict[str, float]:
    """AP and orientation similarity over 40 and 11 recall values, in percent."""
    frames = [
        _frame(labels, detections, index, class_name, metric, difficulty)
        for index in range(len(labels))
    ]
    num_labels = sum(state == "counted" for frame in frames for state in frame["labels"])
    scores = [s for frame in frames for s in _first_pass(frame, threshold)]
    scores.sort(reverse=True)
    precision, similarity = [0.0] * 41, [0.0] * 41
    for i, rank in enumerate(cutoff_ranks(len(scores), num_labels)):
        cutoff = scores[rank - 1]
        total = Counts()
        for frame in frames:
            counts = _second_pass(frame, threshold, cutoff)
            total.right += counts.right
            total.wrong += counts.wrong
            total.similarity += counts.similarity
        if total.right + total.wrong:
            precision[i] = total.right / (total.right + total.wrong)
            similarity[i] = total.similarity / (total.right + total.wrong)
    precision = [max(precision[i:]) for i in range(41)]
    similarity = [max(similarity[i:]) for i in range(41)]
    return {
        "ap_r40": 100 * sum(precision[1:]) / 40,
        "ap_r11": 100 * sum(precision[::4]) / 11,
        "similarity_r40": 100 * sum(similarity[1:]) / 40,
        "similarity_r11": 100 * sum(similarity[::4]) / 11,
    }


def _frame(
    labels: KittiFrames,
    detections: KittiFrames,
    index: int,
    class_name: str,
    metric: str,
    difficulty: str,
) -> dict[str, Any]:
    """States of all objects, their overlaps, scores and angles."""
    min_height, max_occlusion, max_truncation = LIMITS[difficulty]
    truth, found = labels.frame(index), detections.frame(index)
    states = []
    for i, name in enumerate(truth.names):
        height = truth.bbox[i, 3] - truth.bbox[i, 1]
        easy_enough = (
            height > min_height
            and truth.occluded[i] <= max_occlusion
            and truth.truncated[i] <= max_truncation
        )
        if name.lower() == class_name.lower():
            states.append("counted" if easy_enough else "ignored")
        elif name.lower() == NEIGHBORS[class_name.lower()]:
            states.append("ignored")
        else:
            states.append("other")
    kinds = []
    for j, name in enumerate(found.names):
        if abs(found.bbox[j, 3] - found.bbox[j, 1]) < min_height:
            kinds.append("ignored")
        else:
            kinds.append("counted" if name.lower() == class_name.lower() else "other")
    angle = "alpha" if metric == "bbox" else "rotation_y"
    return {
        "labels": states,
        "detections": kinds,
        "scores": [float(s) for s in found.score],
        "overlap": [
            [overlap(truth, i, found, j, metric) for j in range(len(found))]
            for i in range(len(truth))
        ],
        "dont_care": [
            [
                share_inside(found.bbox[j], truth.bbox[i]) if metric == "bbox" else 0.0
                for j in range(len(found))
            ]
            for i in range(len(truth))
            if truth.names[i].lower() == "dontcare"
        ],
        "label_angles": getattr(truth, angle),
        "detection_angles": getattr(found, angle),
    }


def overlap(truth: Any, i: int, found: Any, j: int, metric: str) -> float:
    """IoU of a label and a detection."""
    if truth.names[i].lower() == "dontcare":
        return 0.0
    if metric == "bbox":
        a, b = truth.bbox[i], found.bbox[j]
        common = _common_rectangle(a, b)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
        return common / union if common else 0.0
    common = _common_area(_outline(truth, i), _outline(found, j))
    size = [float(np.prod(o.dimensions[k, 1:])) for o, k in ((truth, i), (found, j))]
    if metric == "3d":
        bottoms = [o.location[k, 1] for o, k in ((truth, i), (found, j))]
        heights = [o.dimensions[k, 0] for o, k in ((truth, i), (found, j))]
        top = max(bottoms[0] - heights[0], bottoms[1] - heights[1])
        common *= max(min(bottoms) - top, 0.0)
        size = [s * h for s, h in zip(size, heights, strict=True)]
    return common / (sum(size) - common)


def share_inside(bbox: Any, region: Any) -> float:
    """Share of a 2D box that lies in a region."""
    area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
    return _common_rectangle(bbox, region) / area if area else 0.0


def _common_rectangle(a: Any, b: Any) -> float:
    """Common area of two 2D boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outline(objects: Any, i: int) -> np.ndarray:
    """Corners of a box in the x-z plane of the camera."""
    _, width, length = objects.dimensions[i]
    cos, sin = math.cos(objects.rotation_y[i]), math.sin(objects.rotation_y[i])
    corners = []
    for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        u, v = along * length / 2, across * width / 2
        corners.append((cos * u + sin * v, cos * v - sin * u))
    return np.array(corners) + objects.location[i, [0, 2]]


def _common_area(first: np.ndarray, second: np.ndarray) -> float:
    """Area of the hull of all corners inside the other box and all crossings of edges."""
    points = [p for p in first if _contains(second, p)] + [p for p in second if _contains(first, p)]
    for a, b in zip(first, np.roll(first, -1, axis=0), strict=True):
        for c, d in zip(second, np.roll(second, -1, axis=0), strict=True):
            matrix = np.column_stack([b - a, c - d])
            if abs(np.linalg.det(matrix)) > 1e-12:
                s, t = np.linalg.solve(matrix, c - a)
                if -1e-12 <= s <= 1 + 1e-12 and -1e-12 <= t <= 1 + 1e-12:
                    points.append(a + s * (b - a))
    if len(points) < 3:
        return 0.0
    try:
        return float(ConvexHull(np.array(points)).volume)
    except QhullError:
        return 0.0


def _contains(corners: np.ndarray, point: np.ndarray) -> bool:
    """Whether a rectangle contains a point, borders included."""
    u, v = corners[1] - corners[0], corners[3] - corners[0]
    w = point - corners[0]
    return bool(-1e-12 <= w @ u <= u @ u + 1e-12 and -1e-12 <= w @ v <= v @ v + 1e-12)


def _first_pass(frame: dict[str, Any], threshold: float) -> list[float]:
    """Scores of the true positives when every label takes its best scored detection."""
    taken: set[int] = set()
    scores = []
    for i, state in enumerate(frame["labels"]):
        if state == "other":
            continue
        candidates = [
            j
            for j, kind in enumerate(frame["detections"])
            if kind != "other" and j not in taken and frame["overlap"][i][j] > threshold
        ]
        if not candidates:
            continue
        best = max(candidates, key=lambda j: (frame["scores"][j], -j))
        taken.add(best)
        if state == "counted" and frame["detections"][best] == "counted":
            scores.append(frame["scores"][best])
    return scores


def _second_pass(frame: dict[str, Any], threshold: float, cutoff: float) -> Counts:
    """Counts when every label takes the detection above the cutoff that overlaps it most."""
    counts = Counts()
    present = [j for j, score in enumerate(frame["scores"]) if score >= cutoff]
    taken: set[int] = set()
    for i, state in enumerate(frame["labels"]):
        if state == "other":
            continue
        near = [j for j in present if j not in taken and frame["overlap"][i][j] > threshold]
        counted = [j for j in near if frame["detections"][j] == "counted"]
        ignored = [j for j in near if frame["detections"][j] == "ignored"]
        if counted:
            best = max(counted, key=lambda j: (frame["overlap"][i][j], -j))
        elif ignored:
            best = ignored[0]
        else:
            counts.missed += state == "counted"
            continue
        taken.add(best)
        if state == "counted" and counted:
            counts.right += 1
            turn = frame["label_angles"][i] - frame["detection_angles"][best]
            counts.similarity += (1 + math.cos(turn)) / 2
    for j in present:
        if frame["detections"][j] == "counted" and j not in taken:
            counts.wrong += not any(region[j] > threshold for region in frame["dont_care"])
    return counts


def cutoff_ranks(num: int, num_labels: int) -> list[int]:
    """Ranks, from 1, of the true positives whose recalls come closest to multiples of 1/40."""
    ranks: list[int] = []
    sought = 0.0
    for rank in range(1, num + 1):
        left, right = rank / num_labels, (rank + 1) / num_labels
        if rank < num and right - sought < sought - left:
            continue
        ranks.append(rank)
        sought += 1 / 40
    return ranks
