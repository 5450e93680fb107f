"""A box is refined the same whatever boxes and frames are refined with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_FEW = {"num_samples": 32, "num_rounds": 3}
_OPTIONS: dict[str, dict[str, Any]] = {
    "importance": {"uncertainty": "importance"},
    "laplace": {"uncertainty": "laplace"},
    "log density by samples": {"log_density": {"method": "importance", **_FEW}},
    "log density by curvature": {"log_density": {"method": "laplace"}},
}
every_option = pytest.mark.parametrize("options", _OPTIONS.values(), ids=list(_OPTIONS))


def _refine(head: Any, frames: Frames) -> list[dict[str, Tensor]]:
    # A few steps: many amplify the rounding that differs with the size of a matrix product.
    refined = head.refine(frames.bev, frames.points, frames.boxes, frames.labels, frames.scores)
    for out in refined:
        out.pop("box_distribution", None)
    return list(refined)


def _build(options: dict[str, Any]) -> Any:
    return build_head(refiner={**REFINEMENT_HEAD["refiner"], "num_steps": 1}, **options)


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], rows: slice) -> None:
    assert set(found) == set(expected)
    for name, value in found.items():
        # Float32 of a network whose products are of other sizes; draws of their own are far off.
        torch.testing.assert_close(value, expected[name][rows], rtol=1e-3, atol=1e-4, msg=name)


@every_option
def test_batch_is_frame_by_frame(options: dict[str, Any]):
    torch.manual_seed(0)
    head, frames = _build(options), build_frames((3, 0, 4))
    together = _refine(head, frames)
    for index in range(3):
        (alone,) = _refine(head, frames.one(index))
        _assert_equal(alone, together[index], slice(None))


@every_option
def test_one_more_box_changes_no_other(options: dict[str, Any]):
    torch.manual_seed(1)
    head, frames = _build(options), build_frames((5,))
    (more,) = _refine(head, frames)
    for rows in (slice(0, 4), slice(1, 5)):
        fewer = Frames(
            frames.bev,
            frames.points,
            [frames.boxes[0][rows]],
            [frames.labels[0][rows]],
            [frames.scores[0][rows]],
        )
        _assert_equal(_refine(head, fewer)[0], more, rows)


@every_option
def test_every_call_gives_the_same_numbers(options: dict[str, Any]):
    head, frames = _build(options), build_frames()
    for one, again in zip(_refine(head, frames), _refine(head, frames), strict=True):
        assert all(torch.equal(one[name], again[name]) for name in one)
