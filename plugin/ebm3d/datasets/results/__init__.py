"""Detections of any detector, and labels: read, and written back in kind with changed boxes."""

from __future__ import annotations

from ebm3d.datasets.results.clouds import FrameClouds, LabelledFrames, check_one_each
from ebm3d.datasets.results.doubts import doubtful_frame
from ebm3d.datasets.results.frames import SIDE_FILE, FrameChanges, FrameResults, ResultFile
from ebm3d.datasets.results.reading import read_label_set, read_results

__all__ = [
    "SIDE_FILE",
    "FrameChanges",
    "FrameClouds",
    "FrameResults",
    "LabelledFrames",
    "ResultFile",
    "check_one_each",
    "doubtful_frame",
    "read_label_set",
    "read_results",
]
