"""One refinement head under several settings of inference, on the same detections.

A pass of the detector serves all settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.structures import InstanceData
from rich.progress import track
from torch import Tensor

from ebm3d.adapters.dense_heads.after_refinement import check_wider
from ebm3d.adapters.dense_heads.refined_dense_head import with_refined
from ebm3d.adapters.engine.head_evaluation import DetectedFrame, detect_frames
from ebm3d.adapters.engine.head_selection import apply_settings
from ebm3d.devices import clock
from ebm3d.energy.log_density import LogDensity
from ebm3d.energy.normalized_energy import NormalizedEnergy

DETECTOR = "detector"
"""Name of the run in which nothing is refined."""


@dataclass(frozen=True)
class InferenceSetting:
    """How boxes are refined.

    Attributes:
        settings: of the head, by dotted attribute; every setting of a comparison names the same.
        before_nms: whether the candidates of a looser suppression are refined.
        densities: ways to find the log density of the refined boxes, by the name of the field
            that receives it; timed each by itself.
    """

    settings: Mapping[str, Any]
    before_nms: bool = False
    densities: Mapping[str, LogDensity] = field(default_factory=dict)


@dataclass
class InferenceRun:
    """What one setting made of the frames.

    Attributes:
        samples: predictions as the metric takes them, refined but neither fused nor suppressed.
        seconds: of :func:`ebm3d.devices.clock` for each frame, less those of the log densities.
        density_seconds: the same of each log density.
    """

    samples: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    density_seconds: dict[str, list[float]] = field(default_factory=dict)


def run_settings(
    model: Any,
    loader: Any,
    head: Any,
    settings: Mapping[str, InferenceSetting],
    wider: Mapping[str, Any],
) -> tuple[dict[str, InferenceRun], list[float]]:
    """Refine the boxes of a split under every setting.

    Args:
        model: the detector, in evaluation mode.
        loader: of :func:`ebm3d.adapters.engine.head_selection.build_detector`.
        head: a refinement head; afterwards with the last setting.
        settings: by name.
        wider: ``nms_thr`` and ``max_num`` of the candidates to be refined before NMS.

    Returns:
        The runs, with that of the detector alone under ``DETECTOR``; and the seconds of the
        detector in each frame.
    """
    check_wider(model.bbox_head.dense_head, wider)
    runs = {name: InferenceRun() for name in (DETECTOR, *settings)}
    detector = []
    frames = detect_frames(model, loader, wider)
    for frame in track(frames, "inference", total=len(loader)):
        detector.append(frame.seconds)
        plain = {**frame.meta, "pred_instances_3d": frame.result.to(torch.device("cpu"))}
        runs[DETECTOR].samples.append(plain)
        runs[DETECTOR].seconds.append(0.0)
        for name, setting in settings.items():
            apply_settings(head, setting.settings)
            _run(head, frame, setting, runs[name])
    return runs, detector


def _run(head: Any, frame: DetectedFrame, setting: InferenceSetting, run: InferenceRun) -> None:
    """Refine the boxes of a frame under a setting."""
    given: Any = frame.candidates if setting.before_nms else frame.result
    device = frame.bev.device
    start = clock(device)
    refined = head.refine(
        frame.bev, frame.points, [given.bboxes_3d.tensor], [given.labels_3d], [given.scores_3d]
    )[0]
    run.seconds.append(clock(device) - start)
    for name, log_density in setting.densities.items():
        start = clock(device)
        refined[name] = _log_density(head, frame, given, refined, log_density)
        run.density_seconds.setdefault(name, []).append(clock(device) - start)
    shown = with_refined(given.clone(), refined)
    # One stage alone is evaluated: that of the detector is a run of its own.
    del shown.initial_bboxes_3d
    run.samples.append({**frame.meta, "pred_instances_3d": shown.to(torch.device("cpu"))})


def _log_density(
    head: Any,
    frame: DetectedFrame,
    given: InstanceData,
    refined: Mapping[str, Tensor],
    log_density: LogDensity,
) -> Tensor:
    """Log density ``(N,)`` of refined boxes, NaN where one was not refined."""
    rows = torch.isfinite(refined["f_refined"]).nonzero()[:, 0]
    boxes, detected = refined["boxes"][rows], given.bboxes_3d.tensor[rows, :7]
    energy = head.bind(frame.bev, frame.points, [detected], [given.labels_3d[rows]])
    normalized = NormalizedEnergy(energy, boxes, head.noise.base)
    value = log_density(normalized, refined["f_refined"][rows], detected, head.criterion)
    return torch.full_like(refined["f_refined"], torch.nan).index_copy(0, rows, value)
