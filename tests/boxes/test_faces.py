from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ebm3d.boxes.corners import corners_3d
from ebm3d.boxes.faces import (
    containment_scale,
    face_excess,
    face_std,
    with_margins,
)

_NUM = 8


def _boxes(rng: np.random.Generator, num: int = _NUM) -> np.ndarray:
    center = rng.normal(0, 20, (num, 2)), rng.normal(-1, 0.3, num)
    sizes = rng.uniform(1.5, 5, num), rng.uniform(0.6, 2, num), rng.uniform(1, 2, num)
    return np.column_stack([*center, *sizes, rng.uniform(-4, 4, num)])


def _others(rng: np.random.Generator, boxes: np.ndarray, num: int) -> np.ndarray:
    scale = np.array([0.3, 0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    others = boxes[:, None] + scale * rng.normal(size=(len(boxes), num, 7))
    others[..., 3:6] = others[..., 3:6].clip(0.2)
    return others


def _covariance(rng: np.random.Generator) -> np.ndarray:
    root = rng.normal(size=(_NUM, 7, 7)) * 0.05
    return root @ root.swapaxes(1, 2)


def _outside(inner: np.ndarray, box: np.ndarray) -> float:
    """How far the farthest corner of one box lies outside another; independent of the package."""
    corners = corners_3d(torch.tensor(inner[None]))[0].numpy() - box[:3]
    turn = np.array([[np.cos(box[6]), -np.sin(box[6])], [np.sin(box[6]), np.cos(box[6])]])
    sides = np.abs(corners[:, :2] @ turn) - box[3:5] / 2
    return float(max(sides.max(), (-corners[:, 2]).max(), (corners[:, 2] - box[5]).max()))


def test_excess_is_the_least_margin_that_holds_the_other_box(rng):
    boxes = _boxes(rng)
    others = _others(rng, boxes, 1)
    excess = face_excess(boxes, others)[:, 0]
    for margin, held in ((0.0, True), (-1e-3, False)):
        outer = with_margins(boxes, excess + margin)
        for box, other in zip(outer, others[:, 0], strict=True):
            assert (_outside(other, box) <= 1e-9) == held


def test_containment_scale_is_the_least_that_lies_inside(rng):
    boxes = _boxes(rng, 40)
    others = _others(rng, boxes, 1)
    spread = rng.uniform(0.02, 0.2, (40, 6))
    scale = containment_scale(boxes, others, spread)
    assert (scale > 0).all()
    for factor, lies in ((1 + 1e-9, True), (0.99, False)):
        inner = with_margins(boxes, -factor * scale * spread)
        for box, other in zip(inner, others[:, 0], strict=True):
            is_empty = (box[3:6] <= 1e-9).any()
            assert is_empty or (_outside(box, other) <= 1e-8) == lies


def test_containment_stops_at_an_empty_box(rng):
    boxes = _boxes(rng)
    far = boxes[:, None] + np.array([100.0, 0, 0, 0, 0, 0, 0])
    spread = rng.uniform(0.02, 0.2, (_NUM, 6))
    inner = with_margins(boxes, -containment_scale(boxes, far, spread) * spread)
    np.testing.assert_allclose(inner[:, 3:6].min(axis=1), 0, atol=1e-12)


def test_std_of_a_face_is_that_of_its_less_certain_corner(rng):
    boxes, covariance = _boxes(rng), 1e-4 * _covariance(rng)
    for box, cov, std in zip(boxes, covariance, face_std(boxes, covariance), strict=True):
        drawn = np.vstack([box, rng.multivariate_normal(box, cov, 20_000)])
        cos, sin = np.cos(box[6]), np.sin(box[6])
        corners = corners_3d(torch.tensor(drawn)).numpy() - box[:3] - [0, 0, box[5] / 2]
        corners = corners @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        for face, (axis, sign) in enumerate(itertools.product(range(3), (-1, 1))):
            on_face = sign * corners[0, :, axis] > 0
            expected = corners[:, on_face, axis].std(axis=0).max()
            np.testing.assert_allclose(std[face], expected, rtol=5 / np.sqrt(2 * 20_000))


def test_a_rear_that_is_seen_is_certain_though_center_and_length_are_not():
    covariance = np.zeros((1, 7, 7))
    covariance[0, 0, 0], covariance[0, 3, 3], covariance[0, 0, 3] = 0.25, 1.0, 0.5
    covariance += covariance.swapaxes(1, 2) * (1 - np.eye(7))
    std = face_std(np.array([[20.0, 0, 0, 4, 2, 1.5, 0]]), covariance)
    np.testing.assert_allclose(std[0, :2], [0.0, 1.0], atol=1e-7)


def test_faces_move_with_the_scene(rng):
    boxes = _boxes(rng)
    others, covariance = _others(rng, boxes, 3), _covariance(rng)
    turn = np.eye(7)
    turn[:2, :2] = [[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]]
    shift = np.array([3.0, -5.0, 1.0, 0, 0, 0, 0.7])
    moved, moved_others = boxes @ turn.T + shift, others @ turn.T + shift
    np.testing.assert_allclose(face_excess(moved, moved_others), face_excess(boxes, others))
    margins = face_std(boxes, covariance)
    np.testing.assert_allclose(face_std(moved, turn @ covariance @ turn.T), margins)
    np.testing.assert_allclose(
        with_margins(moved, margins), with_margins(boxes, margins) @ turn.T + shift
    )
    flipped = others + np.array([0, 0, 0, 0, 0, 0, np.pi])
    np.testing.assert_allclose(face_excess(boxes, flipped), face_excess(boxes, others), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda b: face_excess(b[:, :6], b[:, None]), "boxes"),
        (lambda b: face_excess(b, b), "others"),
        (lambda b: with_margins(b, b), "margins"),
        (lambda b: face_std(b, b[:, :6]), "covariance"),
    ],
)
def test_shapes_that_do_not_fit_are_named(rng, call, name):
    with pytest.raises(ValueError, match=name):
        call(_boxes(rng))
