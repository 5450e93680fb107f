"""Borders of level sets of g: boxes hardly as likely as a refined one.

N boxes; K directions; 7 residuals t along the axes of the box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import check_positive, input_error, shape_error
from ebm3d.refiners.laplace import LaplaceApproximation
from ebm3d.refiners.scorers import Scorer, check_values

# A ray ends so many times farther out than the border of the Gaussian.
_REACH = 4.0
_NUM_BISECTIONS = 12


@torch.no_grad()
def level_set_borders(
    g: Scorer, boxes: Tensor, approximation: LaplaceApproximation, drop: float
) -> Tensor:
    r"""Boxes at the border of a level set, found along rays from each box.

    .. math:: \{y : g(\text{box}) - g(y) \le \text{drop}\}

    The 24 rays lead to where the ellipsoid of the Laplace approximation ends in the direction of
    each face's corners and of its principal axes: for a Gaussian g, the borders hold the extent of
    the set at every face, to first order in the yaw. A ray ends where g crosses the level, to 1 /
    1024 of its length, or, where it does not, four times as far out as the ellipsoid's border.

    Args:
        g: a posterior, or an energy whose noise is wide; evaluates boxes ``(N, K, 7)``.
        boxes: ``(N, 7)``, around which ``approximation`` was made, maxima of g or near one.
        approximation: of exp g.
        drop: positive, nats.

    Returns:
        Boxes ``(N, 24, 7)``.

    Raises:
        ValueError: for shapes that do not fit, or a ``drop`` that is not positive.
    """
    check_positive("drop", drop)
    coding = approximation.coding
    if boxes.shape != coding.reference.shape or boxes.shape[1] != 7:
        expected = f"{tuple(coding.reference.shape)}, those of the approximation, of 7 columns"
        raise shape_error("boxes", expected, boxes)
    if not torch.equal(boxes, coding.reference):
        raise input_error(
            "boxes", "those of the approximation", "others", "approximate around them"
        )
    rays = (2 * drop) ** 0.5 * _REACH * _directions(approximation)
    level = check_values(g(boxes[:, None]), boxes[:, None])[:, 0] - drop
    inside = rays.new_zeros(rays.shape[:2])
    step = 0.5
    share = torch.ones_like(inside)
    for _ in range(_NUM_BISECTIONS):
        variants = coding.decode(share[..., None] * rays)
        is_inside = check_values(g(variants), variants) >= level[:, None]
        inside = torch.where(is_inside, share, inside)
        share = torch.where(is_inside, share + step, share - step).clamp_max(1.0)
        step /= 2
    return coding.decode(inside[..., None] * rays)


def _directions(approximation: LaplaceApproximation) -> Tensor:
    """Residuals ``(N, 24, 7)`` at Mahalanobis distance one: of the faces' corners, of the axes."""
    std = approximation.coding.noise_std
    length, width, height = approximation.coding.reference[:, 3:6].unbind(1)
    zero, one = torch.zeros_like(length), torch.ones_like(length)
    rows = [(zero, zero, -one, zero, zero, zero, zero), (zero, zero, one, zero, zero, height, zero)]
    for end in (-1, 1):
        for side in (-1, 1):
            rows.append((end * one, zero, zero, length / 2, zero, zero, side * width / 2))
            rows.append((zero, end * one, zero, zero, width / 2, zero, side * length / 2))
    faces = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1) * std[:, None]
    root = approximation.scale_tril
    whitened = faces @ root
    to_faces = whitened / torch.linalg.vector_norm(whitened, dim=2, keepdim=True)
    eigenvalues, axes = torch.linalg.eigh(approximation.covariance)
    along_axes = (axes * eigenvalues.clamp_min(0).sqrt()[:, None]).transpose(1, 2)
    return torch.cat((to_faces @ root.transpose(1, 2), along_axes, -along_axes), dim=1)
