"""The constants of the nuScenes detection benchmark, which are no settings.

Source: the official development kit, configuration ``detection_cvpr_2019``, and its algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

TP_ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
"""Meters, 1 - IoU of the aligned boxes, radians, m/s, 1 - accuracy."""
UNDEFINED_ERRORS: Mapping[str, tuple[str, ...]] = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}
HALF_TURN_CLASSES = ("barrier",)
"""Classes whose heading is known up to pi."""
RACK_CATEGORY = "static_object.bicycle_rack"
RACK_CLASSES = ("bicycle", "motorcycle")
"""Classes that are not evaluated inside bicycle racks."""

NUM_RECALLS = 101
"""Recall values 0, 0.01, ..., 1 at which curves are read off."""


@dataclass(frozen=True)
class DetectionProtocol:
    """One configuration of the benchmark, with the keys of the development kit.

    Args:
        class_range: by class, distance from the ego pose that an evaluated box stays below, meters.
        dist_fcn: what a match is measured by; the official algorithm knows no other.
        dist_ths: distances that a match stays below, meters.
        dist_th_tp: the one of them at which errors of true positives are taken.
        min_recall: precision and errors at this recall and below do not count.
        min_precision: subtracted from precision.
        max_boxes_per_sample: more boxes make a result file invalid.
        mean_ap_weight: of mAP in NDS, where each error score weighs 1.
    """

    class_range: Mapping[str, float]
    dist_fcn: str = "center_distance"
    dist_ths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    dist_th_tp: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes_per_sample: int = 500
    mean_ap_weight: int = 5

    @property
    def first_recall(self) -> int:
        """Index of the first recall value that counts."""
        return round(100 * self.min_recall) + 1

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as the development kit writes it."""
        return asdict(self) | {"class_range": dict(self.class_range)}


PROTOCOL = DetectionProtocol(
    class_range={
        "car": 50,
        "truck": 50,
        "bus": 50,
        "trailer": 50,
        "construction_vehicle": 50,
        "pedestrian": 40,
        "motorcycle": 40,
        "bicycle": 40,
        "traffic_cone": 30,
        "barrier": 30,
    }
)
"""The official configuration."""

IOU_THRESHOLDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), (0.5, 0.7)),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle", "traffic_cone", "barrier"), (0.3, 0.5)),
}
"""3D IoU that a match exceeds, loose and strict: not of the benchmark, which has none."""
IOU_LEVELS = ("loose", "strict")
