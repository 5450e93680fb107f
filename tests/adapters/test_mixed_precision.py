"""Heads under autocast: features may be of half precision, boxes and f never are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from ebm3d.adapters.detectors import MapsAndPoints
from tests.adapters.refined import (
    build_frames,
    build_head,
    build_refined,
    build_regression_head,
    losses_of,
    predict,
    refine,
    samples_of,
)
from tests.adapters.tiny import HOST_WARNINGS, sum_losses

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    *HOST_WARNINGS,
    pytest.mark.filterwarnings("ignore:.*GradScaler.* is deprecated:FutureWarning"),
]


def _device() -> torch.device:
    """Where the runner would put a model."""
    from mmengine.device import get_device

    return torch.device(get_device())


@pytest.mark.parametrize("detector", ["frozen", "joint"])
def test_training_in_mixed_precision_stays_finite_and_moves_the_parameters(detector: str):
    from mmengine import Config
    from mmengine.registry import OPTIM_WRAPPERS

    from ebm3d.adapters.engine import apply_amp

    device = _device()
    head, frames = build_refined(detector=detector).to(device), build_frames().to(device)
    cfg = Config({"optim_wrapper": {"type": "OptimWrapper"}})
    apply_amp(cfg)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    wrapper = OPTIM_WRAPPERS.build({**cfg.optim_wrapper, "optimizer": optimizer})
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    for _ in range(3):
        with wrapper.optim_context(head):
            bev = torch.nn.functional.conv2d(frames.bev, torch.ones(8, 8, 1, 1, device=device))
            assert bev.dtype in (torch.bfloat16, torch.float16)
            losses = head.loss(MapsAndPoints([bev], frames.points), samples_of(frames))
        assert losses["loss_ebm"].dtype == torch.float32
        assert bool(torch.isfinite(sum_losses(losses)))
        wrapper.update_params(sum_losses(losses))
    for name, parameter in head.named_parameters():
        assert parameter.dtype == torch.float32
        assert bool(torch.isfinite(parameter).all()), name
    moved = {n for n, p in head.named_parameters() if not torch.equal(p, before[n])}
    assert any(name.startswith("refinement_head.pools") for name in moved)
    assert any(name.startswith("dense_head") for name in moved) == (detector == "joint")


@pytest.mark.parametrize("build", [build_head, build_regression_head], ids=["ebm", "regression"])
def test_a_map_of_half_precision_serves_as_the_same_map_in_float32(build: Any):
    head, frames = build(), build_frames()
    frames.bev = frames.bev.bfloat16().float()
    expected, losses = refine(head, frames), losses_of(head, frames)
    frames.bev = frames.bev.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = refine(head, frames)
        torch.testing.assert_close(losses_of(head, frames), losses)
    for one, other in zip(found, expected, strict=True):
        for name, value in one.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == torch.float32, name
                torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True)


def test_predictions_under_autocast_have_boxes_and_f_of_float32():
    device = _device()
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    with torch.autocast(device.type, dtype=half):
        results = predict(build_refined().to(device), build_frames().to(device))
    for result in results:
        assert len(result.scores_3d)
        for value in (result.bboxes_3d.tensor, result.f_initial, result.f_refined):
            assert value.dtype == torch.float32
            assert bool(torch.isfinite(value).all())
