"""Calibration of predicted box densities on the matched pairs of an evaluation.

P pairs of a label and a prediction; K samples of each predicted density.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import MMLogger
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.datasets.atomic import check_writable
from ebm3d.datasets.kitti_calibration import KittiCalibration, boxes_from_camera
from ebm3d.datasets.kitti_frames import KittiFrames
from ebm3d.densities import BoxDistribution
from ebm3d.errors import check_count, input_error
from ebm3d.evaluation.calibration import CalibrationPairs, CalibrationReport, report_calibration
from ebm3d.evaluation.distribution_distances import energy_scores
from ebm3d.evaluation.localization import wrap
from ebm3d.evaluation.temperature import fit_temperature, read_temperature, write_temperature
from ebm3d.visualization.calibration import write_calibration_picture

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Reports = dict[str, dict[str, CalibrationReport]]

_CHUNK = 512  # pairs whose samples are evaluated at a time, which bounds the memory


@dataclass(frozen=True)
class CalibrationSettings:
    """What is done with the densities of ``bboxes_3d`` beside measuring them.

    Attributes:
        temperature: file of factors by which all densities are widened first, or ``None``.
        fit_temperature: file that receives factors fitted to these densities, or ``None``. Boxes
            with a heading flipped by pi take no part: no factor repairs them.
        figures: folder that receives a picture of each class that has pairs, or ``None``.
        num_samples: K, samples of each density for energy score and entropy.

    Raises:
        FileNotFoundError: if there is no file ``temperature``.
        ValueError: if that file holds no factors, factors are to be applied and fitted at once, the
            file ``fit_temperature`` cannot be written, or samples are too few. All of it before the
            first frame is run.
    """

    temperature: str | None = None
    fit_temperature: str | None = None
    figures: str | None = None
    num_samples: int = 64

    def __post_init__(self) -> None:
        """Check that the settings go together."""
        if self.temperature is not None and self.fit_temperature is not None:
            got = f"{self.temperature} to apply and {self.fit_temperature} to write"
            remedy = "fit on the calibration split, apply on another"
            raise input_error("temperature", "applied or fitted", got, remedy)
        check_count("num_samples", self.num_samples, least=2)
        if self.fit_temperature is not None:
            check_writable("fit_temperature", self.fit_temperature)
        if self.figures is not None:
            check_writable("figures", self.figures, "folder")
        if self.temperature is not None:
            read_temperature(self.temperature)

    def require_densities(self) -> None:
        """Raise if something is asked for that needs densities; for predictions without any."""
        wanted = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "num_samples"}
        for name, value in wanted.items():
            if value is not None:
                remedy = (
                    "test a config whose last head predicts densities (docs/box_regressions.md)"
                )
                got = f"{value} for predictions without box_distribution"
                raise input_error(f"calibration setting {name}", "None", got, remedy)


def calibrate(
    pairs: Mapping[tuple[str, str], tuple[IntArray, IntArray]],
    truths: FloatArray,
    frame_ids: Sequence[str],
    densities: BoxDistribution,
    predicted: FloatArray,
    settings: CalibrationSettings,
    shown: str = "moderate",
) -> Reports:
    """Measure the densities of all matched predictions; fit and draw as asked for.

    Args:
        pairs: rows of labels and of detections that match, by class and group.
        truths: boxes of the G labels, LiDAR frame, shape ``(G, D)``; one with NaN is of no pair.
        frame_ids: of each label, those of a frame one after the other.
        densities: of the evaluation's detections, over D dimensions.
        predicted: boxes of the detections, LiDAR frame, as many columns.
        settings: what else to do.
        shown: the group that is drawn.

    Returns:
        A report by class and group.

    Raises:
        ValueError: if the factors to apply are of other dimensions.
    """
    is_known = ~np.isnan(truths).any(axis=1)
    listed = [np.stack(rows, axis=1)[is_known[rows[0]]] for rows in pairs.values()]
    rows, places = np.unique(np.concatenate(listed), axis=0, return_inverse=True)
    matched = densities[torch.from_numpy(rows[:, 1])].to(torch.float64)
    truth = truths[rows[:, 0]]
    if settings.temperature is not None:
        factors = read_temperature(settings.temperature)
        if len(factors) != truths.shape[1]:
            expected = f"of {truths.shape[1]} factors, one a dimension"
            raise input_error(f"temperature {settings.temperature}", expected, len(factors))
        matched = matched.rescaled(torch.from_numpy(factors))
    names = [frame_ids[row] for row in rows[:, 0]]
    measured = measure_pairs(matched, predicted[rows[:, 1]], truth, names, settings.num_samples)
    if settings.fit_temperature is not None:
        fitted = measured.is_known & ~measured.is_flipped
        _fit(matched[torch.from_numpy(fitted)], truth[fitted], settings.fit_temperature)
    reports: Reports = {}
    ends = np.cumsum([0, *(len(part) for part in listed)])
    for (class_name, group), (begin, end) in zip(pairs, pairwise(ends), strict=True):
        chosen = measured.select(places.reshape(-1)[begin:end])
        reports.setdefault(class_name, {})[group] = report_calibration(chosen)
    if settings.figures is not None:
        for class_name, groups in reports.items():
            if groups[shown].num_pairs:
                path = Path(settings.figures) / f"calibration_{class_name.lower()}.png"
                title = f"{class_name}, {shown}"
                write_calibration_picture(path, groups[shown], title)
    return reports


@torch.no_grad()
def measure_pairs(
    densities: BoxDistribution,
    predicted: FloatArray,
    truths: FloatArray,
    frame_ids: Sequence[str],
    num_samples: int,
) -> CalibrationPairs:
    """Evaluate each density at its true box.

    Args:
        densities: P of them, float64.
        predicted: the predicted boxes, shape ``(P, D)``.
        truths: the true boxes, shape ``(P, D)``.
        frame_ids: of the pairs, those of a frame one after the other; they seed the samples, so
            that a frame has the same ones whatever the others are.
        num_samples: K.

    Returns:
        The pairs; NaN where there is no density.
    """
    std = densities.std
    is_known = (torch.isfinite(std) & (std > 0)).all(dim=1)
    inside, boxes = densities[is_known], torch.from_numpy(truths)[is_known]
    known = is_known.numpy()
    names = [name for name, is_there in zip(frame_ids, known, strict=True) if is_there]
    samples = _samples(inside, names, num_samples)
    parts = [slice(i, i + _CHUNK) for i in range(0, len(boxes), _CHUNK)]
    entropies = [-inside[part].log_prob(samples[part]).mean(dim=1) for part in parts]
    errors = predicted - truths
    errors[:, 6] = wrap(errors[:, 6], densities.yaw_period)

    def spread(values: Tensor | FloatArray) -> FloatArray:
        """Values of the known rows among all rows."""
        array = np.asarray(values)
        full = np.full((len(known), *array.shape[1:]), np.nan)
        full[known] = array
        return full

    return CalibrationPairs(
        log_prob=spread(inside.log_prob(boxes)),
        pit=spread(inside.cdf(boxes)),
        squared_mahalanobis=spread(inside.squared_mahalanobis(boxes)),
        std=std.numpy(),
        errors=errors,
        energy_scores=spread(
            energy_scores(samples.numpy(), boxes.numpy(), yaw_period=densities.yaw_period)
        ),
        entropies=spread(torch.cat(entropies) if entropies else torch.zeros(0)),
    )


def boxes_of_labels(labels: KittiFrames, calibrations: Sequence[KittiCalibration]) -> FloatArray:
    """Return the boxes of labels in the LiDAR frame, shape ``(G, 7)``.

    Args:
        labels: G of them, in the camera frame.
        calibrations: of each frame.
    """
    boxes = [np.zeros((0, 7))]
    for index, calibration in enumerate(calibrations):
        part = labels.frame(index)
        boxes.append(
            boxes_from_camera(part.location, part.dimensions, part.rotation_y, calibration)
        )
    return np.concatenate(boxes)


def _samples(densities: BoxDistribution, frame_ids: Sequence[str], num_samples: int) -> Tensor:
    """Boxes ``(P, K, D)``, drawn frame by frame."""
    starts = [i for i, name in enumerate(frame_ids) if i == 0 or frame_ids[i - 1] != name]
    width = densities.coding.reference.shape[1]
    drawn = [torch.zeros(0, num_samples, width, dtype=torch.float64)]
    for begin, end in pairwise([*starts, len(frame_ids)]):
        generator = torch.Generator().manual_seed(zlib.crc32(frame_ids[begin].encode()))
        drawn.append(densities[begin:end].sample(num_samples, generator))
    return torch.cat(drawn)


@torch.no_grad()
def _fit(densities: BoxDistribution, truths: FloatArray, path: str) -> None:
    """Fit factors, write them and say what they gain."""
    boxes = torch.from_numpy(truths)

    def nll(factors: FloatArray) -> float:
        return float(-densities.rescaled(torch.from_numpy(factors)).log_prob(boxes).mean())

    fitted = fit_temperature(nll, len(boxes), truths.shape[1])
    write_temperature(path, fitted)
    MMLogger.get_current_instance().info(
        "Temperature of %d pairs, factors %s: NLL %.3f -> %.3f nats; written to %s",
        fitted.num_pairs,
        ", ".join(f"{factor:.3g}" for factor in fitted.factors),
        fitted.nll_before,
        fitted.nll_after,
        path,
    )
