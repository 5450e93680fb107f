from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from tests.adapters.refined import (
    Detector,
    Frames,
    build_frames,
    build_refined,
    dense_config,
    predict,
    samples_of,
)
from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]


def _stock() -> Any:
    from mmdet3d.registry import MODELS

    config = dense_config()
    return MODELS.build({**config.pop("dense_head"), **config})


def _loss(head: Any, frames: Frames) -> dict[str, Any]:
    from ebm3d.adapters.detectors import MapsAndPoints

    return head.loss(MapsAndPoints([frames.bev], frames.points), samples_of(frames))


@pytest.mark.parametrize("library", ["torch", "mmengine"])
def test_checkpoint_of_the_stock_head_loads_unchanged(library: str):
    from mmengine.runner.checkpoint import load_state_dict

    load = nn.Module.load_state_dict if library == "torch" else load_state_dict
    stock, refined = Detector(_stock()), Detector(build_refined())
    for parameter in stock.parameters():
        nn.init.normal_(parameter)
    state = stock.state_dict()
    names = set(state)
    load(refined, state, strict=False)
    for name, value in stock.bbox_head.state_dict().items():
        assert torch.equal(refined.bbox_head.dense_head.state_dict()[name], value)
    assert set(state) == names


def test_keys_that_a_stock_checkpoint_misses_or_adds_are_reported():
    state = Detector(_stock()).state_dict()
    state["bbox_head.conv_other.weight"] = torch.zeros(1)
    missing, unexpected = Detector(build_refined()).load_state_dict(state, strict=False)
    assert unexpected == ["bbox_head.dense_head.conv_other.weight"]
    assert missing
    assert all(name.startswith("bbox_head.refinement_head.") for name in missing)


def test_refined_checkpoint_loads_strictly():
    first, second = Detector(build_refined()), Detector(build_refined())
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict(), strict=True)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_prediction_keeps_scores_labels_order_and_the_boxes_before():
    head, frames = build_refined().eval(), build_frames()
    with torch.no_grad():
        expected = head.dense_head.predict([frames.bev], samples_of(frames))
        maps = zip(head([frames.bev]), head.dense_head([frames.bev]), strict=True)
        assert all(torch.equal(one[0], other[0]) for one, other in maps)
    for stock, refined in zip(expected, predict(head, frames), strict=True):
        assert len(stock) == 12
        assert torch.equal(refined.scores_3d, stock.scores_3d)
        assert torch.equal(refined.labels_3d, stock.labels_3d)
        assert torch.equal(refined.initial_bboxes_3d.tensor, stock.bboxes_3d.tensor)
        assert type(refined.bboxes_3d) is type(stock.bboxes_3d)
        moved = (refined.bboxes_3d.tensor - stock.bboxes_3d.tensor).abs().amax(dim=1)
        assert bool((moved > 1e-5).any())
        assert bool((refined.f_refined >= refined.f_initial).all())
    head.refine = False
    for stock, plain in zip(expected, predict(head, frames), strict=True):
        assert set(plain.keys()) == set(stock.keys())
        assert torch.equal(plain.bboxes_3d.tensor, stock.bboxes_3d.tensor)


def test_batch_predicts_as_frame_by_frame_also_in_inference_mode():
    head, frames = build_refined(), build_frames()
    together = predict(head, frames)
    for index, expected in enumerate(together):
        with torch.inference_mode():
            part = frames.one(index)
            part.bev = part.bev + 0
            (alone,) = predict(head, part)
        torch.testing.assert_close(
            alone.bboxes_3d.tensor, expected.bboxes_3d.tensor, atol=1e-4, rtol=1e-4
        )


def test_velocities_pass_through(monkeypatch: pytest.MonkeyPatch):
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    head, frames = build_refined(), build_frames()
    boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]

    def dense(*_: Any, **__: Any) -> list[InstanceData]:
        return [
            InstanceData(bboxes_3d=LiDARInstance3DBoxes(b, box_dim=9), scores_3d=s, labels_3d=lab)
            for b, s, lab in zip(boxes, frames.scores, frames.labels, strict=True)
        ]

    monkeypatch.setattr(head.dense_head, "predict", dense)
    for result, detected in zip(predict(head, frames), boxes, strict=True):
        assert torch.equal(result.bboxes_3d.tensor[:, 7:], detected[:, 7:])
        assert not torch.equal(result.bboxes_3d.tensor[:, :7], detected[:, :7])


def test_no_detections_are_predicted_as_none():
    head = build_refined()
    head.dense_head.test_cfg.score_thr = 1.1
    for result in predict(head, build_frames()):
        assert len(result.bboxes_3d) == len(result.f_initial) == len(result.f_refined) == 0


def test_frozen_detector_gets_no_gradient():
    head, frames = build_refined(detector="frozen"), build_frames()
    frames.bev.requires_grad_()
    losses = _loss(head, frames)
    assert set(losses) == {"loss_ebm", "ebm_rank_first"}
    losses["loss_ebm"].backward()
    assert frames.bev.grad is None
    assert all(p.grad is None for p in head.dense_head.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in head.refinement_head.parameters())


@pytest.mark.parametrize("detector", ["joint", "detached"])
def test_a_trained_detector_adds_its_losses_and_the_heads_reach_it_if_joint(detector: str):
    head, frames = build_refined(detector=detector), build_frames()
    frames.bev.requires_grad_()
    losses = _loss(head, frames)
    assert {"loss_cls", "loss_bbox", "loss_dir", "loss_ebm"} <= set(losses)
    (from_ebm,) = torch.autograd.grad(
        losses["loss_ebm"], frames.bev, retain_graph=True, allow_unused=True
    )
    assert (from_ebm is not None and bool(from_ebm.any())) == (detector == "joint")
    sum(sum(losses[n]) for n in ("loss_cls", "loss_bbox", "loss_dir")).backward()
    assert all(p.grad is not None for p in head.dense_head.parameters())
    assert bool(frames.bev.grad.any())


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="RefinedVoxelNet"):
        build_refined().loss([build_frames().bev], samples_of(build_frames()))
    with pytest.raises(ValueError, match="frozen, detached, joint"):
        build_refined(detector="both")


@pytest.fixture
def smallest() -> Iterator[Any]:
    """Wraps a dense head, with two methods alone as the refinement head."""
    from mmdet3d.registry import MODELS
    from mmengine.model import BaseModule

    from ebm3d.adapters.refinement_heads import RefinementHead

    class LiftingHead(RefinementHead):
        """Learns how much too low boxes are, from the true ones."""

        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Parameter(torch.tensor(0.5))

        def loss(self, bev: Any, points: Any, boxes: Any, labels: Any) -> dict[str, Tensor]:
            return {"loss_lift": (self.lift - torch.cat(boxes)[:, 2].mean()).square()}

        def refine(self, bev: Any, points: Any, boxes: Any, labels: Any, scores: Any) -> list[Any]:
            up = torch.eye(7)[2] * self.lift
            return [{"boxes": b[:, :7] + up, "lifts": self.lift.expand(len(b))} for b in boxes]

    class OtherModule(BaseModule):
        """No refinement head."""

    modules = (LiftingHead, OtherModule)
    for module in modules:
        MODELS.register_module(module=module)
    yield lambda name: MODELS.build(
        {"type": "RefinedDenseHead", "refinement_head": {"type": name}, **dense_config()}
    )
    for module in modules:
        del MODELS.module_dict[module.__name__]


def test_two_methods_make_a_refinement_head(smallest: Any):
    head, frames = smallest("LiftingHead"), build_frames()
    losses = head.loss([frames.bev], samples_of(frames))
    assert set(losses) == {"loss_lift"}
    losses["loss_lift"].backward()
    assert float(head.refinement_head.lift.grad.abs()) > 0
    with torch.no_grad():
        results = head.eval().predict([frames.bev], samples_of(frames))
    for result in results:
        moved = result.bboxes_3d.tensor - result.initial_bboxes_3d.tensor
        torch.testing.assert_close(moved, (torch.eye(7)[2] * 0.5).expand_as(moved))
        assert len(result.lifts) == len(moved) > 0
    with pytest.raises(ValueError, match="RefinementHead, but got OtherModule"):
        smallest("OtherModule")
