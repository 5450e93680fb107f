"""Heads on a GPU: their figures there are those of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head
from tests.adapters.regressed import REGRESSION_HEAD, build_regression_head, losses_of, refined_by

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

# Four steps of an ascent in float32, whose sums are taken in another order.
_CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def _on(frames: Frames, device: torch.device) -> Frames:
    """The frames on a device."""
    lists = (frames.points, frames.boxes, frames.labels, frames.scores)
    return Frames(frames.bev.to(device), *([t.to(device) for t in part] for part in lists))


def _pair(build: Any, cuda: torch.device, **options: Any) -> tuple[Any, Any]:
    """The same head on the CPU and on the GPU."""
    head, other = build(**options), build(**options).to(cuda)
    other.load_state_dict(head.state_dict())
    return head, other


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
    head, other = _pair(build, cuda, **options)
    frames = build_frames((3, 0, 4))
    expected, found = refined_by(head, frames), refined_by(other, _on(frames, cuda))
    for own, wanted in zip(found, expected, strict=True):
        assert set(own) == set(wanted)
        for name, value in own.items():
            if isinstance(value, Tensor):
                assert value.device.type == "cuda", name
                torch.testing.assert_close(value.cpu(), wanted[name], equal_nan=True, **_CLOSE)


@pytest.mark.parametrize("build", [build_head, build_regression_head], ids=["ebm", "regression"])
def test_losses_are_finite_and_reach_every_parameter(build: Any, cuda: torch.device):
    head, frames = build().to(cuda), _on(build_frames((4, 2)), cuda)
    losses = losses_of(head, frames)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert all(value.device.type == "cuda" for value in losses.values())
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())


def test_heads_of_a_group_learn_as_they_do_alone(cuda: torch.device):
    from mmdet3d.registry import MODELS

    heads = {"ebm": REFINEMENT_HEAD, "regression": REGRESSION_HEAD}
    group = MODELS.build({"type": "RefinementHeadGroup", "heads": heads}).to(cuda)
    frames = _on(build_frames(), cuda)
    torch.manual_seed(9)
    seed = int(torch.randint(2**62, ()))
    alone = losses_of(group.heads["regression"], frames, seed=seed)["loss_regression"]
    together = losses_of(group, frames, seed=9)["regression.loss_regression"]
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("build", [build_head, build_regression_head], ids=["ebm", "regression"])
def test_what_a_comparison_keeps_of_a_run_is_on_the_cpu(build: Any, cuda: torch.device):
    from ebm3d.adapters.engine.head_evaluation import (
        HeadRun,
        calibration_pairs,
        fit_run_temperature,
        run_head,
    )
    from tests.adapters.engine.shifting import frame, instances

    head, run, frames = build().to(cuda), HeadRun(), _on(build_frames((6,)), cuda)
    rows = torch.arange(6, device=cuda)
    detected = frame("a", frames.boxes[0], bev=frames.bev, points=frames.points)
    fields = {"result": instances(frames.boxes[0]).to(cuda), "pairs": torch.stack((rows, rows), 1)}
    run_head(head, type(detected)(**{**vars(detected), **fields}), run)
    kept = [*run.boxes, *run.truths, *run.f_truths, run.densities[0].std]
    assert all(value.device.type == "cpu" for value in kept)
    assert run.samples[0]["pred_instances_3d"].bboxes_3d.tensor.device.type == "cpu"
    pairs = calibration_pairs(run, fit_run_temperature(run))
    assert pairs is not None
    assert pairs.log_prob.shape == (6,)
