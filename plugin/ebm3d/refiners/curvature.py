"""Curvature of the log density around boxes.

N boxes; S variants of each; D = 7 residuals t in units of the noise, along the axes of the box.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import can_read, check_positive, check_valid_boxes, input_error, shape_error
from ebm3d.records import TensorRecord
from ebm3d.refiners.ascent import value_and_gradient
from ebm3d.refiners.residual_density import ResidualDensity, VariantScorer

# On a CPU, about so many boxes are differentiated at a time: more no longer fit in the cache.
_MAX_EVALUATIONS = 256


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
    f: VariantScorer,
    boxes: Tensor,
    noise_std: Tensor,
    radius: float = 1.25,
) -> Expansion:
    r"""Expand h by its values and slopes at the vertices of a simplex around each box.

    .. math::
        \min_{c,\, g,\, H} \sum_k \left(h_k - c - g^\top t_k - \tfrac12 t_k^\top H t_k\right)^2
            + \rho^2 \left|\nabla h_k - g - H t_k\right|^2, \qquad
        t_k = \tfrac{\rho}{\sqrt7} (\pm1, \dots, \pm1)

    The eight :math:`t_k` are a regular simplex, rows of a Hadamard matrix: eight values and 56
    slopes determine 36 numbers, one gradient more than a Hessian by one-sided differences along the
    axes. Exact where h is a quadratic; off by terms of the order :math:`\rho` where it is smooth. A
    network on maps that are read bilinearly is not smooth: between two kinks its curvature is not
    that of the hill. The radius is therefore not small but as wide as the noise, so that the fit
    spans many kinks (docs/method.md, M-30), which is also far from where float32 would round the
    differences away.

    Args:
        f: evaluates S variants of each box.
        boxes: ``(N, 7)`` finite, sizes positive.
        noise_std: ``(N, 7)``: along, across, up (m); length, width, height (log ratio); yaw (rad).
        radius: :math:`\rho`, in units.

    Returns:
        The expansion, in the dtype of the boxes; its value is that at the box.

    Raises:
        ValueError: for a wrong shape, a radius that is not positive, or an f that cannot be
            differentiated; in main memory also for boxes or units that are not finite and positive,
            which elsewhere give NaN.
    """
    check_positive("radius", radius)
    _check(boxes, noise_std)
    coding = LocalCoding(boxes.detach(), noise_std.to(boxes))
    log_density = ResidualDensity(f, coding)
    points, solution, entries = _simplex(boxes.dtype, boxes.device)
    at = radius * points.expand(len(boxes), -1, -1)
    in_parts = boxes.device.type == "cpu"
    chunk = max(1, _MAX_EVALUATIONS // max(len(boxes), 1)) if in_parts else len(points)
    parts = [value_and_gradient(log_density, part) for part in at.split(chunk, dim=1)]
    values, gradients = (torch.cat(given, dim=1) for given in zip(*parts, strict=True))
    with torch.no_grad():
        value = log_density(torch.zeros_like(at[:, :1]))[:, 0]
    given = torch.cat(((values - value[:, None])[..., None], radius * gradients), dim=-1)
    found = (given.flatten(1) @ solution.to(given).T).to(boxes)
    hessian = found[:, 8:].index_select(1, entries).view(-1, 7, 7) / radius**2
    return Expansion(coding, value, found[:, 1:8] / radius, hessian)


@functools.cache
def _simplex(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``(P, 7)`` of unit length, and what makes a quadratic of values and slopes there.

    Returns:
        Points; a matrix ``(36, 8 P)`` from a value and seven slopes per point to the constant,
        the gradient and the upper triangle of the Hessian, by least squares; and where the 49
        entries of a Hessian are in its upper triangle. Computed on the CPU in float64, copied once.
    """
    with torch.inference_mode(False):
        points, solution = _least_squares()
        entries = torch.empty(7, 7, dtype=torch.int64)
        row, column = torch.triu_indices(7, 7)
        entries[row, column] = entries[column, row] = torch.arange(28)
        on_device = points.to(device, dtype), solution.to(device, dtype)
        return *on_device, entries.flatten().to(device)


def _least_squares() -> tuple[Tensor, Tensor]:
    """Points and matrix of :func:`_simplex`, on the CPU in float64."""
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(3):
        upper, lower = torch.cat((hadamard, hadamard), 1), torch.cat((hadamard, -hadamard), 1)
        hadamard = torch.cat((upper, lower))
    points = hadamard[:, 1:] / math.sqrt(7)
    row, column = torch.triu_indices(7, 7)
    index = torch.arange(28)
    design = points.new_zeros(len(points), 8, 36)
    design[:, 0, 0] = 1
    design[:, 0, 1:8] = points
    design[:, 0, 8:] = points[:, row] * points[:, column] * torch.where(row == column, 0.5, 1.0)
    design[:, 1:, 1:8] = torch.eye(7, dtype=torch.float64)
    design[:, 1 + row, 8 + index] = points[:, column]
    design[:, 1 + column, 8 + index] = points[:, row]
    return points, torch.linalg.pinv(design.flatten(0, 1))


def expand_exactly(f: VariantScorer, boxes: Tensor, noise_std: Tensor) -> Expansion:
    """Expand h by differentiating twice, at the very box: for an f without kinks.

    Args:
        f: evaluates S variants of each box.
        boxes: ``(N, 7)`` finite, sizes positive.
        noise_std: ``(N, 7)``, see :func:`expand_by_differences`.

    Returns:
        The expansion, in the dtype of the boxes.

    Raises:
        ValueError: as :func:`expand_by_differences`.
    """
    _check(boxes, noise_std)
    coding = LocalCoding(boxes.detach(), noise_std.to(boxes))
    with torch.enable_grad():
        at = torch.zeros_like(boxes, requires_grad=True)
        value = ResidualDensity(f, coding)(at[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        rows = [
            torch.autograd.grad(gradient[:, d].sum(), at, retain_graph=True)[0] for d in range(7)
        ]
    hessian = torch.stack(rows, dim=1)
    hessian = (hessian + hessian.transpose(1, 2)) / 2
    return Expansion(coding, value.detach(), gradient.detach(), hessian)


def _check(boxes: Tensor, noise_std: Tensor) -> None:
    """Raise unless boxes ``(N, 7)`` are sound and the units ``(N, 7)`` positive and finite.

    Values are looked at in main memory alone, where that waits for no device.
    """
    check_valid_boxes(boxes)
    if getattr(noise_std, "shape", None) != boxes.shape:
        raise shape_error("noise_std", f"{tuple(boxes.shape)} like boxes", noise_std)
    if not can_read(noise_std):
        return
    good = (noise_std > 0) & torch.isfinite(noise_std)
    if not bool(good.all()):
        row = int((~good).any(dim=1).nonzero()[0, 0])
        raise input_error(
            "noise_std", "positive and finite", f"noise_std[{row}] = {noise_std[row].tolist()}"
        )
