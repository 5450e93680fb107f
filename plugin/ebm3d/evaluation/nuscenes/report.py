"""All figures of one result set: the official ones, and what NDS does not see."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ebm3d.errors import input_error
from ebm3d.evaluation.localization import DISTANCE_BANDS, bands
from ebm3d.evaluation.nuscenes.boxes import GroundTruth, NuScenesBoxes, check_detections
from ebm3d.evaluation.nuscenes.evaluation import Figures, official_figures
from ebm3d.evaluation.nuscenes.localization import summarize_localization
from ebm3d.evaluation.nuscenes.matching import NuScenesMatching, match_boxes, match_in_band
from ebm3d.evaluation.nuscenes.protocol import PROTOCOL, DetectionProtocol


@dataclass(frozen=True, eq=False)
class NuScenesReport:
    """All figures of one result set.

    Args:
        matching: evaluated boxes and their matches.
        figures: the official ones.
        by_distance: the same for each band of distance from the ego pose.
        localization: of ``summarize_localization``.
        notes: what a reader of the figures must know.
        seconds: that matching and official figures took.
    """

    matching: NuScenesMatching
    figures: Figures
    by_distance: Mapping[str, Figures]
    localization: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of ``metrics_summary.json``, and our own figures as ``localization``."""
        official = ("label_aps", "mean_ap", "label_tp_errors", "tp_errors")
        by_distance = {
            band: {name: figures.as_dict()[name] for name in official}
            for band, figures in self.by_distance.items()
        }
        own = {"by_distance": by_distance, "left_out": self.matching.num_left_out}
        return {
            **self.figures.as_dict(),
            "eval_time": self.seconds,
            "cfg": self.matching.protocol.as_dict(),
            "localization": {**self.localization, **own, "notes": list(self.notes)},
        }


def evaluate_nuscenes(
    ground_truth: GroundTruth,
    detections: NuScenesBoxes,
    protocol: DetectionProtocol = PROTOCOL,
    *,
    distance_bands: Sequence[float] = DISTANCE_BANDS,
) -> NuScenesReport:
    """Evaluate one result set in full.

    Args:
        ground_truth: of one split.
        detections: boxes in the order of the results, which decides between equal scores;
            ``sample`` counts ``ground_truth.tokens``.
        protocol: the configuration.
        distance_bands: borders, ascending, meters from the ego pose.

    Raises:
        ValueError: for detections of no sample, more of them in one sample than the protocol
            allows, values that ``check_detections`` refuses, or borders that do not ascend.
    """
    _check(ground_truth, detections, protocol)
    started = time.perf_counter()
    matching = match_boxes(ground_truth, detections, protocol)
    figures = official_figures(matching)
    seconds = time.perf_counter() - started
    by_distance = {
        name: official_figures(match_in_band(matching, low, high))
        for name, low, high in bands(distance_bands)
    }
    localization = summarize_localization(matching, distance_bands)
    notes = (*ground_truth.notes, *_notes(matching, detections))
    return NuScenesReport(matching, figures, by_distance, localization, notes, seconds)


def _check(truth: GroundTruth, detections: NuScenesBoxes, protocol: DetectionProtocol) -> None:
    """Raise for detections that cannot be evaluated."""
    num_samples = len(truth.tokens)
    if len(detections) == 0:
        return
    low, high = int(detections.sample.min()), int(detections.sample.max())
    if low < 0 or high >= num_samples:
        raise input_error("sample", f"from 0 to {num_samples - 1}", f"{low} to {high}")
    counts = np.bincount(detections.sample)
    if counts.max() > protocol.max_boxes_per_sample:
        got = f"{counts.max()} in sample {truth.tokens[int(counts.argmax())]}"
        remedy = "keep those of highest score"
        expected = f"at most {protocol.max_boxes_per_sample} a sample"
        raise input_error("detections", expected, got, remedy)
    check_detections(detections)


def _notes(matching: NuScenesMatching, detections: NuScenesBoxes) -> list[str]:
    """What explains figures that may surprise."""
    notes = []
    num_zero = int((detections.score == 0).sum())
    if num_zero:
        notes.append(
            f"{num_zero} detections have the score 0: recalls that only these reach do not count "
            "in the errors of true positives, which are all 1 if every score is 0."
        )
    if len(detections) and np.isnan(detections.velocity).all():
        notes.append("No detection has a velocity: AVE is 1.")
    return notes
