"""Heads on a GPU: their figures there are those of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import (
    REFINEMENT_HEAD,
    build_frames,
    build_head,
    build_regression_head,
    losses_of,
    refine,
)
from tests.adapters.tiny import sum_losses

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (build_head, {}),
        (build_head, {"refiner": {**REFINEMENT_HEAD["refiner"], "type": "QuasiNewtonAscent"}}),
        (build_head, {"uncertainty": "laplace", "score_decay": 5.0}),
        (build_regression_head, {"num_iterations": 2, "score_decay": 5.0}),
    ],
    ids=["ascent", "quasi-Newton", "laplace", "regression"],
)
def test_boxes_are_refined_as_on_the_cpu(build: Any, options: dict[str, Any], cuda: torch.device):
    head, other = build(**options), build(**options).to(cuda)
    other.load_state_dict(head.state_dict())
    frames = build_frames((3, 0, 4))
    for one, expected in zip(refine(other, frames.to(cuda)), refine(head, frames), strict=True):
        assert set(one) == set(expected)
        for name, value in one.items():
            if isinstance(value, Tensor):
                assert value.device.type == "cuda", name
                # Steps in float32, whose sums are taken in another order.
                torch.testing.assert_close(
                    value.cpu(), expected[name], equal_nan=True, rtol=1e-3, atol=1e-3
                )


@pytest.mark.parametrize("build", [build_head, build_regression_head], ids=["ebm", "regression"])
def test_losses_are_finite_and_reach_every_parameter(build: Any, cuda: torch.device):
    head = build().to(cuda)
    losses = losses_of(head, build_frames((4, 2)).to(cuda))
    sum_losses(losses).backward()
    assert all(value.device.type == "cuda" for value in losses.values())
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
