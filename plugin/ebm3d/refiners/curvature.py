"""Curvature of the log density around boxes.

N boxes; S variants of each; D residuals t in units of the noise, along the axes of the box: 7, or 9
with velocities.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import can_read, check_positive, check_valid_boxes, input_error
from ebm3d.records import TensorRecord
from ebm3d.refiners.scorers import ResidualDensity, Scorer, value_and_gradient

# On a CPU, about so many boxes are differentiated at a time: more no longer fit in the cache.
_MAX_EVALUATIONS = 256


@dataclass(frozen=True)
class Expansion(TensorRecord):
    r"""Second-order expansion of the log density of residuals around boxes.

    .. math::
        h(t) = f(y(t)) + \log\left|\det \tfrac{\partial y}{\partial t}\right|
        \approx h_0 + g^\top t + \tfrac12 t^\top H t

    with :math:`h_0` ``(N,)``, g ``(N, D)`` and H ``(N, D, D)``. docs/method.md, M-30.
    """

    coding: LocalCoding
    value: Tensor
    gradient: Tensor
    hessian: Tensor


def expand_by_differences(
    f: Scorer, boxes: Tensor, noise_std: Tensor, radius: float = 1.25
) -> Expansion:
    r"""Expand h by its values and slopes at balanced points around each box.

    .. math::
        \min_{c,\, g,\, H} \sum_k \left(h_k - c - g^\top t_k - \tfrac12 t_k^\top H t_k\right)^2
            + \rho^2 \left|\nabla h_k - g - H t_k\right|^2, \qquad
        t_k = \tfrac{\rho}{\sqrt D} (\pm1, \dots, \pm1)

    The :math:`t_k` are rows of a Hadamard matrix, balanced and uncorrelated from dimension to
    dimension: eight for D = 7, a regular simplex (8 values and 56 slopes for 36 numbers); twelve
    for D = 9, a design of Plackett and Burman (12 and 108 for 55). Exact where h is a quadratic;
    off by terms of the order :math:`\rho` where it is smooth. The radius is as wide as the noise,
    so that the fit spans many kinks of a bilinearly read map (docs/method.md, M-30).

    Args:
        f: evaluates boxes ``(N, S, D)``.
        boxes: ``(N, D)``; their dtype is that of the result.
        noise_std: ``(N, D)``, see :class:`ebm3d.boxes.codings.LocalCoding`.
        radius: :math:`\rho`, in ``noise_std``.
    """
    check_positive("radius", radius)
    coding = _coding(boxes, noise_std)
    log_density = ResidualDensity(f, coding)
    size = boxes.shape[1]
    points, solution, entries = _design(size, boxes.dtype, boxes.device)
    at = radius * points.expand(len(boxes), -1, -1)
    in_parts = boxes.device.type == "cpu"
    chunk = max(1, _MAX_EVALUATIONS // max(len(boxes), 1)) if in_parts else len(points)
    parts = [value_and_gradient(log_density, part) for part in at.split(chunk, dim=1)]
    values, gradients = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    with torch.no_grad():
        value = log_density(torch.zeros_like(at[:, :1]))[:, 0]
    targets = torch.cat(((values - value[:, None])[..., None], radius * gradients), dim=-1)
    fit = (targets.flatten(1) @ solution.to(targets).T).to(boxes)
    hessian = fit[:, size + 1 :].index_select(1, entries).view(-1, size, size) / radius**2
    return Expansion(coding, value, fit[:, 1 : size + 1] / radius, hessian)


def expand_exactly(f: Scorer, boxes: Tensor, noise_std: Tensor) -> Expansion:
    """Expand h by differentiating twice at the boxes, for an f without kinks."""
    coding = _coding(boxes, noise_std)
    with torch.enable_grad():
        at = torch.zeros_like(boxes, requires_grad=True)
        value = ResidualDensity(f, coding)(at[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        rows = [
            torch.autograd.grad(slope.sum(), at, retain_graph=True)[0]
            for slope in gradient.unbind(dim=1)
        ]
    hessian = torch.stack(rows, dim=1)
    hessian = (hessian + hessian.transpose(1, 2)) / 2
    return Expansion(coding, value.detach(), gradient.detach(), hessian)


@functools.cache
def _design(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``(K, D)`` of unit length, and the least squares fit of a quadratic there.

    The fit maps a value and D slopes per point, ``K (D + 1)``, to the constant, the gradient and
    the upper triangle of the Hessian; ``(D^2,)`` are the indices of its entries in the triangle.
    """
    with torch.inference_mode(False):
        points = _hadamard(size)[:, :size] / math.sqrt(size)
        row, column = torch.triu_indices(size, size)
        index, begin = torch.arange(len(row)), size + 1
        design = points.new_zeros(len(points), begin, begin + len(row))
        design[:, 0, 0] = 1
        design[:, 0, 1:begin] = points
        half = torch.where(row == column, 0.5, 1.0)
        design[:, 0, begin:] = points[:, row] * points[:, column] * half
        design[:, 1:, 1:begin] = torch.eye(size, dtype=torch.float64)
        design[:, 1 + row, begin + index] = points[:, column]
        design[:, 1 + column, begin + index] = points[:, row]
        solution = torch.linalg.pinv(design.flatten(0, 1))
        entries = torch.empty(size, size, dtype=torch.int64)
        entries[row, column] = entries[column, row] = index
        return points.to(device, dtype), solution.to(device, dtype), entries.flatten().to(device)


def _hadamard(size: int) -> Tensor:
    """At least D columns of a Hadamard matrix, of 8 rows (Sylvester) or 12 (Paley), less ones."""
    if size > 7:
        first = torch.tensor([1.0, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1], dtype=torch.float64)
        return torch.stack((*(first.roll(shift) for shift in range(11)), -torch.ones_like(first)))
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    for _ in range(3):
        hadamard = torch.kron(two, hadamard)
    return hadamard[:, 1:]


def _coding(boxes: Tensor, noise_std: Tensor) -> LocalCoding:
    """Residuals around boxes; raises for invalid boxes or scales that can be read."""
    check_valid_boxes(boxes, columns=(7, 9))
    coding = LocalCoding(boxes.detach(), noise_std.to(boxes))
    if can_read(noise_std):
        valid = ((noise_std > 0) & torch.isfinite(noise_std)).all(dim=1)
        if not bool(valid.all()):
            row = int((~valid).nonzero()[0, 0])
            got = f"noise_std[{row}] = {noise_std[row].tolist()}"
            raise input_error("noise_std", "positive and finite", got)
    return coding
