from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebm3d.boxes.iou import iou_bev
from ebm3d.densities.voting import VarianceVoting

pytestmark = pytest.mark.usefixtures("float64")


def _scene(copies: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two kept boxes of two classes; around each of them candidates of both, two flipped by pi."""
    kept = torch.tensor(
        [[10.0, 2, -1.7, 4, 1.7, 1.5, math.pi - 0.02], [11.5, 2.4, -1.6, 3.8, 1.6, 1.6, 0.9]]
    )
    candidates = kept.repeat(copies, 1)
    candidates[2:] += 0.15 * torch.randn(2 * copies - 2, 7)
    candidates[3, 6] += math.pi
    candidates[4, 6] -= math.pi
    variances = 0.01 + torch.rand(len(candidates), 7)
    classes = torch.arange(len(candidates)) % 3 > 0
    same_class = torch.stack((classes, ~classes | (torch.arange(len(candidates)) == 1)))
    same_class[0, 0] = True
    return kept, candidates, variances, same_class


def _by_loops(voting: VarianceVoting, scene: tuple[Tensor, ...], yaw_period: float) -> Tensor:
    kept, candidates, variances, same_class = scene
    overlaps = iou_bev(kept.numpy(), candidates.numpy())
    result = kept.clone()
    for k in range(len(kept)):
        for d in range(7):
            above = below = 0.0
            for m in range(len(candidates)):
                overlap = overlaps[k, m]
                if not same_class[k, m] or overlap <= voting.iou_threshold:
                    continue
                weight = math.exp(-((1 - overlap) ** 2) / voting.temperature)
                weight /= float(variances[m, d])
                value = float(candidates[m, d])
                if d == 6:  # the image nearest to the kept box's yaw
                    value -= yaw_period * round((value - float(kept[k, 6])) / yaw_period)
                above += weight * value
                below += weight
            result[k, d] = above / below
    return result


@pytest.mark.parametrize("yaw_period", [math.pi, 2 * math.pi])
@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_vote_is_the_weighted_mean_of_a_double_loop(yaw_period: float, threshold: float):
    scene, voting = _scene(), VarianceVoting(threshold, 0.3)
    expected = _by_loops(voting, scene, yaw_period)
    assert float((expected - scene[0]).abs().min()) > 1e-4
    before = [t.clone() for t in scene]
    torch.testing.assert_close(voting(*scene, yaw_period), expected)
    assert all(torch.equal(a, b) for a, b in zip(scene, before, strict=True))


def test_boxes_without_voters_stay():
    kept, candidates, variances, same_class = _scene()
    isolated = torch.cat((kept[:1], kept[:1] + 50))
    voted = VarianceVoting(0.0, 1.0)(kept[:1], isolated, variances[:2], same_class[:1, :2], math.pi)
    torch.testing.assert_close(voted, kept[:1])
    kept[0, 3:6] = candidates[0, 3:6] = 0.0  # without area
    voted = VarianceVoting(0.0, 1.0)(kept, candidates, variances, same_class, math.pi)
    assert torch.equal(voted[0], kept[0])


def test_candidate_of_no_variance_outvotes_the_others():
    kept, candidates, variances, same_class = _scene()
    variances[2] = 0.0
    same_class[:] = True
    voted = VarianceVoting(0.0, 10.0)(kept[:1], candidates, variances, same_class[:1], math.pi)
    torch.testing.assert_close(voted[0], candidates[2], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("num_kept", "num_candidates"), [(0, 3), (0, 0)])
def test_no_kept_box_is_no_voted_box(num_kept: int, num_candidates: int):
    voted = VarianceVoting(0.1, 1.0)(
        torch.zeros(num_kept, 7),
        torch.rand(num_candidates, 7),
        torch.ones(num_candidates, 7),
        torch.ones(num_kept, num_candidates, dtype=torch.bool),
        math.pi,
    )
    assert voted.shape == (num_kept, 7)


@pytest.mark.parametrize("changed", [2, 3])
def test_shapes_that_do_not_fit_are_refused(changed: int):
    scene = list(_scene())
    scene[changed] = scene[changed][:, :-1]
    with pytest.raises(ValueError, match="must have shape"):
        VarianceVoting(0.1, 1.0)(*scene, math.pi)


@pytest.mark.parametrize(
    ("threshold", "temperature", "name"),
    [(-0.1, 1.0, "iou_threshold"), (1.0, 1.0, "iou_threshold"), (0.1, 0.0, "temperature")],
)
def test_option_out_of_range_is_refused(threshold: float, temperature: float, name: str):
    with pytest.raises(ValueError, match=name):
        VarianceVoting(threshold, temperature)
