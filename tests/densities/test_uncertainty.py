from __future__ import annotations

import math

import pytest
import torch

from ebm3d.boxes import corners_3d, rotate_about_z
from ebm3d.densities.uncertainty import decayed_scores, decayed_where_known, relative_uncertainty

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
    found = relative_uncertainty(std, boxes).square()
    # The second order is a millionth of the first.
    assert bool(((found - expected).abs() < error + 1e-5 * expected).all())


def test_uncertainty_has_no_unit():
    boxes, std = _boxes(), torch.rand(4, 7)
    scale = torch.tensor([3.0, 3, 3, 3, 3, 3, 1])
    expected = relative_uncertainty(std, boxes)
    torch.testing.assert_close(relative_uncertainty(scale * std, scale * boxes), expected)


def test_uncertainty_is_that_of_the_box_however_it_is_turned():
    boxes, std = _boxes(1).expand(5, 7).clone(), torch.rand(1, 7).expand(5, 7).clone()
    along = torch.diag(std[0, :2].square())
    angles = torch.arange(5) * 0.7
    boxes[:, 6] += angles
    for row, angle in enumerate(angles):
        rotation = rotate_about_z(torch.eye(3)[None], angle[None, None])[0, :2, :2]
        std[row, :2] = torch.diagonal(rotation @ along @ rotation.T).sqrt()
    found = relative_uncertainty(std, boxes)
    torch.testing.assert_close(found, found[:1].expand(5))


def test_score_falls_by_e_for_each_inverse_decay():
    scores, uncertainty = torch.tensor([0.9, 0.6]), torch.tensor([0.0, 0.25])
    expected = torch.tensor([0.9, 0.6 / math.e])
    torch.testing.assert_close(decayed_scores(scores, uncertainty, 4.0), expected)
    classes = decayed_scores(torch.stack((scores, scores), dim=1), uncertainty, 4.0)
    torch.testing.assert_close(classes, torch.stack((expected, expected), dim=1))


def test_scores_fall_where_the_uncertainty_is_known_and_stay_elsewhere():
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, 0]]).repeat(3, 1)
    std, scores = torch.full((3, 7), 0.1), torch.tensor([0.9, 0.5, 0.2])
    std[1, 4] = math.nan
    found = decayed_where_known(scores, std, boxes, 2.0)
    uncertainty = relative_uncertainty(std, boxes)
    expected = torch.stack(
        (0.9 * torch.exp(-2 * uncertainty[0]), scores[1], 0.2 * torch.exp(-2 * uncertainty[2]))
    )
    torch.testing.assert_close(found, expected)
    assert scores.tolist() == pytest.approx([0.9, 0.5, 0.2])


def test_no_boxes_have_no_uncertainty():
    assert relative_uncertainty(torch.zeros(0, 7), torch.zeros(0, 7)).shape == (0,)
    assert decayed_scores(torch.zeros(0, 3), torch.zeros(0), 1.0).shape == (0, 3)


def test_unknown_uncertainty_is_refused_with_its_row_and_the_remedy():
    with pytest.raises(ValueError, match=r"row 1.*train it"):
        decayed_scores(torch.ones(2), torch.tensor([0.1, math.nan]), 1.0)


@pytest.mark.parametrize("decay", [-1.0, math.nan, math.inf])
def test_decay_out_of_range_is_refused(decay: float):
    with pytest.raises(ValueError, match="score_decay"):
        decayed_scores(torch.ones(1), torch.ones(1), decay)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="std must have shape"):
        relative_uncertainty(torch.ones(2, 6), torch.ones(2, 7))


@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_one_uncertainty_does_not_serve_many_scores(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"uncertainty must have shape \(N,\)"):
        decayed_scores(torch.ones(shape), torch.ones(1), 1.0)
