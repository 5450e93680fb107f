"""How far to trust an energy beside a detector, by class and number of points.

N boxes; C classes; K bands of the number of points in the detected box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.refinement.points_energy import PointsEnergy, Row
from ebm3d.refiners.posterior import BoxPosterior
from ebm3d.refiners.scorers import Scorer

POINT_BORDERS = (30.0, 150.0)
# The cautious default: the energy is damped, and boxes stay near the detected ones.
_DEFAULT_TEMPERATURE = 10.0
_DEFAULT_SHARE = 0.25  # of the noise the energy was trained with
_NONE: Row = (0.0,) * 7


@dataclass(frozen=True)
class BandTrust:
    r"""The terms of :class:`ebm3d.refiners.posterior.BoxPosterior` for boxes of a class and band.

    Attributes:
        temperature: tau; infinite: these boxes stay.
        std: sigma of the detector's errors: along, across, up (m); length, width, height (log
            ratio); yaw (rad).
        mean: what is systematic in these errors, as far as it is corrected.
        shift: likewise, by how much true boxes differ from the maxima of f.
    """

    temperature: float
    std: Row
    mean: Row = _NONE
    shift: Row = _NONE


@dataclass(frozen=True)
class FitProbability:
    r"""The probability that a refined box fits: overlaps a true one by ``iou`` or more.

    .. math:: p = \sigma\Big(c + \sum_k b_k e_k\Big)

    of the score, f at the refined box, its gain, and the logarithm of one plus the number of
    points.
    """

    iou: float
    weights: Row
    bias: float

    def __call__(self, features: Tensor) -> Tensor:
        """Return ``(N,)`` of features ``(N, 4)``."""
        return torch.sigmoid(features @ features.new_tensor(self.weights) + self.bias)


@dataclass(frozen=True)
class Trust:
    """How far to trust an energy.

    Attributes:
        classes: C rows, in the order of the energy's labels, of K bands.
        borders: K - 1 numbers of points between the bands.
        probabilities: C, None where too few boxes were there to fit it.
        fitted_on: what it was fitted on, for people; empty: the cautious default.
    """

    classes: tuple[tuple[BandTrust, ...], ...]
    borders: Row = POINT_BORDERS
    probabilities: tuple[FitProbability | None, ...] = ()
    fitted_on: str = ""

    @classmethod
    def default(cls, energy: PointsEnergy) -> Trust:
        """Return what does no harm where no labelled frames are at hand."""
        rows = energy.settings.noise_stds
        bands = [
            BandTrust(_DEFAULT_TEMPERATURE, tuple(_DEFAULT_SHARE * std for std in row))
            for row in rows
        ]
        return cls(tuple((band,) for band in bands), borders=())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trust:
        """Undo :meth:`as_dict`."""
        classes = tuple(tuple(BandTrust(**band) for band in row) for row in values["classes"])
        probabilities = tuple(p and FitProbability(**p) for p in values["probabilities"])
        return cls(classes, values["borders"], probabilities, values["fitted_on"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def with_temperature(self, temperature: float) -> Trust:
        """Return the same with one tau for all."""
        rows = (tuple(replace(b, temperature=temperature) for b in row) for row in self.classes)
        return replace(self, classes=tuple(rows))

    def is_trusted(self, labels: Tensor, num_points: Tensor) -> Tensor:
        """Whether boxes ``(N,)`` move at all; False for labels of -1."""
        table = torch.tensor([[math.isfinite(b.temperature) for b in row] for row in self.classes])
        table = table.to(labels.device)
        return (labels >= 0) & table[labels.clamp_min(0), self._bands(num_points)]

    def coding(self, boxes: Tensor, labels: Tensor, num_points: Tensor) -> LocalCoding:
        """Residuals around boxes ``(N, 7)``, in standard deviations of the detector's errors."""
        return LocalCoding(boxes, self._rows("std", boxes, labels, num_points))

    def posterior(
        self, f: Scorer, boxes: Tensor, labels: Tensor, num_points: Tensor
    ) -> BoxPosterior:
        """Return g of boxes ``(N, 7)`` detected as classes ``(N,)`` on points ``(N,)``."""
        coding = self.coding(boxes, labels, num_points)
        rows = labels, num_points
        temperature = self._rows("temperature", boxes, *rows)
        mean, shift = (
            self._rows(name, boxes, *rows) / coding.noise_std for name in ("mean", "shift")
        )
        return BoxPosterior(f, coding, temperature, mean, shift)

    def probability(self, features: Tensor, labels: Tensor) -> Tensor:
        """Probabilities ``(N,)`` that refined boxes fit, of features ``(N, 4)``; NaN if unknown."""
        result = features.new_full((len(features),), math.nan)
        for label, of_class in enumerate(self.probabilities):
            if of_class is not None:
                result = torch.where(labels == label, of_class(features), result)
        return result

    def _bands(self, num_points: Tensor) -> Tensor:
        """The band of each box."""
        borders = torch.tensor(self.borders, device=num_points.device)
        return torch.bucketize(num_points, borders, right=True)

    def _rows(self, name: str, like: Tensor, labels: Tensor, num_points: Tensor) -> Tensor:
        """Attributes of the bands of boxes, ``(N,)`` or ``(N, 7)``."""
        table = like.new_tensor([[getattr(b, name) for b in row] for row in self.classes])
        return table[labels, self._bands(num_points)]
