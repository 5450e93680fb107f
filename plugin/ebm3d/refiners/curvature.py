"""Curvature of the log density around boxes.

N boxes; S variants of each; D = 7 residuals t in units of the noise, along the axes of the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import input_error
from ebm3d.records import TensorRecord
from ebm3d.refiners.ascent import check_finite_boxes, check_values, value_and_gradient

# About so many boxes are differentiated at a time: more no longer fit in the cache.
_MAX_EVALUATIONS = 256


class VariantScorer(Protocol):
    """Evaluates f of S variants of N boxes (:class:`ebm3d.energy.BoxEnergy`)."""

    def __call__(self, boxes: Tensor) -> Tensor:
        """Return f ``(N, S)`` of boxes ``(N, S, 7)``."""
        ...


class ResidualDensity:
    r"""The log density of residuals: :math:`h(t) = f(y(t)) + \log|\det \partial y/\partial t|`.

    With the logarithm of the volume exp f stays a density in meters and radians.

    Args:
        f: evaluates S variants of each box.
        coding: residuals around N boxes.
    """

    def __init__(self, f: VariantScorer, coding: LocalCoding) -> None:
        self._f, self._coding = f, coding

    def __call__(self, residuals: Tensor) -> Tensor:
        """Return h ``(S, N)`` of residuals ``(S, N, 7)``.

        Raises:
            ValueError: if f gives another shape or cannot be differentiated.
        """
        boxes = self._coding.decode(residuals)
        variants = boxes.transpose(0, 1)
        values = check_values(self._f(variants), variants).transpose(0, 1)
        # The volume has a graph of its own: without this f would go unnoticed.
        if variants.requires_grad and not values.requires_grad and len(variants):
            raise input_error("f", "differentiable in boxes", "values without a graph")
        return values + self._coding.log_volume(boxes)


@dataclass(frozen=True)
class Expansion(TensorRecord):
    r"""Second-order expansion of the log density of residuals around boxes.

    .. math::
        h(t) = f(y(t)) + \log\left|\det \tfrac{\partial y}{\partial t}\right|
        \approx h_0 + g^\top t + \tfrac12 t^\top H t

    docs/method.md, M-30.

    Attributes:
        coding: residuals around the boxes.
        value: :math:`h_0`, ``(N,)``.
        gradient: g, ``(N, 7)``.
        hessian: H, ``(N, 7, 7)``, symmetric.
    """

    coding: LocalCoding
    value: Tensor
    gradient: Tensor
    hessian: Tensor


def expand_by_differences(
    f: VariantScorer, boxes: Tensor, units: Tensor, step: float = 1.0
) -> Expansion:
    r"""Expand h by central differences of its gradient.

    .. math::
        H e_d \approx \frac{\nabla h(\epsilon e_d) - \nabla h(-\epsilon e_d)}{2 \epsilon}, \qquad
        g \approx \frac1{14} \sum_{d, \pm} \nabla h(\pm\epsilon e_d)

    Exact where h is a quadratic, and off by terms of the order :math:`\epsilon^2` where it is
    smooth. A network on maps that are read bilinearly is not smooth: between two kinks its
    curvature is not that of the hill. The step is therefore not small but as wide as the noise, so
    that gradients are compared across many kinks (docs/method.md, M-30, has the measurement), which
    is also far from where float32 would round the differences away. 14 gradients and one value.

    Args:
        f: evaluates S variants of each box.
        boxes: ``(N, 7)`` finite, sizes positive.
        units: ``(N, 7)``: along, across, up (m); length, width, height (log ratio); yaw (rad).
        step: epsilon, in units.

    Returns:
        The expansion, in the dtype of the boxes.

    Raises:
        ValueError: for a wrong shape, boxes that are not finite, a step that is not positive, or an
            f that cannot be differentiated.
    """
    check_finite_boxes(boxes)
    if not 0 < step < math.inf:
        raise input_error("step", "positive and finite", step)
    coding = LocalCoding(boxes.detach(), units.to(boxes))
    unit = torch.eye(7, dtype=boxes.dtype, device=boxes.device)
    offsets = step * torch.cat((unit, -unit))
    at = offsets[:, None].expand(-1, len(boxes), -1)
    chunk = max(1, _MAX_EVALUATIONS // max(len(boxes), 1))
    log_density = ResidualDensity(f, coding)
    parts = [value_and_gradient(log_density, part)[1] for part in at.split(chunk)]
    forward, backward = torch.cat(parts).chunk(2)
    hessian = ((forward - backward) / (2 * step)).transpose(0, 1)
    with torch.no_grad():
        value = log_density(torch.zeros_like(at[:1]))[0]
    gradient = torch.cat((forward, backward)).mean(dim=0)
    return Expansion(coding, value, gradient, (hessian + hessian.transpose(1, 2)) / 2)


def expand_exactly(f: VariantScorer, boxes: Tensor, units: Tensor) -> Expansion:
    """Expand h by differentiating twice, arguments and errors as :func:`expand_by_differences`.

    The curvature at the very point: for an f without kinks.
    """
    check_finite_boxes(boxes)
    coding = LocalCoding(boxes.detach(), units.to(boxes))
    with torch.enable_grad():
        at = torch.zeros_like(boxes, requires_grad=True)
        value = ResidualDensity(f, coding)(at[None])[0]
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        rows = [
            torch.autograd.grad(gradient[:, d].sum(), at, retain_graph=True)[0] for d in range(7)
        ]
    hessian = torch.stack(rows, dim=1)
    hessian = (hessian + hessian.transpose(1, 2)) / 2
    return Expansion(coding, value.detach(), gradient.detach(), hessian)
