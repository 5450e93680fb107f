from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ebm3d.errors import (
    can_read,
    check_count,
    check_labels,
    check_positive,
    check_valid_boxes,
    is_number,
    is_valid_box,
)

_NO_NUMBERS = ["3", None, [3], True, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", [0, -1, 2.5, 1e30, *_NO_NUMBERS])
def test_what_is_no_count_is_named(value: Any):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        check_count("num_samples", value)


@pytest.mark.parametrize("value", [0, 0.0, -1, *_NO_NUMBERS])
def test_what_is_not_positive_is_named(value: Any):
    with pytest.raises(ValueError, match="width must be positive"):
        check_positive("width", value)


def test_numbers_of_numpy_are_numbers():
    check_count("num_samples", np.int64(3))
    check_count("num_steps", 0, least=0)
    check_positive("width", np.float32(0.5))
    assert is_number(np.float64(0))
    assert not any(is_number(value) for value in (*_NO_NUMBERS, 10**400))


def test_valid_boxes_are_finite_and_of_positive_size():
    boxes = torch.ones(4, 9)
    boxes[1, 6], boxes[2, 5], boxes[3, 8] = math.inf, 0.0, math.nan
    assert is_valid_box(boxes).tolist() == [True, False, False, True]
    assert check_valid_boxes(torch.zeros(0, 7)) is None


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.ones(2, 6), r"true must have shape \(N, 7\)"),
        (torch.ones(2, 7, dtype=torch.int64), r"floating-point.*true\.float\(\)"),
        (np.ones((2, 7)), "true must be a torch.Tensor"),
        (None, "true must have shape"),
        (torch.tensor([[1.0] * 7, [math.nan] * 7]), r"true\[1\]"),
        (torch.tensor([[1.0] * 7, [1.0] * 5 + [0.0, 1.0]]), r"true\[1\]"),
    ],
)
def test_what_are_no_valid_boxes_is_named(boxes: Any, message: str):
    with pytest.raises(ValueError, match=message):
        check_valid_boxes(boxes, "true")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 2]), "labels must be from 0 to 1, but got 0 to 2; give stds"),
        (torch.tensor([-1, 0]), "labels must be from 0 to 1"),
        (torch.tensor([0]), r"labels must have shape \(2,\)"),
        (torch.zeros(2), r"labels must be whole numbers.*labels\.long\(\)"),
        (torch.zeros(2, dtype=torch.bool), "labels must be whole numbers"),
        (torch.zeros(2, dtype=torch.uint8), "labels must be whole numbers"),
    ],
)
def test_labels_without_a_row_are_named(labels: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 2, 2, "stds")


def test_one_row_serves_all_labels_and_no_labels_are_fine():
    assert check_labels(torch.tensor([7, -1]), 2, 1, "stds") is None
    assert check_labels(torch.zeros(0, dtype=torch.int64), 0, 2, "stds") is None


def test_values_of_another_device_are_read_only_if_told():
    boxes = torch.ones(2, 7, device="meta")
    assert can_read(torch.ones(1))
    assert not can_read(torch.ones(1), boxes)
    assert check_valid_boxes(boxes) is None
    with pytest.raises(RuntimeError, match="meta"):
        check_valid_boxes(boxes, wait=True)
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    assert check_labels(labels, 2, 3, "stds") is None
    with pytest.raises(RuntimeError, match="meta"):
        check_labels(labels, 2, 3, "stds", wait=True)
