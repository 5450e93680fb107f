"""The points of a frame travel with its sample."""

from __future__ import annotations

import pytest
import torch

from tests.adapters.tiny import RANGE, build_batch, random_cloud

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def test_every_sample_carries_the_points_of_its_own_frame(generator: torch.Generator) -> None:
    """The host's voxels unchanged, and the cloud beside them."""
    from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor

    from ebm3d.adapters.data_preprocessors import RefinementDataPreprocessor

    layer = {
        "max_num_points": 5,
        "point_cloud_range": RANGE,
        "voxel_size": [0.1, 0.1, 0.2],
        "max_voxels": (100, 100),
    }
    clouds = [random_cloud(generator, num) for num in (50, 0, 70)]
    ours = RefinementDataPreprocessor(voxel=True, voxel_layer=layer)(build_batch(clouds))
    stock = Det3DDataPreprocessor(voxel=True, voxel_layer=layer)(build_batch(clouds))
    for sample, cloud in zip(ours["data_samples"], clouds, strict=True):
        assert torch.equal(sample.points, cloud)
    for name, value in stock["inputs"]["voxels"].items():
        assert torch.equal(ours["inputs"]["voxels"][name], value)
    assert "points" not in stock["data_samples"][0]
