from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.faces import face_excess, face_std
from ebm3d.refiners import laplace_approximation, level_set_borders

_BOXES = torch.tensor([[10.0, 3, -1, 4, 1.7, 1.5, 0.3], [30.0, -8, -1, 0.8, 0.6, 1.7, 2.0]])
_NOISE_STD = torch.tensor([[0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]]).expand(2, -1)


def _gaussian(rows: Tensor, steepness: float = 1.0):
    """Minus half a squared distance of residuals, and what it is around boxes."""
    coding = LocalCoding(_BOXES.double(), _NOISE_STD.double())
    mixed = torch.linalg.inv(rows)

    def g(boxes: Tensor) -> Tensor:
        distance = (coding.encode(boxes) @ mixed.T).square().sum(dim=-1)
        return -0.5 * steepness * distance - coding.log_volume(boxes)

    return g


@pytest.fixture
def rows(rng) -> Tensor:
    """Root of a covariance of residuals."""
    return torch.tensor(np.eye(7) * 0.3 + 0.05 * rng.normal(size=(7, 7)))


def _approximation(g):
    return laplace_approximation(g, _BOXES.double(), _NOISE_STD.double())


def test_borders_of_a_gaussian_reach_as_far_as_its_faces_deviate(rows):
    g, boxes = _gaussian(rows), _BOXES.double()
    approximation = _approximation(g)
    covariance = approximation.distribution().covariance
    for drop in (0.02, 4.5):
        borders = level_set_borders(lambda y: g(y) + _volume(y), boxes, approximation, drop, 4.0)
        fall = g(boxes[:, None]) + _volume(boxes[:, None]) - g(borders) - _volume(borders)
        torch.testing.assert_close(fall, torch.full_like(fall, drop), rtol=1e-2, atol=0)
    borders = level_set_borders(lambda y: g(y) + _volume(y), boxes, approximation, 0.005)
    reach = face_excess(boxes.numpy(), borders.numpy()).max(axis=1)
    np.testing.assert_allclose(reach / 0.1, face_std(boxes.numpy(), covariance.numpy()), rtol=0.02)


def _volume(boxes: Tensor) -> Tensor:
    """Log volume of the boxes' residuals: what makes a density of residuals one of boxes."""
    return LocalCoding(_BOXES.double(), _NOISE_STD.double()).log_volume(boxes)


def test_a_steeper_g_ends_before_the_ellipsoid(rows):
    wide, boxes = _gaussian(rows), _BOXES.double()
    approximation = _approximation(wide)
    steep = _gaussian(rows, 4.0)
    far = level_set_borders(lambda y: wide(y) + _volume(y), boxes, approximation, 2.0)
    near = level_set_borders(lambda y: steep(y) + _volume(y), boxes, approximation, 2.0)
    coding = approximation.coding
    torch.testing.assert_close(coding.encode(near), coding.encode(far) / 2, rtol=1e-2, atol=1e-3)


def test_borders_are_unknown_where_the_approximation_is(rows):
    g = _gaussian(rows)
    approximation = _approximation(g)
    approximation.scale_tril[0] = torch.nan
    borders = level_set_borders(g, _BOXES.double(), approximation)
    assert borders[0].isnan().all()
    assert borders[1].isfinite().all()


@pytest.mark.parametrize("name", ["drop", "reach"])
def test_constants_are_positive(rows, name):
    g = _gaussian(rows)
    with pytest.raises(ValueError, match=name):
        level_set_borders(g, _BOXES.double(), _approximation(g), **{name: 0.0})


def test_boxes_are_those_of_the_approximation(rows):
    g = _gaussian(rows)
    with pytest.raises(ValueError, match="boxes"):
        level_set_borders(g, _BOXES[:1].double(), _approximation(g))
