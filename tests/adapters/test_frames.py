"""Frames of nuScenes' layout by sample token, by the cloud's name, and from a bare file."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet3d")

from mmengine import Config
from mmengine.registry import init_default_scope

from ebm3d.adapters.frames import FrameSource
from tests.adapters.drives import write_drive

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def source_of(root, use_dim=(0, 1, 2, 3, 4)) -> FrameSource:
    """The test data of a drive, as a config has it."""
    init_default_scope("mmdet3d")
    load = {
        "type": "LoadPointsFromFile",
        "coord_type": "LIDAR",
        "load_dim": 5,
        "use_dim": [0, 1, 2, 3, 4],
    }
    sweeps = {"type": "LoadPointsFromMultiSweeps", "sweeps_num": 9, "use_dim": use_dim}
    pack = {"type": "Pack3DDetInputs", "keys": ["points"]}
    settings = {
        "type": "NuScenesDataset",
        "data_root": f"{root}/",
        "ann_file": "nuscenes_infos_val.pkl",
        "data_prefix": {"pts": "samples/LIDAR_TOP", "sweeps": "sweeps/LIDAR_TOP", "img": ""},
        "pipeline": [load, sweeps, pack],
        "modality": {"use_lidar": True, "use_camera": False},
        "test_mode": True,
    }
    return FrameSource(Config(settings))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A drive of two frames; the second has ten sweeps before it."""
    folder = tmp_path_factory.mktemp("drive")
    write_drive(folder, {"val": 2})
    return folder


@pytest.mark.parametrize(
    ("use_dim", "column"), [([0, 1, 2, 4], 3), ([0, 1, 2, 3, 4], 4), (5, 4), ([0, 1, 2], None)]
)
def test_the_lag_is_where_the_sweeps_leave_it(use_dim, column):
    source = source_of("nowhere", use_dim)
    assert (source.lag_column, source.forward) == (column, "y")


def test_a_frame_has_its_sweeps_by_token_and_by_the_name_of_its_cloud(root):
    source = source_of(root)
    assert source.ids() == ["val_0", "val_1"]
    for name in ("val_1", "val_1.pcd.bin"):
        frame_id, data, true = source.load(name)
        lags = data["inputs"]["points"][:, source.lag_column]
        assert frame_id == "val_1"
        np.testing.assert_allclose(np.unique(np.round(lags, 3)), np.arange(10) * 0.05, atol=1e-3)
        assert true.shape == (20, 9)


def test_a_bare_cloud_is_one_sweep_without_lag_and_without_truth(root):
    source = source_of(root)
    path = root / "samples/LIDAR_TOP/val_1.pcd.bin"
    frame_id, data, true = source.load(path)
    points = data["inputs"]["points"].numpy()
    stored = np.fromfile(path, dtype=np.float32).reshape(-1, 5)
    assert (frame_id, true) == ("val_1", None)
    np.testing.assert_array_equal(points[:, :4], stored[:, :4])
    assert (points[:, source.lag_column] == 0).all()


def test_a_cloud_that_neither_lies_here_nor_in_the_data_is_answered_with_the_known_ones(root):
    with pytest.raises(ValueError, match=r"\(val_0, val_1\) or a file"):
        source_of(root).load("val_7.pcd.bin")
