"""The constants of the KITTI object benchmark, which are no settings.

Source: the official development kit (evaluate_object_3d). docs/evaluation.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ebm3d.datasets.kitti_difficulty import DIFFICULTIES as DIFFICULTIES
from ebm3d.datasets.kitti_difficulty import Difficulty as Difficulty
from ebm3d.errors import input_error

METRICS = ("bbox", "bev", "3d")
"""What the overlap is taken of: 2D boxes in the image, outlines from above, volumes."""

CLASSES = ("Car", "Pedestrian", "Cyclist")
DONT_CARE = "dontcare"
NEIGHBORS: Mapping[str, tuple[str, ...]] = {
    "car": ("van",),
    "pedestrian": ("person_sitting",),
    "cyclist": (),
}
"""Classes so similar to an evaluated one that detecting them is neither right nor wrong."""
OTHER_NAMES = ("van", "truck", "person_sitting", "tram", "misc", DONT_CARE)
"""Names of labels that are never evaluated themselves."""

OFFICIAL_IOU: Mapping[str, float] = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
"""The overlap that the official tool asks of a true positive."""
DEFAULT_IOU_THRESHOLDS: Mapping[str, tuple[float, ...]] = {
    "car": (0.5, 0.7, 0.75, 0.8, 0.85, 0.9),
    "pedestrian": (0.25, 0.5, 0.6, 0.7),
    "cyclist": (0.25, 0.5, 0.6, 0.7),
}
"""The official thresholds, the loose ones in common use, and stricter ones."""

NUM_SAMPLES = 41
"""Recall values 0, 1/40, ..., 1 at which precision is read off."""
OCCLUSION_LEVELS = (0, 1, 2)
"""Visible, partly and largely occluded; anything else is unknown."""
NO_ANGLE = -10.0
"""The alpha of a detector that gives no orientation."""


def resolve_iou_thresholds(
    classes: Sequence[str], thresholds: Sequence[float] | Mapping[str, Sequence[float]] | None
) -> dict[str, tuple[float, ...]]:
    """Return the overlap thresholds of each class, ascending, classes spelled as in ``CLASSES``.

    Args:
        classes: evaluated classes, any case.
        thresholds: for all classes, or by class, or ``None`` for the defaults.

    Raises:
        ValueError: for an unknown class, no class, no threshold or one outside (0, 1).
    """
    spelled = {name.lower(): name for name in CLASSES}
    if thresholds is None:
        thresholds = DEFAULT_IOU_THRESHOLDS
    elif not isinstance(thresholds, Mapping):
        thresholds = dict.fromkeys(spelled, thresholds)
    by_class = {name.lower(): values for name, values in thresholds.items()}
    resolved = {}
    for name in classes:
        key = name.lower()
        if key not in spelled:
            raise input_error("classes", f"among {', '.join(CLASSES)}", repr(name))
        if key not in by_class:
            remedy = "add its thresholds or leave the class out"
            raise input_error("iou thresholds", f"a mapping with {name}", list(by_class), remedy)
        values = by_class[key]
        if not len(values) or not all(0.0 < value < 1.0 for value in values):
            raise input_error("iou thresholds", "one or more values between 0 and 1", values)
        resolved[spelled[key]] = tuple(sorted({float(value) for value in values}))
    if not resolved:
        raise input_error("classes", f"one or more of {', '.join(CLASSES)}", "none")
    return resolved
