"""Heads under autocast: features may be of half precision, boxes and f never are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from ebm3d.adapters.detectors import MapsAndPoints
from tests.adapters.refined import build_frames, build_head
from tests.adapters.regressed import build_regression_head, refined_by
from tests.adapters.test_refined_dense_head import _build, _map, _samples

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:DeprecationWarning. pos_:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*GradScaler.* is deprecated:FutureWarning"),
]


def _wrapper(head: torch.nn.Module) -> Any:
    """The optimizer wrapper that --amp chooses on this machine."""
    from mmengine import Config
    from mmengine.registry import OPTIM_WRAPPERS

    from ebm3d.adapters.engine import apply_amp

    cfg = Config({"optim_wrapper": {"type": "OptimWrapper"}})
    apply_amp(cfg)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    return OPTIM_WRAPPERS.build({**cfg.optim_wrapper, "optimizer": optimizer})


def _device() -> torch.device:
    """Where the runner would put a model."""
    from mmengine.device import get_device

    return torch.device(get_device())


@pytest.mark.parametrize("detector", ["frozen", "joint"])
def test_a_training_in_mixed_precision_stays_finite_and_moves_the_parameters(detector: str):
    device = _device()
    head, frames = _build(detector=detector).to(device), build_frames((3, 2))
    wrapper, bev = _wrapper(head), _map().to(device)
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    for _ in range(3):
        samples = [sample.to(device) for sample in _samples(frames)]
        with wrapper.optim_context(head):
            features = torch.nn.functional.conv2d(bev, torch.ones(8, 8, 1, 1, device=device))
            assert features.dtype in (torch.bfloat16, torch.float16)
            points = [cloud.to(device) for cloud in frames.points]
            losses = head.loss(MapsAndPoints([features], points), samples)
        total = sum(
            v if isinstance(v, torch.Tensor) else sum(v)
            for name, v in losses.items()
            if "loss" in name
        )
        assert losses["loss_ebm"].dtype == torch.float32
        assert bool(torch.isfinite(total))
        wrapper.update_params(total)
    for name, parameter in head.named_parameters():
        assert parameter.dtype == torch.float32
        assert bool(torch.isfinite(parameter).all()), name
    moved = {n for n, p in head.named_parameters() if not torch.equal(p, before[n])}
    assert any(name.startswith("refinement_head.pools") for name in moved)
    assert any(name.startswith("dense_head") for name in moved) == (detector == "joint")


@pytest.mark.parametrize("build", [build_head, build_regression_head], ids=["ebm", "regression"])
def test_refining_a_map_of_half_precision_is_that_of_the_same_map_in_float32(build: Any):
    head, frames = build(), build_frames()
    frames.bev = frames.bev.bfloat16().float()
    expected = refined_by(head, frames)
    frames.bev = frames.bev.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = refined_by(head, frames)
    for own, other in zip(found, expected, strict=True):
        for name, value in own.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == torch.float32, name
                torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True)


def test_predictions_under_autocast_have_boxes_and_f_of_float32():
    device = _device()
    head, frames = _build().to(device), build_frames()
    samples = [sample.to(device) for sample in _samples(frames)]
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    with torch.no_grad(), torch.autocast(device.type, dtype=half):
        points = [cloud.to(device) for cloud in frames.points]
        results = head.predict(MapsAndPoints([_map().to(device)], points), samples)
    for result in results:
        assert len(result.scores_3d)
        for value in (result.bboxes_3d.tensor, result.f_initial, result.f_refined):
            assert value.dtype == torch.float32
            assert bool(torch.isfinite(value).all())
