"""Residual codings: boxes as residuals from anchors or from other boxes, and back.

N reference boxes; S samples of each, if any; D columns of the boxes, 9 with velocities.
:meth:`BoxCoding.log_volume` makes a density of residuals one of boxes (meters, radians, m/s),
:meth:`BoxCoding.jacobian` a covariance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from ebm3d.boxes.angles import wrap_to_pi
from ebm3d.boxes.local import add_local_offsets, local_offsets, rotate_offsets
from ebm3d.errors import check_boxes, shape_error
from ebm3d.records import TensorRecord

Coding = TypeVar("Coding", bound="BoxCoding")


@dataclass(frozen=True)
class BoxCoding(TensorRecord, ABC):
    """Boxes as residuals from reference boxes.

    Attributes:
        reference: ``(N, D)`` anchors or boxes, LiDAR frame, sizes positive.

    Raises:
        ValueError: for another shape, here and where boxes or residuals come in.
    """

    columns: ClassVar[tuple[int, ...]] = (7,)
    reference: Tensor

    def __post_init__(self) -> None:
        check_boxes(self.reference, "reference", self.columns)

    @abstractmethod
    def encode(self, boxes: Tensor) -> Tensor:
        """Return residuals of boxes ``(N, D)`` or ``(N, S, D)``, same shape."""

    @abstractmethod
    def decode(self, residuals: Tensor) -> Tensor:
        """Return boxes of residuals ``(N, D)`` or ``(N, S, D)``, same shape, yaw in (-pi, pi]."""

    @abstractmethod
    def jacobian(self, residuals: Tensor) -> Tensor:
        """Return the derivatives of the boxes by the residuals, ``(N, D, D)`` at ``(N, D)``."""

    @abstractmethod
    def log_volume(self, boxes: Tensor) -> Tensor:
        """Return log |det| of the Jacobian at boxes, ``(N,)`` or ``(N, S)``."""

    @property
    @abstractmethod
    def yaw_unit(self) -> Tensor:
        """Radians per unit of the yaw's residual, ``(N,)``."""

    def turned(self: Coding, yaw: Tensor) -> Coding:
        """Return the coding whose references, and decoded boxes, are rotated by yaws ``(N,)``.

        Centers of decoded boxes stay in :class:`AnchorCoding`; in :class:`LocalCoding` along and
        across rotate with the reference, velocities of references stay.
        """
        if yaw.shape != self.reference.shape[:1]:
            raise shape_error("yaw", f"({len(self.reference)},), one per reference box", yaw)
        rest, turned = self.reference[:, :6], self.reference[:, 6:7] + yaw[:, None]
        reference = torch.cat((rest, turned, self.reference[:, 7:]), dim=1)
        return replace(self, reference=reference)

    def _reference_of(self, name: str, values: Tensor) -> Tensor:
        """References, broadcastable to boxes or residuals ``(N, D)`` or ``(N, S, D)``."""
        rows, columns = self.reference.shape
        if values.ndim not in (2, 3) or (values.shape[0], values.shape[-1]) != (rows, columns):
            expected = f"({rows}, {columns}) or ({rows}, S, {columns}), a row per reference box"
            raise shape_error(name, expected, values)
        return rows_like(self.reference, values)


@dataclass(frozen=True)
class AnchorCoding(BoxCoding):
    """Residuals from anchors, those of the host's ``DeltaXYZWLHRBBoxCoder``.

    x and y in diagonals of the anchor's footprint, the height of the box's *center* in anchor
    heights, log ratios of the sizes, the difference of the yaws (not wrapped).
    """

    def encode(self, boxes: Tensor) -> Tensor:
        """See :meth:`BoxCoding.encode`."""
        anchors = self._reference_of("boxes", boxes)
        center = boxes[..., 2] + boxes[..., 5] / 2 - anchors[..., 2] - anchors[..., 5] / 2
        parts = (
            (boxes[..., :2] - anchors[..., :2]) / _diagonal(anchors),
            (center / anchors[..., 5])[..., None],
            torch.log(boxes[..., 3:6] / anchors[..., 3:6]),
            boxes[..., 6:] - anchors[..., 6:],
        )
        return torch.cat(parts, dim=-1)

    def decode(self, residuals: Tensor) -> Tensor:
        """See :meth:`BoxCoding.decode`."""
        anchors = self._reference_of("residuals", residuals)
        sizes = torch.exp(residuals[..., 3:6]) * anchors[..., 3:6]
        center = residuals[..., 2] * anchors[..., 5] + anchors[..., 2] + anchors[..., 5] / 2
        parts = (
            residuals[..., :2] * _diagonal(anchors) + anchors[..., :2],
            (center - sizes[..., 2] / 2)[..., None],
            sizes,
            wrap_to_pi(residuals[..., 6:] + anchors[..., 6:]),
        )
        return torch.cat(parts, dim=-1)

    def jacobian(self, residuals: Tensor) -> Tensor:
        """See :meth:`BoxCoding.jacobian`; the bottom sinks by half of what the height grows."""
        anchors = self.reference
        sizes = torch.exp(residuals[..., 3:6]) * anchors[:, 3:6]
        diagonal = _diagonal(anchors).expand(-1, 2)
        unit = torch.ones_like(diagonal[:, :1])
        jacobian = torch.diag_embed(torch.cat((diagonal, anchors[:, 5:6], sizes, unit), dim=-1))
        jacobian[..., 2, 5] = -sizes[..., 2] / 2
        return jacobian

    def log_volume(self, boxes: Tensor) -> Tensor:
        """See :meth:`BoxCoding.log_volume`."""
        anchors = self._reference_of("boxes", boxes)
        of_anchor = 2 * torch.log(_diagonal(anchors)[..., 0]) + torch.log(anchors[..., 5])
        return of_anchor + torch.log(boxes[..., 3:6]).sum(-1)

    @property
    def yaw_unit(self) -> Tensor:
        """One radian."""
        return torch.ones_like(self.reference[:, 6])


@dataclass(frozen=True)
class LocalCoding(BoxCoding):
    """Residuals along the axes of reference boxes, in standard deviations of the noise.

    Along, across and up from bottom center to bottom center, log ratios of the sizes, the wrapped
    difference of the yaws, the difference of the velocities along and across if D is 9: the
    coordinates the noise is drawn in (docs/method.md, M-2).

    Attributes:
        noise_std: ``(N, D)``: along, across, up (m); length, width, height (log ratio); yaw (rad);
            velocity along and across (m/s). Positive.
    """

    columns: ClassVar[tuple[int, ...]] = (7, 9)
    noise_std: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_std.shape != self.reference.shape:
            expected = f"{tuple(self.reference.shape)}, as reference"
            raise shape_error("noise_std", expected, self.noise_std)

    def encode(self, boxes: Tensor) -> Tensor:
        """See :meth:`BoxCoding.encode`."""
        reference = self._reference_of("boxes", boxes)
        offsets = local_offsets(reference, boxes)
        sizes = torch.log(boxes[..., 3:6]) - torch.log(reference[..., 3:6])
        residuals = torch.cat((offsets[..., :3], sizes, offsets[..., 6:]), dim=-1)
        return residuals / rows_like(self.noise_std, boxes)

    def decode(self, residuals: Tensor) -> Tensor:
        """See :meth:`BoxCoding.decode`."""
        reference = self._reference_of("residuals", residuals)
        offsets = residuals * rows_like(self.noise_std, residuals)
        moved = add_local_offsets(reference, offsets)
        sizes = reference[..., 3:6] * torch.exp(offsets[..., 3:6])
        return torch.cat((moved[..., :3], sizes, moved[..., 6:]), dim=-1)

    def jacobian(self, residuals: Tensor) -> Tensor:
        """See :meth:`BoxCoding.jacobian`; x and y share those of along and across, as vx and vy."""
        sizes = self.reference[:, 3:6] * torch.exp(residuals[..., 3:6] * self.noise_std[:, 3:6])
        std = self.noise_std
        stretch = torch.cat((std[:, :3], sizes * std[:, 3:6], std[:, 6:]), dim=-1)
        columns = rotate_offsets(torch.diag_embed(stretch), self.reference[:, 6:7])
        return columns.transpose(-1, -2)

    def log_volume(self, boxes: Tensor) -> Tensor:
        """See :meth:`BoxCoding.log_volume`."""
        self._reference_of("boxes", boxes)
        of_units = torch.log(rows_like(self.noise_std, boxes)).sum(-1)
        return of_units + torch.log(boxes[..., 3:6]).sum(-1)

    @property
    def yaw_unit(self) -> Tensor:
        """The standard deviation of the yaw."""
        return self.noise_std[:, 6]


def rows_like(rows: Tensor, values: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of boxes, with an axis of samples after the first where values have one."""
    return rows.unsqueeze(1) if values.ndim > rows.ndim else rows


def _diagonal(anchors: Tensor) -> Tensor:
    """Diagonals of the footprints of anchors ``(..., 7)``, ``(..., 1)``."""
    return torch.linalg.vector_norm(anchors[..., 3:5], dim=-1, keepdim=True)
