"""IoU of rotated boxes against rational arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.adapters.operators import chunks
from tests.adapters.operators.calls import ops
from tests.oracles.iou_rational import rational_iou

pytestmark = pytest.mark.usefixtures("path")


def boxes_around(rng: np.random.Generator, num: int) -> Tensor:
    """Boxes (x, y, w, h, angle) that overlap often, float64."""
    return torch.from_numpy(rng.uniform([-3, -3, 0.5, 0.5, -4], [3, 3, 5, 5, 4], (num, 5)))


def slow_ratio(first: Tensor, second: Tensor, mode: str) -> float:
    """Rational IoU, and by it the common part of the first box."""
    pair = [np.insert(box.numpy(), (2, 4), 1.0) for box in (first, second)]
    iou = rational_iou(*pair)[0]
    area, other = (float(box[2] * box[3]) for box in (first, second))
    return iou if mode == "iou" else iou * (area + other) / (1.0 + iou) / area


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("pairs_at_once", [1 << 18, 25])
def test_ratios_match_rational_arithmetic(rng, monkeypatch, mode, pairs_at_once):
    monkeypatch.setattr(chunks, "PAIRS_AT_ONCE", pairs_at_once)
    first, second = boxes_around(rng, 12), boxes_around(rng, 9)
    expected = np.array([[slow_ratio(a, b, mode) for b in second] for a in first])
    ratios = ops.box_iou_rotated(first, second, mode, aligned=False)
    np.testing.assert_allclose(ratios, expected, rtol=0, atol=1e-12)
    assert (expected > 0.1).sum() > 20
    aligned = ops.box_iou_rotated(first[:9], second, mode, aligned=True)
    assert torch.equal(aligned, ratios[:9].diagonal())


def test_boxes_without_area_overlap_nothing():
    boxes = torch.tensor([[0.0, 0, 4, 2, 0.5], [0, 0, 0, 2, 0.5], [0, 0, 1e-8, 1e-8, 0]])
    expected = torch.zeros(3, 3)
    expected[0, 0] = 1.0
    for mode in ("iou", "iof"):
        torch.testing.assert_close(ops.box_iou_rotated(boxes, boxes, mode, False), expected)
    assert ops.box_iou_rotated(boxes, boxes[:0], "iou", False).shape == (3, 0)
    assert ops.box_iou_rotated(boxes[:0], boxes[:0], "iou", True).shape == (0,)


def test_bad_boxes_are_refused():
    """Whole numbers too: an IoU in their type would be cut to 0."""
    good = torch.rand(3, 5)
    for bad in (torch.rand(3, 4), torch.rand(3, 7), torch.rand(5), torch.ones(3, 5).int()):
        for pair, name in (((bad, good), "boxes1"), ((good, bad), "boxes2")):
            with pytest.raises(ValueError, match=name):
                ops.box_iou_rotated(*pair, "iou", aligned=False)
    with pytest.raises(ValueError, match="as many as boxes1"):  # a kernel would read on
        ops.box_iou_rotated(torch.rand(40, 5), good, "iou", aligned=True)
