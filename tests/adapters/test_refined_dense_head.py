from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet3d")

from tests.adapters.refined import CELLS, CHANNELS, REFINEMENT_HEAD, Frames, build_frames
from tests.adapters.tiny import RANGE

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:DeprecationWarning. pos_:UserWarning"),
]


def _dense_config() -> tuple[dict[str, Any], Any, Any]:
    """The head of the shipped configs on the small map, with its train_cfg and test_cfg."""
    from mmengine import Config
    from mmengine.registry import init_default_scope

    import ebm3d

    init_default_scope("mmdet3d")
    model = Config.fromfile(ebm3d.config_path("second_kitti_cpu.py")).model
    head = model.bbox_head
    head.in_channels = head.feat_channels = CHANNELS
    head.anchor_generator.ranges = [[0, -6.4, -1.78, 12.8, 6.4, -1.78]]
    test = model.test_cfg
    test.score_thr, test.nms_pre, test.max_num, test.nms_thr = 0.0, 40, 12, 0.3
    return head.to_dict(), model.train_cfg, test


def _build(**options: Any) -> Any:
    from mmdet3d.registry import MODELS

    dense, train, test = _dense_config()
    torch.manual_seed(0)
    head = MODELS.build(
        {
            "type": "RefinedDenseHead",
            "dense_head": dense,
            "refinement_head": REFINEMENT_HEAD,
            "train_cfg": train,
            "test_cfg": test,
            **options,
        }
    )
    nn.init.normal_(head.refinement_head.network.layers[-1].weight)
    return head


def _stock() -> Any:
    from mmdet3d.registry import MODELS

    dense, train, test = _dense_config()
    return MODELS.build({**dense, "train_cfg": train, "test_cfg": test})


def _samples(frames: Frames) -> list[Any]:
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    samples = []
    for boxes, labels in zip(frames.boxes, frames.labels, strict=True):
        sample = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels
        )
        samples.append(sample)
    return samples


def _map() -> Tensor:
    return torch.randn(2, CHANNELS, CELLS, CELLS)


def _features(bev: Tensor, frames: Frames) -> Any:
    """What the detector hands to its head."""
    from ebm3d.adapters.detectors import MapsAndPoints

    return MapsAndPoints([bev], frames.points)


def _loss(head: Any, bev: Tensor) -> dict[str, Tensor]:
    frames = build_frames()
    losses: dict[str, Tensor] = head.loss(_features(bev, frames), _samples(frames))
    return losses


class _Detector(nn.Module):
    """A detector reduced to its head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.bbox_head = head


def test_checkpoint_of_the_stock_head_loads_unchanged():
    from mmengine.runner.checkpoint import load_state_dict

    stock, refined = _Detector(_stock()), _Detector(_build())
    for parameter in stock.parameters():
        nn.init.normal_(parameter)
    state = stock.state_dict()
    names = set(state)
    for load in (nn.Module.load_state_dict, load_state_dict):
        for parameter in refined.parameters():
            nn.init.zeros_(parameter)
        load(refined, state, strict=False)
        for name, value in stock.bbox_head.state_dict().items():
            assert torch.equal(refined.bbox_head.dense_head.state_dict()[name], value)
    assert set(state) == names


def test_checkpoint_of_the_stock_head_misses_the_refinement_head_alone():
    missing, unexpected = _Detector(_build()).load_state_dict(
        _Detector(_stock()).state_dict(), strict=False
    )
    assert unexpected == []
    assert missing
    assert all(name.startswith("bbox_head.refinement_head.") for name in missing)


def test_own_checkpoint_loads_strictly():
    first, second = _Detector(_build()), _Detector(_build())
    for parameter in first.parameters():
        nn.init.normal_(parameter)
    second.load_state_dict(first.state_dict(), strict=True)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_stock_key_that_fits_nowhere_is_still_reported():
    state = _Detector(_stock()).state_dict()
    state["bbox_head.conv_other.weight"] = torch.zeros(1)
    _, unexpected = _Detector(_build()).load_state_dict(state, strict=False)
    assert unexpected == ["bbox_head.dense_head.conv_other.weight"]


def test_raw_outputs_are_those_of_the_wrapped_head():
    head, bev = _build(), _map()
    for found, expected in zip(head([bev]), head.dense_head([bev]), strict=True):
        assert torch.equal(found[0], expected[0])


def test_prediction_keeps_scores_labels_order_and_the_boxes_before():
    head, bev, frames = _build().eval(), _map(), build_frames()
    with torch.no_grad():
        expected = head.dense_head.predict([bev], _samples(frames))
        found = head.predict(_features(bev, frames), _samples(frames))
    for stock, refined in zip(expected, found, strict=True):
        assert len(stock) == 12
        assert torch.equal(refined.scores_3d, stock.scores_3d)
        assert torch.equal(refined.labels_3d, stock.labels_3d)
        assert torch.equal(refined.initial_bboxes_3d.tensor, stock.bboxes_3d.tensor)
        assert type(refined.bboxes_3d) is type(stock.bboxes_3d)
        moved = (refined.bboxes_3d.tensor - stock.bboxes_3d.tensor).abs().amax(dim=1)
        assert bool((moved > 1e-5).any())
        assert bool((refined.f_refined >= refined.f_initial).all())


def test_prediction_without_refinement_is_the_wrapped_heads():
    head, bev, frames = _build(refine=False).eval(), _map(), build_frames()
    with torch.no_grad():
        expected = head.dense_head.predict([bev], _samples(frames))
        found = head.predict(_features(bev, frames), _samples(frames))
    for stock, plain in zip(expected, found, strict=True):
        assert set(plain.keys()) == set(stock.keys())
        assert torch.equal(plain.bboxes_3d.tensor, stock.bboxes_3d.tensor)


def test_batch_predicts_as_frame_by_frame():
    head, bev, frames = _build().eval(), _map(), build_frames()
    with torch.no_grad():
        together = head.predict(_features(bev, frames), _samples(frames))
        for index in range(2):
            part = frames.one(index)
            alone = head.predict(_features(bev[index : index + 1], part), _samples(part))[0]
            torch.testing.assert_close(
                alone.bboxes_3d.tensor, together[index].bboxes_3d.tensor, atol=1e-4, rtol=1e-4
            )


def test_velocities_pass_through(monkeypatch: pytest.MonkeyPatch):
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    head, frames = _build().eval(), build_frames()
    boxes = [torch.cat((b, torch.randn(len(b), 2)), dim=1) for b in frames.boxes]

    def predict(*_: Any, **__: Any) -> list[InstanceData]:
        return [
            InstanceData(bboxes_3d=LiDARInstance3DBoxes(b, box_dim=9), scores_3d=s, labels_3d=lab)
            for b, s, lab in zip(boxes, frames.scores, frames.labels, strict=True)
        ]

    monkeypatch.setattr(head.dense_head, "predict", predict)
    for found, given in zip(
        head.predict(_features(_map(), frames), _samples(frames)), boxes, strict=True
    ):
        assert found.bboxes_3d.tensor.shape == given.shape
        assert torch.equal(found.bboxes_3d.tensor[:, 7:], given[:, 7:])
        assert not torch.equal(found.bboxes_3d.tensor[:, :7], given[:, :7])


def test_no_detections_are_predicted_as_none():
    head, frames = _build().eval(), build_frames()
    head.dense_head.test_cfg.score_thr = 1.1
    with torch.no_grad():
        found = head.predict(_features(_map(), frames), _samples(frames))
    for result in found:
        assert len(result.bboxes_3d) == len(result.f_initial) == len(result.f_refined) == 0


def test_prediction_works_in_inference_mode():
    head, frames = _build().eval(), build_frames()
    bev = _map()
    with torch.inference_mode():
        found = head.predict(_features(bev + 0, frames), _samples(frames))
    with torch.no_grad():
        expected = head.predict(_features(bev, frames), _samples(frames))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.bboxes_3d.tensor, other.bboxes_3d.tensor)


def test_frozen_detector_gets_no_gradient():
    head, bev = _build(detector="frozen"), _map().requires_grad_()
    losses = _loss(head, bev)
    assert set(losses) == {"loss_ebm", "ebm_rank_first"}
    losses["loss_ebm"].backward()
    assert bev.grad is None
    assert all(p.grad is None for p in head.dense_head.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in head.refinement_head.parameters())


def test_joint_training_adds_the_losses_of_both_and_reaches_the_map():
    head, bev = _build(detector="joint"), _map().requires_grad_()
    losses = _loss(head, bev)
    assert {"loss_cls", "loss_bbox", "loss_dir", "loss_ebm"} <= set(losses)
    (from_ebm,) = torch.autograd.grad(losses["loss_ebm"], bev, retain_graph=True)
    assert float(from_ebm.abs().sum()) > 0
    total = losses["loss_ebm"] + sum(sum(losses[n]) for n in ("loss_cls", "loss_bbox", "loss_dir"))
    total.backward()
    assert all(p.grad is not None for p in head.dense_head.parameters())


def test_maps_without_points_are_refused_with_the_remedy():
    head, frames = _build(), build_frames()
    with pytest.raises(ValueError, match="RefinedVoxelNet"):
        head.loss([_map()], _samples(frames))


def test_unknown_way_of_training_is_refused():
    with pytest.raises(ValueError, match="'frozen' or 'joint'"):
        _build(detector="both")


def test_range_of_the_small_map_is_the_one_of_the_head():
    # The map of these tests has cells of 0.4 m, as the anchors assume.
    assert (RANGE[3] - RANGE[0]) / CELLS == pytest.approx(0.4)
