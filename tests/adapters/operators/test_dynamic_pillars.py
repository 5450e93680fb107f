"""The host's PointPillars on dynamic voxels: on a CPU it exists with these operators alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.adapters.operators.calls import ops

_RANGE = [0.0, -10.24, -3.0, 20.48, 10.24, 1.0]

pytestmark = [
    pytest.mark.mmdet3d,
    # The host to itself: its anchors, its sampling results.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:DeprecationWarning. pos_bboxes:UserWarning"),
]


@pytest.fixture
def detector(registered: None) -> Any:
    """The stock config, on 20 by 20 m."""
    import mmdet3d
    from mmdet3d.registry import MODELS
    from mmengine import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet3d")
    configs = Path(mmdet3d.__file__).parent / ".mim" / "configs" / "dynamic_voxelization"
    config = Config.fromfile(configs / "pointpillars_dv_secfpn_8xb6-160e_kitti-3d-car.py").model
    config.data_preprocessor.voxel_layer.point_cloud_range = _RANGE
    config.voxel_encoder.point_cloud_range = _RANGE
    config.middle_encoder.output_shape = [128, 128]
    config.bbox_head.anchor_generator.ranges = [[0.0, -10.24, -1.78, 20.48, 10.24, -1.78]]
    return MODELS.build(config)


def test_dynamic_pillars_train_and_predict_on_a_cpu(detector, generator):
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    assert ops.get_compiler_version().startswith("none")
    low, high = torch.tensor([0.0, -10, -3, 0]), torch.tensor([20.0, 10, 1, 1])
    clouds = [low + (high - low) * torch.rand(n, 4, generator=generator) for n in (700, 900)]
    truth = Det3DDataSample(metainfo={"box_type_3d": LiDARInstance3DBoxes})
    boxes = LiDARInstance3DBoxes(torch.tensor([[10.0, 2.0, -1.8, 4.0, 1.7, 1.5, 0.3]]))
    truth.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=torch.zeros(1).long())
    batch = {"inputs": {"points": clouds}, "data_samples": [truth, copy.deepcopy(truth)]}
    data = detector.data_preprocessor(batch, training=True)
    losses = detector(data["inputs"], data["data_samples"], mode="loss")
    sum(sum(values) for values in losses.values()).backward()
    gradients = [p.grad for p in detector.voxel_encoder.parameters()]
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    detector.eval()
    with torch.no_grad():
        results = detector(data["inputs"], data["data_samples"], mode="predict")
    assert all(len(result.pred_instances_3d) > 0 for result in results)
