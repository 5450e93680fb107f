"""The posterior of a box: an energy that is trusted in part, and the errors of the detector.

N boxes of D columns, 9 with velocities; S variants of each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import shape_error
from ebm3d.refiners.scorers import Scorer

_UNKNOWN = 1e4  # rad and m/s, errors of what a detector does not know


class BoxPosterior:
    r"""Log posterior of boxes, given an energy and the boxes that a detector found.

    .. math::
        g(y) = \frac{1}{\tau} f\big(y \ominus b\big) - \frac12 \left| t(y) - m \right|^2

    up to a constant, with residuals t of a ``LocalCoding`` around the detected boxes, whose units
    are the standard deviations of the detector's errors; y less b is the box of residuals
    :math:`t(y) - b`. Large :math:`\tau` trusts the detector. docs/method.md, M-35.

    Args:
        f: an energy of boxes ``(N, D)`` or ``(N, S, D)``.
        coding: around N detected boxes.
        temperature: tau ``(N,)``, positive; infinite where the energy says nothing.
        mean: m ``(N, D)``, by how much true boxes differ from detected ones; zero if left out.
        shift: b ``(N, D)``, by how much true boxes differ from the maxima of f; zero if left out.
        yaw_period: of the residual of the yaw: pi where the detector may flip headings.

    Raises:
        ValueError: for shapes that do not fit.
    """

    def __init__(
        self,
        f: Scorer,
        coding: LocalCoding,
        temperature: Tensor,
        mean: Tensor | None = None,
        shift: Tensor | None = None,
        yaw_period: float = 2 * math.pi,
    ) -> None:
        shape = coding.reference.shape
        for name, offset in (("mean", mean), ("shift", shift)):
            if offset is not None and offset.shape != shape:
                raise shape_error(name, f"{tuple(shape)} like the detected boxes", offset)
        if temperature.shape != shape[:1]:
            raise shape_error("temperature", f"({shape[0]},), one per box", temperature)
        self._f, self._coding, self._share = f, coding, 1 / temperature[:, None]
        self._mean = 0.0 if mean is None else mean[:, None]
        self._shift = None if shift is None else shift[:, None]
        self._yaw_period = yaw_period / coding.yaw_unit[:, None]

    def __call__(self, boxes: Tensor) -> Tensor:
        """Evaluate g ``(N,)`` or ``(N, S)`` of boxes ``(N, D)`` or ``(N, S, D)``."""
        if boxes.ndim == 2:
            return self(boxes[:, None])[:, 0]
        residuals = self._coding.encode(boxes)
        errors = residuals - self._mean
        turns = torch.round(errors[..., 6:7].detach() / self._yaw_period[..., None])
        yaw = errors[..., 6:7] - turns * self._yaw_period[..., None]
        errors = torch.cat((errors[..., :6], yaw, errors[..., 7:]), dim=-1)
        log_prior = -0.5 * errors.square().sum(dim=-1)
        if self._shift is not None:
            boxes = self._coding.decode(residuals - self._shift)
        return self._share * self._f(boxes) + log_prior


def box_posterior(
    f: Scorer, coding: LocalCoding, temperature: float, trust_heading: bool = True
) -> BoxPosterior:
    """Return the posterior of one temperature, and errors of which headings are known up to pi.

    ``trust_heading=False`` leaves headings and velocities to f.
    """
    std = coding.noise_std
    if not trust_heading:
        std = torch.cat((std[:, :6], torch.full_like(std[:, 6:], _UNKNOWN)), dim=1)
    errors = LocalCoding(coding.reference, std)
    return BoxPosterior(f, errors, torch.full_like(std[:, 0], temperature), yaw_period=math.pi)
