"""What an evaluation leaves out, counted by reason, and what a reader of its figures must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ebm3d.evaluation.kitti_protocol import DIFFICULTIES, DONT_CARE, NUM_SAMPLES
from ebm3d.evaluation.matching_problem import BoolArray, MatchingProblem, has_box_2d

_HEIGHTS = "/".join(f"{difficulty.min_height:g}" for difficulty in DIFFICULTIES)
REASONS = {
    "outside_limits": "outside pcd_limit_range",
    "behind_camera": "behind the camera",
    "outside_image": "outside the image",
    "without_2d_box": "without 2D box",
    "low_2d_box": f"too low in the image ({_HEIGHTS} px)",
    "occluded": "too occluded",
    "truncated": "too truncated",
}
"""Why objects take no part, in the order in which it is asked."""


def count_left_out(
    problem: MatchingProblem, classes: Sequence[str], num_frames: int = 0
) -> dict[str, dict[str, Any]]:
    """Count what was left out, by class.

    Args:
        problem: labels and detections.
        classes: the evaluated ones.
        num_frames: labeled frames without predictions.

    Returns:
        By class: ``labels`` and ``detections`` of the class by reason (the first that holds), by
        difficulty where it matters; ``other_classes``: objects of classes that are not evaluated;
        ``frames``.
    """
    detected = Counter(problem.detections.objects.names.tolist())
    for counts in problem.dropped.values():
        detected.update(counts)
    others = {
        "labels": _others(Counter(problem.labels.objects.names.tolist()), classes),
        "detections": _others(detected, classes),
    }
    box_2d = has_box_2d(problem.detections)
    tree = {}
    for name in classes:
        dropped = {reason: counts.get(name, 0) for reason, counts in problem.dropped.items()}
        labels: dict[str, dict[str, int]] = {}
        low: dict[str, dict[str, int]] = {}
        for difficulty in DIFFICULTIES:
            rest = problem.label_names == name.lower()
            for reason, num in _split(rest, problem.beyond(difficulty)).items():
                labels.setdefault(reason, {})[difficulty.name] = num
            is_low = problem.is_low(difficulty)
            reasons = {"without_2d_box": is_low & ~box_2d, "low_2d_box": is_low}
            for reason, num in _split(problem.is_detected(name), reasons).items():
                low.setdefault(reason, {})[difficulty.name] = num
        tree[name] = {
            "labels": labels,
            "detections": {**dropped, **low},
            "other_classes": others,
            "frames": num_frames,
        }
    return tree


def evaluation_notes(
    problem: MatchingProblem,
    num_labels: Mapping[tuple[str, str], int],
    num_detections: Mapping[str, int],
) -> Iterator[str]:
    """Yield what a reader of the numbers must know.

    Args:
        problem: labels and detections.
        num_labels: those that count, by class and difficulty.
        num_detections: by class.
    """
    beyond = {difficulty.name: problem.beyond(difficulty) for difficulty in DIFFICULTIES}
    for (class_name, difficulty), num in num_labels.items():
        if num == 0:
            same_class = problem.label_names == class_name.lower()
            why = _split(same_class, beyond[difficulty])
            named = ", ".join(f"{n} {REASONS[reason]}" for reason, n in why.items() if n)
            whole = f" ({int(same_class.sum())} labels: {named})" if named else ""
            yield (
                f"{class_name}, {difficulty}: no label counts{whole}, so AP is 0 whatever is "
                "detected."
            )
        elif num < NUM_SAMPLES:
            yield (
                f"{class_name}, {difficulty}: only {num} labels count; with fewer than 41 even "
                "perfect detections score below 100."
            )
    for class_name, num in num_detections.items():
        if num == 0:
            yield f"{class_name}: nothing is detected, so AP is 0."
    if not problem.has_box_3d:
        yield "no detection gives a 3D box, so BEV and 3D are 0."
    yield from _notes_on_images(problem, num_labels)


def _notes_on_images(
    problem: MatchingProblem, num_labels: Mapping[tuple[str, str], int]
) -> Iterator[str]:
    """What follows from missing 2D boxes and angles."""
    names = dict.fromkeys(class_name for class_name, _ in num_labels)
    if not problem.uses_image:
        first, *_, last = (d.name for d in DIFFICULTIES)
        equal = all(num_labels[name, first] == num_labels[name, last] for name in names)
        ending = ", which tell no labels apart: the three levels are equal" if equal else ""
        yield (
            "no label has a 2D box: BEV and 3D are evaluated without the rules of the image, bbox "
            f"and AOS are not. Difficulty follows from occlusion and truncation alone{ending}."
        )
        return
    without = problem.beyond(DIFFICULTIES[-1])["without_2d_box"]
    for name in names:
        same_class = problem.label_names == name.lower()
        if num := int((same_class & without).sum()):
            yield (
                f"{name}: {num} of {int(same_class.sum())} labels have no 2D box; the protocol "
                "ignores them at every difficulty. Write the projection of the 3D box into the "
                "image."
            )
    if not problem.has_angles:
        yield "alpha is -10 (unknown) for some detections, so AOS is not evaluated."
    bbox = problem.detections.objects.bbox
    if num := int((bbox[:, 3] == bbox[:, 1]).sum()):
        yield (
            f"{num} of {len(bbox)} detections have a 2D box without height; the protocol "
            "ignores them in every metric. Write the projection of the 3D box into the image."
        )


def _split(rest: BoolArray, reasons: Mapping[str, BoolArray]) -> dict[str, int]:
    """Count objects by the first reason that holds."""
    counts = {}
    for reason, holds in reasons.items():
        counts[reason] = int((rest & holds).sum())
        rest = rest & ~holds
    return counts


def _others(counts: Mapping[str, int], classes: Sequence[str]) -> dict[str, int]:
    """Objects by class, of those that are not evaluated, DontCare aside."""
    known = [*(name.lower() for name in classes), DONT_CARE]
    return {name: num for name, num in sorted(counts.items()) if name.lower() not in known}
