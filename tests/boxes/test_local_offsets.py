from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes import add_local_offsets, local_offsets, wrap_to_pi


def test_adding_offsets_and_reading_them_is_the_identity(random_boxes: NDArray[np.float64]):
    reference = torch.from_numpy(random_boxes)
    offsets = torch.randn(64, 7, dtype=torch.float64)
    offsets[:, 6] = wrap_to_pi(offsets[:, 6])
    moved = add_local_offsets(reference, offsets)
    torch.testing.assert_close(local_offsets(reference, moved), offsets)


def test_reading_offsets_and_adding_them_is_the_identity(random_boxes: NDArray[np.float64]):
    boxes = torch.from_numpy(random_boxes)
    reference = boxes.roll(1, dims=0)
    again = add_local_offsets(reference, local_offsets(reference, boxes))
    torch.testing.assert_close(again, boxes)


def test_along_is_the_heading_and_across_is_to_its_left():
    reference = torch.tensor([5.0, 3.0, -1.0, 4.0, 2.0, 1.5, math.pi / 2], dtype=torch.float64)
    along = torch.tensor([1.0, 0.5, 0.25, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    moved = add_local_offsets(reference, along)
    expected = torch.tensor(
        [4.5, 4.0, -0.75, 4.1, 2.2, 1.8, math.pi / 2 + 0.4], dtype=torch.float64
    )
    torch.testing.assert_close(moved, expected)


def test_offsets_preserve_volume(random_boxes: NDArray[np.float64]):
    reference = torch.from_numpy(random_boxes[0])
    jacobian = torch.autograd.functional.jacobian(
        lambda offsets: add_local_offsets(reference, offsets), torch.zeros(7, dtype=torch.float64)
    )
    torch.testing.assert_close(torch.det(jacobian), torch.tensor(1.0, dtype=torch.float64))


def test_yaw_difference_is_taken_the_short_way_round():
    reference = torch.tensor([0.0, 0, 0, 4, 2, 1.5, 3.1], dtype=torch.float64)
    box = torch.tensor([0.0, 0, 0, 4, 2, 1.5, -3.1], dtype=torch.float64)
    expected = torch.tensor(2 * math.pi - 6.2, dtype=torch.float64)
    torch.testing.assert_close(local_offsets(reference, box)[6], expected)
