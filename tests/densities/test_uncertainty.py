from __future__ import annotations

import math

import pytest
import torch

from ebm3d.boxes import corners_3d, rotate_about_z
from ebm3d.densities.uncertainty import check_std, decayed_scores, relative_uncertainty

pytestmark = pytest.mark.usefixtures("float64")


def _boxes(number: int = 4) -> torch.Tensor:
    low = torch.tensor([0.0, -20, -2, 3, 1, 1, -3])
    return low + torch.rand(number, 7) * torch.tensor([40.0, 40, 1, 2, 1, 1, 6])


def test_uncertainty_is_the_corners_displacement_in_diagonals():
    boxes, std, number = _boxes(), 1e-3 * (0.5 + torch.rand(4, 7)), 40000
    drawn = boxes + std * torch.randn(number, 4, 7)
    corners = corners_3d(drawn.flatten(0, 1)).unflatten(0, (number, 4))
    squares = (corners - corners_3d(boxes)).square().sum(-1).mean(-1)  # over the corners
    diagonal = boxes[:, 3:6].square().sum(1)
    expected = squares.mean(0) / diagonal
    error = 5 * squares.std(0) / diagonal / math.sqrt(number)
    uncertainty = relative_uncertainty(std, boxes).square()
    # The second order is a millionth of the first.
    assert bool(((uncertainty - expected).abs() < error + 1e-5 * expected).all())


def test_uncertainty_is_invariant_to_scale_and_rotation():
    boxes, std = _boxes(1).repeat(5, 1), torch.rand(1, 7).repeat(5, 1)
    expected = relative_uncertainty(std, boxes)
    scale = torch.tensor([3.0, 3, 3, 3, 3, 3, 1])
    torch.testing.assert_close(relative_uncertainty(scale * std, scale * boxes), expected)
    along = torch.diag(std[0, :2].square())
    angles = torch.arange(5) * 0.7
    boxes[:, 6] += angles
    for row, angle in enumerate(angles):
        rotation = rotate_about_z(torch.eye(3)[None], angle[None, None])[0, :2, :2]
        std[row, :2] = torch.diagonal(rotation @ along @ rotation.T).sqrt()
    torch.testing.assert_close(relative_uncertainty(std, boxes), expected)


def test_scores_decay_where_the_uncertainty_is_known():
    boxes, std, scores = _boxes(3), torch.full((3, 7), 0.1), torch.tensor([0.9, 0.5, 0.2])
    std[1, 4] = math.nan
    expected = scores * torch.exp(-2 * relative_uncertainty(std, boxes))
    expected[1] = scores[1]
    torch.testing.assert_close(decayed_scores(scores, std, boxes, 2.0), expected)
    classes = torch.stack((scores, scores), dim=1)
    torch.testing.assert_close(
        decayed_scores(classes, std, boxes, 2.0), torch.stack((expected, expected), dim=1)
    )
    assert decayed_scores(scores.float(), std, boxes, 2.0).dtype == torch.float32
    assert decayed_scores(torch.zeros(0, 3), std[:0], boxes[:0], 1.0).shape == (0, 3)


def test_unknown_uncertainty_is_refused_with_its_row_and_the_remedy():
    std = torch.ones(3, 7)
    check_std(std, "box_std")
    std[1, 2] = math.nan
    with pytest.raises(ValueError, match=r"box_std.*row 1.*train it"):
        check_std(std, "box_std")


def test_velocities_do_not_enter():
    boxes, std = torch.cat((_boxes(), torch.randn(4, 2)), dim=1), torch.rand(4, 9)
    std[:2, 7:] = math.nan
    expected = relative_uncertainty(std[:, :7], boxes[:, :7])
    assert torch.equal(relative_uncertainty(std, boxes), expected)


def test_shapes_that_differ_are_refused():
    boxes = torch.ones(2, 7)
    with pytest.raises(ValueError, match="std must have shape"):
        relative_uncertainty(torch.ones(2, 6), boxes)
    for shape in ((4,), (4, 3), (2, 3, 1)):
        with pytest.raises(ValueError, match="scores must have shape"):
            decayed_scores(torch.ones(shape), boxes, boxes, 1.0)
