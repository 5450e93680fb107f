"""How far to trust an energy beside a detector.

N boxes; C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.refinement.points_energy import PointsEnergy, Row
from ebm3d.refiners.posterior import BoxPosterior
from ebm3d.refiners.scorers import Scorer

# The cautious default: the energy is damped, and boxes stay near the detected ones.
DEFAULT_TEMPERATURE = 10.0
DEFAULT_SHARE = 0.25  # of the noise the energy was trained with


@dataclass(frozen=True)
class ClassTrust:
    r"""The terms of :class:`ebm3d.refiners.posterior.BoxPosterior` for boxes of one class.

    Attributes:
        temperature: tau; infinite: boxes of this class stay.
        std: sigma of the detector's errors: along, across, up (m); length, width, height (log
            ratio); yaw (rad).
        mean: what is systematic in these errors.
        shift: likewise, by how much true boxes differ from the maxima of f.
        num_pairs: matched boxes it was fitted on; 0: the default.
    """

    temperature: float
    std: Row
    mean: Row = (0.0,) * 7
    shift: Row = (0.0,) * 7
    num_pairs: int = 0


@dataclass(frozen=True)
class Trust:
    """How far to trust an energy, by class in the order of its labels."""

    classes: tuple[ClassTrust, ...]

    @classmethod
    def default(cls, energy: PointsEnergy) -> Trust:
        """Return what is safe where no labelled frames are at hand."""
        rows = energy.settings.noise_stds
        return cls(
            tuple(
                ClassTrust(DEFAULT_TEMPERATURE, tuple(DEFAULT_SHARE * s for s in row))
                for row in rows
            )
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trust:
        """Undo :meth:`as_dict`."""
        rows = [
            {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
            for row in values["classes"]
        ]
        return cls(tuple(ClassTrust(**row) for row in rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    def coding(self, boxes: Tensor, labels: Tensor) -> LocalCoding:
        """Residuals around detected boxes ``(N, 7)``, in standard deviations of their errors."""
        return LocalCoding(boxes, self._rows("std", boxes)[labels])

    def posterior(self, f: Scorer, boxes: Tensor, labels: Tensor) -> BoxPosterior:
        """Return the posterior of boxes ``(N, 7)`` detected as classes ``(N,)``."""
        coding = self.coding(boxes, labels)
        std = coding.noise_std
        temperature = boxes.new_tensor([row.temperature for row in self.classes])[labels]
        mean, shift = (self._rows(name, boxes)[labels] / std for name in ("mean", "shift"))
        return BoxPosterior(f, coding, temperature, mean, shift)

    def _rows(self, name: str, like: Tensor) -> Tensor:
        """A table ``(C, 7)``."""
        return like.new_tensor([getattr(row, name) for row in self.classes])
