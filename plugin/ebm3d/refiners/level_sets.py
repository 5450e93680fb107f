"""Borders of level sets of g around refined boxes.

N boxes; K rays; 7 residuals t along the axes of the box, in units of the noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ebm3d.boxes.codings import LocalCoding
from ebm3d.errors import check_positive, shape_error
from ebm3d.refiners.laplace import LaplaceApproximation
from ebm3d.refiners.scorers import Scorer, check_values

_NUM_BISECTIONS = 10


@torch.no_grad()
def level_set_borders(
    g: Scorer,
    boxes: Tensor,
    approximation: LaplaceApproximation,
    drop: float = 4.5,
    reach: float = 1.0,
) -> Tensor:
    r"""Boxes at the border of a level set of g, within the ellipsoid of its curvature.

    .. math:: \{y : g(b) - g(y) \le d\} \cap \{y : |\Sigma^{-1/2} t(y)|^2 \le 2 \rho^2 d\}

    for each box b, d the drop and :math:`\rho` the reach, along 24 rays: to where the ellipsoid is
    widest at each corner of a face, and along its principal axes. A ray ends at the first of both
    borders, to 1 / 1024 of its length where g crosses the level once. The ellipsoid bounds what an
    energy does far from the boxes it is trained on. docs/method.md, M-36.

    Args:
        g: a posterior, or an energy alone; evaluates boxes ``(N, K, 7)``.
        boxes: ``(N, 7)``, maxima of g or near one.
        approximation: of exp g around these boxes.
        drop: d, positive, nats; 4.5 is three standard deviations of a Gaussian.
        reach: :math:`\rho`, positive.

    Returns:
        Boxes ``(N, 24, 7)``, NaN where the approximation is; the largest
        :func:`ebm3d.boxes.faces.face_excess` of them is how far the set reaches beyond each face.

    Raises:
        ValueError: for boxes of another approximation, or constants that are not positive.
    """
    check_positive("drop", drop)
    check_positive("reach", reach)
    coding = approximation.coding
    if boxes.shape[1:] != (7,) or boxes.shape != coding.reference.shape:
        expected = f"{tuple(coding.reference.shape)}, as those of the approximation, 7 columns"
        raise shape_error("boxes", expected, boxes)
    known = torch.isfinite(approximation.scale_tril).flatten(1).all(dim=1)[:, None, None]
    root = torch.where(known, approximation.scale_tril, 0.0)
    rays = reach * math.sqrt(2 * drop) * _directions(coding, root)
    level = check_values(g(boxes[:, None]), boxes[:, None]) - drop
    inside = torch.zeros_like(rays[..., 0])
    share = torch.ones_like(inside)
    for step in range(1, _NUM_BISECTIONS + 2):
        variants = coding.decode(share[..., None] * rays)
        is_inside = check_values(g(variants), variants) >= level
        inside = torch.where(is_inside, share, inside)
        share = torch.where(is_inside, share + 0.5**step, share - 0.5**step).clamp_max(1.0)
    return torch.where(known, coding.decode(inside[..., None] * rays), math.nan)


def _directions(coding: LocalCoding, root: Tensor) -> Tensor:
    """Residuals ``(N, 24, 7)`` of Mahalanobis distance one: of the faces' corners, of the axes."""
    length, width, height = coding.reference[:, 3:6].unbind(dim=1)
    no, one = torch.zeros_like(length), torch.ones_like(length)
    slopes = [(no, no, -one, no, no, no, no), (no, no, one, no, no, height, no)]
    for end in (-1, 1):
        for side in (-0.5, 0.5):
            slopes.append((end * one, no, no, length / 2, no, no, side * width))
            slopes.append((no, end * one, no, no, width / 2, no, side * length))
    faces = torch.stack([torch.stack(row, dim=1) for row in slopes], dim=1)
    to_corners = normalize((faces * coding.noise_std[:, None]) @ root, dim=2)
    eigenvalues, axes = torch.linalg.eigh(root @ root.transpose(1, 2))
    along_axes = (axes * eigenvalues.clamp_min(0).sqrt()[:, None]).transpose(1, 2)
    return torch.cat((to_corners @ root.transpose(1, 2), along_axes, -along_axes), dim=1)
