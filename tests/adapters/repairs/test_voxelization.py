"""The hashed voxelization in the place of mmcv's."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.mmdet3d


@pytest.mark.parametrize("max_voxels", [100, 20_000], ids=["too many voxels", "room for all"])
def test_voxels_equal_mmcv_bit_for_bit(generator: torch.Generator, max_voxels: int) -> None:
    """The repaired function against the one it replaced."""
    from mmdet3d.models.data_preprocessors import voxelize as host

    from ebm3d.adapters.repairs import repair_voxelization_speed

    repair_voxelization_speed()
    points = torch.randn(20_000, 4, generator=generator) * torch.tensor([9.0, 9.0, 1.0, 1.0])
    points[:3] = torch.tensor([float("nan"), float("inf"), 0.0])[:, None]
    arguments = (points, [0.3, 0.3, 0.4], [0, -12, -2, 24, 12, 2], 3, max_voxels, True)
    for found, expected in zip(
        host.voxelization(*arguments), host.voxelization._original(*arguments), strict=True
    ):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_dynamic_voxelization_stays_with_the_host(generator: torch.Generator) -> None:
    """``max_num_points=-1`` asks for coordinates of points."""
    from mmdet3d.models.data_preprocessors import voxelize as host

    from ebm3d.adapters.repairs import repair_voxelization_speed

    repair_voxelization_speed()
    points = torch.randn(50, 4, generator=generator)
    arguments = (points, [0.3, 0.3, 0.4], [0, -12, -2, 24, 12, 2], -1, -1, True)
    assert torch.equal(host.voxelization(*arguments), host.voxelization._original(*arguments))
