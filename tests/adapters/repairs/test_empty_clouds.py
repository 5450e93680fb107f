"""Frames without a point, in training and in testing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.adapters.tiny import (
    HOST_WARNINGS,
    build_batch,
    build_detector,
    losses_of,
    predictions_of,
    random_cloud,
)

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

EMPTY = torch.zeros(0, 4)


@pytest.mark.parametrize("name", ["second", "pointpillars"])
def test_an_empty_last_frame_changes_nothing_for_the_others(generator, name):
    """Scores of a frame with and without an empty frame after it; three maps, not two."""
    detector = build_detector(name).eval()
    full = random_cloud(generator)
    data = detector.data_preprocessor(build_batch([full, EMPTY, EMPTY]))
    alone = detector.data_preprocessor(build_batch([full]))
    with torch.no_grad():
        scores = detector.bbox_head(detector.extract_feat(data["inputs"]))[0][0]
        expected = detector.bbox_head(detector.extract_feat(alone["inputs"]))[0][0]
    assert len(scores) == 3
    torch.testing.assert_close(scores[:1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["second", "pointpillars"])
def test_a_batch_without_a_point_trains_and_is_evaluated(name):
    """Finite losses, gradients of the dense layers, one prediction a frame."""
    detector = build_detector(name)
    losses = losses_of(detector, build_batch([EMPTY, EMPTY]))
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert torch.isfinite(detector.bbox_head.conv_reg.weight.grad).all()
    assert len(predictions_of(detector.eval(), build_batch([EMPTY, EMPTY]))) == 2


def test_an_empty_cloud_is_counted_by_multi_modal_detectors():
    """Three maps of zeros before the backbone, though there is no voxel to count them by."""
    from mmdet3d.models.detectors.mvx_two_stage import MVXTwoStageDetector

    model = SimpleNamespace(
        with_pts_bbox=True,
        pts_middle_encoder=SimpleNamespace(in_channels=4, ny=2, nx=3),
        pts_backbone=lambda bev: bev,
        pts_neck=lambda bev: (bev,),
    )
    voxels = {"voxels": torch.zeros(0, 5, 5), "coors": torch.zeros(0, 4)}
    maps = MVXTwoStageDetector.extract_pts_feat(model, voxels, [EMPTY] * 3)
    assert torch.equal(maps[0], torch.zeros(3, 4, 2, 3))
