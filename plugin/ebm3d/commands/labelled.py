"""Detections of labelled frames, for the sub-commands that fit something on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.commands.console import ERRORS, progress_bar, show
from ebm3d.commands.options import check_output_file, find_device, format_options, name_map
from ebm3d.datasets.kitti_splits import match_ids
from ebm3d.datasets.problems import Collected
from ebm3d.datasets.results import (
    FrameClouds,
    FrameResults,
    ResultFile,
    check_one_each,
    doubtful_frame,
    read_label_set,
    read_results,
)
from ebm3d.errors import input_error
from ebm3d.refinement.detections import MIN_IOU, check_names, detected_frames, true_boxes_of
from ebm3d.refinement.energy_file import EnergyFile, load_energy, shipped_energy
from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.refiner import DetectedFrame, RefinedFrame
from ebm3d.refinement.summary import RefinementSummary


@dataclass(frozen=True)
class LabelledDetections:
    """An energy, and detections with clouds and true boxes by frame."""

    file: EnergyFile
    energy: PointsEnergy
    results: ResultFile
    frames: Sequence[FrameResults]
    frame_ids: Sequence[str]
    detected: Sequence[DetectedFrame]
    true: Sequence[NDArray[np.float64]]
    num_left: int

    @property
    def counts(self) -> str:
        """Frames used, and left out as they have no labels."""
        left = f" ({self.num_left} without labels left out)" if self.num_left else ""
        return f"{len(self.frame_ids)} frames{left}"

    def updated(self, **changes: Any) -> EnergyFile:
        """Return the file to write: energy on the CPU, and these frames among those it saw."""
        seen = [*self.file.training.get("frame_ids", ()), *self.frame_ids]
        training = {**self.file.training, "frame_ids": list(dict.fromkeys(seen))}
        energy = self.energy.to(torch.device("cpu"))
        return replace(self.file, energy=energy, training=training, **changes)

    def write(self, out: Path, refined: Sequence[RefinedFrame]) -> None:
        """Write the results with refined boxes; frames without labels as they were."""
        summary = RefinementSummary(self.energy.settings.class_names)
        rows = zip(self.frames, self.detected, refined, strict=True)
        self.results.write(out, {row[0].frame_id: summary.add(*row) for row in rows})


def warn_of_seen(file: EnergyFile, frame_ids: Sequence[str], consequence: str) -> None:
    """Warn if an energy or its trust has seen frames of these names."""
    seen = set(file.training.get("frame_ids", ())).intersection(frame_ids)
    if seen:
        text = f"the energy or its trust has seen {len(seen)} frames of these names"
        show(f"Warning: {text}: if they are the same, {consequence}.", ERRORS, "yellow")


def read_labelled(options: argparse.Namespace, consequence: str) -> LabelledDetections:
    """Read what DETECTIONS, LABELS, CLOUDS and --energy name; note what is doubtful.

    ``consequence`` says what follows if the energy or its trust has seen the frames.
    """
    check_output_file("--out", options.out, options)
    device = find_device(options.device)
    names, found = name_map(options), Collected()
    file = found.attempt(load_energy, options.energy or shipped_energy())
    calib, extra = options.calib, format_options(options)
    results = found.attempt(read_results, options.detections, calib, names, **extra)
    labels = found.attempt(read_label_set, options.labels, calib, names)
    clouds = found.attempt(FrameClouds, options.clouds)
    found.check()
    assert file is not None
    assert results is not None
    assert labels is not None
    assert clouds is not None
    known = file.energy.settings.class_names
    by_id = {frame.frame_id: frame for frame in labels.frames}
    ids = match_ids([frame.frame_id for frame in results.frames], by_id)
    frames = [frame for i, frame in zip(ids, results.frames, strict=True) if i in by_id]
    true_frames = [by_id[i] for i in ids if i in by_id]
    check_one_each(results, by_id)
    if not frames:
        got = f"none of {len(ids)}, first {ids[0] if ids else '-'}"
        raise input_error("DETECTIONS", f"of some of the {len(by_id)} labelled frames", got)
    for note in [*clouds.warnings, *check_names(results, known), *doubtful_frame(results, clouds)]:
        show(f"Note: {note}", ERRORS)
    used = [i for i in ids if i in by_id]
    warn_of_seen(file, used, consequence)
    detected = list(detected_frames(progress_bar("Reading the clouds")(frames), clouds, known))
    true = true_boxes_of(frames, true_frames)
    pairs = [d.is_valid & np.isfinite(t).all(axis=1) for d, t in zip(detected, true, strict=True)]
    if not any(is_pair.any() for is_pair in pairs):
        expected = f"with boxes of {', '.join(known)} that overlap the labels' (BEV IoU {MIN_IOU})"
        got = f"none of {sum(map(len, pairs))} in {len(frames)} frames"
        raise input_error("DETECTIONS", expected, got, "look at class names, --map and --calib")
    energy = file.energy.to(device)
    left = len(ids) - len(used)
    return LabelledDetections(file, energy, results, frames, used, detected, true, left)
