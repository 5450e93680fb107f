"""Trust in an energy, fitted on frames with detections and labels.

N boxes of a frame; P pairs of a detection and its true box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebm3d.boxes.iou import iou_3d
from ebm3d.errors import check_count, shape_error
from ebm3d.evaluation.bootstrap import draw_weights
from ebm3d.evaluation.score_fusion import fit_score_fusion
from ebm3d.noise.fit import box_errors
from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame, FloatArray, RefinedFrame
from ebm3d.refinement.trust import POINT_BORDERS, BandTrust, FitProbability, Trust
from ebm3d.refiners import QuasiNewtonAscent

TEMPERATURES = (3.0, 10.0, 30.0, 100.0)
LEAST_BIASES = (np.inf, 0.5)  # of the spread, for a median error to be corrected
MIN_PAIRS = 20  # to fit the deviations of a band, or of a class
_LARGE, _FIT_IOU, _FIT_IOU_SMALL = 2.5, 0.7, 0.5  # mean length (m); IoU at which a box fits
_STRICT = (0.0, 0.05, 0.1, 0.15)  # above the IoU at which a box fits
_ONE_SIGMA = 0.6827
_NUM_REPLICATES, _CONFIDENCE = 1000, 0.9
_NUM_CLIMBS = 15
_NUM_BANDS = len(POINT_BORDERS) + 1
_MAX_TRIED = 600  # pairs on which settings are tried
_NEAR = 0.05  # of the IoU at which a box fits
_LEAST_STD = 0.05  # of the noise's


@dataclass(frozen=True)
class ClassGain:
    """What trust is worth for one class, on frames that it was not fitted on.

    Attributes:
        name: of the class.
        num_pairs: matched boxes.
        iou: mean 3D IoU of detected and refined boxes.
        gain: mean difference, and the bounds of its 90 % interval by a bootstrap over frames.
        shares: by IoU, the shares of pairs above it before and after.
        is_trusted: whether the lower bound of the gain is above 0; otherwise boxes stay.
    """

    name: str
    num_pairs: int
    iou: tuple[float, float]
    gain: tuple[float, float, float]
    shares: dict[float, tuple[float, float]]
    is_trusted: bool


@dataclass(frozen=True)
class TrustFit:
    """Trust, what it is worth by class, and the cross-fitted boxes that say so, by frame."""

    trust: Trust
    gains: tuple[ClassGain, ...]
    refined: tuple[RefinedFrame, ...]


def fit_trust(
    energy: PointsEnergy,
    frames: Sequence[DetectedFrame],
    true: Sequence[FloatArray],
    num_folds: int = 5,
    fitted_on: str = "",
) -> TrustFit:
    """Fit how far to trust an energy beside the detector that found the boxes.

    By class and band: the deviations of the detector's errors; how much of their medians is
    corrected, and tau, such that the mean IoU of the refined boxes is largest among settings that
    do not lower that of boxes near the IoU at which they fit. By class: the median difference of
    true boxes from the maxima of f that are climbed from them. What is reported comes from folds
    of frames: none is refined by a trust that saw it. docs/method.md, M-38.

    Args:
        energy: not changed.
        frames: detections with clouds.
        true: ``(N, 7)`` per frame, the true box of each detection; rows of NaN where there is none.
        num_folds: frames are dealt to them in turn; at least 2.
        fitted_on: what the frames are, for people.

    Raises:
        ValueError: for true boxes that do not fit the frames.
    """
    check_count("num_folds", num_folds, least=2)
    fitter = _Fitter(energy, frames, true)
    fold = np.arange(len(frames)) % num_folds
    held: list[RefinedFrame | None] = [None] * len(frames)
    for k in range(min(num_folds, len(frames))):
        trust = fitter.fit(fold != k)
        part = [i for i in range(len(frames)) if fold[i] == k]
        refiner = BoxRefiner(energy, trust)
        for i, frame in zip(part, refiner([frames[i] for i in part]), strict=True):
            held[i] = frame
    refined = tuple(frame for frame in held if frame is not None)
    gains = tuple(fitter.gain(label, refined) for label in range(len(energy.settings.class_names)))
    trust = fitter.fit(np.ones(len(frames), dtype=np.bool_))
    still = trust.with_temperature(np.inf)
    rows = [
        t if gain.is_trusted else s
        for t, s, gain in zip(trust.classes, still.classes, gains, strict=True)
    ]
    probabilities = tuple(fitter.probability(label, refined) for label in range(len(gains)))
    trust = replace(trust, classes=tuple(rows), probabilities=probabilities, fitted_on=fitted_on)
    return TrustFit(trust, gains, refined)


class _Fitter:
    """All detections of the frames in one table; P pairs, of which T are tried."""

    def __init__(
        self, energy: PointsEnergy, frames: Sequence[DetectedFrame], true: Sequence[FloatArray]
    ) -> None:
        for i, (frame, boxes) in enumerate(zip(frames, true, strict=True)):
            if boxes.shape != (len(frame.boxes), 7):
                raise shape_error(f"true[{i}]", f"({len(frame.boxes)}, 7)", boxes)
        self.energy, self.frames = energy, frames
        self.frame = np.repeat(np.arange(len(frames)), [len(frame.boxes) for frame in frames])
        self.labels = np.concatenate([frame.labels for frame in frames])
        self.points = np.concatenate([frame.num_points for frame in frames])
        self.boxes = np.concatenate([frame.boxes[:, :7] for frame in frames])
        self.true = np.concatenate(list(true))
        valid = np.concatenate([frame.is_valid for frame in frames])
        self.is_pair = np.isfinite(self.true).all(axis=1) & valid
        self.rows = np.flatnonzero(self.is_pair)
        self.bands = np.searchsorted(POINT_BORDERS, self.points[self.rows], side="right")
        self.classes = self.labels[self.rows]
        detected, truth = (torch.from_numpy(b[self.rows]) for b in (self.boxes, self.true))
        self.errors = box_errors(detected, truth).numpy()
        self.iou = iou_3d(self.boxes[self.rows], self.true[self.rows], aligned=True)
        shuffled = np.random.default_rng(0).permutation(len(self.rows))
        self.tried = np.sort(shuffled[:_MAX_TRIED])
        rows = self.rows[self.tried]
        device = next(energy.parameters()).device
        start, classes, index, points = (
            torch.from_numpy(table[rows]).to(device)
            for table in (self.boxes, self.labels, self.frame, self.points)
        )
        clouds = [torch.from_numpy(frame.points).to(device) for frame in frames]
        self.inputs = start.float(), classes, points
        self.f = energy.around(clouds, self.inputs[0], classes, index)
        self.maxima = self._errors_of_maxima(truth[self.tried].float().to(device), classes)

    def fit(self, chosen: NDArray[np.bool_]) -> Trust:
        """Fit on the frames of a mask."""
        inside = chosen[self.frame[self.rows]]
        settings = self.energy.settings
        labels = range(len(settings.class_names))
        best = [[(0.0, BandTrust(np.inf, settings.noise_stds[c]))] * _NUM_BANDS for c in labels]
        for least_bias, temperature in product(LEAST_BIASES, TEMPERATURES):
            trust = Trust(
                tuple(
                    self._bands_of(inside & (self.classes == c), c, least_bias, temperature)
                    for c in labels
                )
            )
            after, before = self._refined_iou(trust), self.iou[self.tried]
            for c, k in product(labels, range(_NUM_BANDS)):
                rows = (inside & (self.classes == c) & (self.bands == k))[self.tried]
                limit = fit_iou(self.energy, c)
                near = rows & (np.abs(before - limit) < _NEAR)
                harmed = near.any() and (after - before)[near].mean() < 0
                if rows.sum() < MIN_PAIRS // 2 or harmed:
                    continue
                gain = float((after - before)[rows].mean())
                if gain > best[c][k][0]:
                    best[c][k] = gain, trust.classes[c][k]
        return Trust(tuple(tuple(band for _, band in row) for row in best))

    def _bands_of(
        self, rows: NDArray[np.bool_], label: int, least_bias: float, temperature: float
    ) -> tuple[BandTrust, ...]:
        """The bands of one class from its pairs; those of few pairs as the whole class."""
        noise = np.array(self.energy.settings.noise_stds[label])
        tried = rows[self.tried]
        if tried.sum() < MIN_PAIRS:
            return (BandTrust(np.inf, tuple(noise.tolist())),) * _NUM_BANDS
        shift = np.median(self.maxima[tried], axis=0)
        result = []
        for k in range(_NUM_BANDS):
            part = rows & (self.bands == k)
            errors = self.errors[part if part.sum() >= MIN_PAIRS else rows]
            mean = np.median(errors, axis=0)
            spread = np.quantile(np.abs(errors - mean), _ONE_SIGMA, axis=0)
            mean = np.where(np.abs(mean) > least_bias * spread, mean, 0.0)
            std = np.quantile(np.abs(errors - mean), _ONE_SIGMA, axis=0).clip(_LEAST_STD * noise)
            result.append(BandTrust(temperature, *(tuple(v.tolist()) for v in (std, mean, shift))))
        return tuple(result)

    def _refined_iou(self, trust: Trust) -> FloatArray:
        """IoU ``(T,)`` of the tried pairs after refinement."""
        refined = BoxRefiner(self.energy, trust).climb(self.f, *self.inputs)[1]
        true = self.true[self.rows[self.tried]]
        iou: FloatArray = iou_3d(refined.double().cpu().numpy(), true, aligned=True)
        return iou

    def _errors_of_maxima(self, truth: Tensor, classes: Tensor) -> FloatArray:
        """By how much true boxes differ from the maxima of f climbed from them, ``(T, 7)``."""
        settings = self.energy.settings
        scale = np.array(settings.noise_stds)
        scale[:, 3:6] *= settings.mean_sizes
        ascent = QuasiNewtonAscent(_NUM_CLIMBS, step_scale=scale.tolist(), max_step=0.5)
        maxima = ascent(self.f, truth, classes).boxes
        return box_errors(maxima, truth).double().cpu().numpy()

    def gain(self, label: int, refined: Sequence[RefinedFrame]) -> ClassGain:
        """What the refinement of a class is worth."""
        of_class = self.labels[self.rows] == label
        rows = self.rows[of_class]
        boxes = np.concatenate([frame.boxes for frame in refined])[rows]
        before = self.iou[of_class]
        after: FloatArray = iou_3d(boxes, self.true[rows], aligned=True)
        name = self.energy.settings.class_names[label]
        if len(rows) < MIN_PAIRS:
            mean = float(before.mean()) if len(rows) else np.nan
            return ClassGain(name, len(rows), (mean, mean), (0.0, 0.0, 0.0), {}, False)
        weights = draw_weights(len(self.frames), _NUM_REPLICATES, 0)[:, self.frame[rows]]
        sums, counts = weights @ (after - before), weights.sum(axis=1)
        edge = (1 - _CONFIDENCE) / 2
        low, high = np.quantile(sums[counts > 0] / counts[counts > 0], (edge, 1 - edge))
        limits = [round(fit_iou(self.energy, label) + step, 2) for step in _STRICT]
        shares = {t: (float((before >= t).mean()), float((after >= t).mean())) for t in limits}
        means = float(before.mean()), float(after.mean())
        gain = means[1] - means[0], float(low), float(high)
        return ClassGain(name, len(rows), means, gain, shares, bool(low > 0))

    def probability(self, label: int, refined: Sequence[RefinedFrame]) -> FitProbability | None:
        """Fit the probability that refined boxes of a class fit."""
        of_class = self.labels == label
        features = np.concatenate([frame.features for frame in refined])[of_class]
        boxes = np.concatenate([frame.boxes for frame in refined])[of_class]
        truth = np.where(self.is_pair[of_class, None], self.true[of_class], boxes + 1e3)
        limit = fit_iou(self.energy, label)
        fits = iou_3d(boxes, truth, aligned=True) >= limit
        known = np.isfinite(features).all(axis=1)
        if min((fits & known).sum(), (~fits & known).sum()) < MIN_PAIRS // 2:
            return None
        weights = fit_score_fusion(np.full(len(fits), 0.5), features, fits).weights
        return FitProbability(limit, tuple(weights[1:-1].tolist()), float(weights[-1]))


def fit_iou(energy: PointsEnergy, label: int) -> float:
    """Return the IoU at which a box fits: 0.7 for classes as long as cars, 0.5 for smaller ones."""
    large = energy.settings.mean_sizes[label][0] > _LARGE
    return _FIT_IOU if large else _FIT_IOU_SMALL
