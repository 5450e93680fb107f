from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import read_calibration, read_cloud, read_labels
from ebm3d.simulation import dataset, simulate_frame, write_dataset

NUM_TRAIN, NUM_VAL = 5, 3


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _write(out: Path, **changes) -> Path:
    arguments = {"num_train": NUM_TRAIN, "num_val": NUM_VAL, "seed": 5, "workers": 1}
    write_dataset(out, progress=False, **{**arguments, **changes})
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("simulated") / "one")


def test_two_processes_write_the_same_bytes_as_one(root):
    assert _files(_write(root.parent / "two", workers=2)) == _files(root)


def test_the_layout_is_kitti_s(root):
    ids = [f"{i:06d}" for i in range(NUM_TRAIN + NUM_VAL)]
    expected = {f"ImageSets/{name}.txt" for name in ("train", "val", "trainval")}
    for folder, ending in (("velodyne_reduced", "bin"), ("label_2", "txt"), ("calib", "txt")):
        expected |= {f"training/{folder}/{frame_id}.{ending}" for frame_id in ids}
    assert set(_files(root)) == expected
    assert (root / "ImageSets/train.txt").read_text().split() == ids[:NUM_TRAIN]
    assert (root / "ImageSets/val.txt").read_text().split() == ids[NUM_TRAIN:]
    assert (root / "ImageSets/trainval.txt").read_text().split() == ids


def test_files_hold_the_frame(root):
    frame = simulate_frame(dataset.frame_seed(5, 1, 2))
    name = f"{NUM_TRAIN + 2:06d}"
    cloud = read_cloud(root / f"training/velodyne_reduced/{name}.bin")
    np.testing.assert_array_equal(cloud, frame.points)
    labels = read_labels(root / f"training/label_2/{name}.txt", scores=False)
    np.testing.assert_array_equal(labels.names, frame.labels.names)
    np.testing.assert_allclose(labels.to_table(False), frame.labels.to_table(False), atol=1e-6)
    calibration = read_calibration(root / f"training/calib/{name}.txt")
    expected = frame.calibration.lidar_to_image_matrix
    np.testing.assert_allclose(calibration.lidar_to_image_matrix, expected, rtol=1e-11)


def test_a_frame_does_not_depend_on_how_many_there_are(root):
    small = _files(_write(root.parent / "small", num_train=1, num_val=2))
    large = _files(root)
    cloud = "training/velodyne_reduced/{:06d}.bin"
    assert small[cloud.format(0)] == large[cloud.format(0)]
    assert small[cloud.format(2)] == large[cloud.format(NUM_TRAIN + 1)]
    assert len({small[cloud.format(i)] for i in range(3)}) == 3


def test_an_empty_folder_takes_the_full_view_in_the_folder_of_full_scans(tmp_path):
    out = _write(tmp_path, num_train=1, num_val=0, field_of_view="full")
    assert (out / "training/velodyne/000000.bin").stat().st_size > 16 * 50_000


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(path, objects):
        raise OSError("no space left")

    monkeypatch.setattr(dataset, "write_labels", fail)
    with pytest.raises(OSError, match="no space left"):
        _write(tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"num_train": -1},
        {"seed": -1},
        {"workers": 0},
        {"sensor": "16-beam"},
        {"field_of_view": "rear"},
        {"out": "."},
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, change):
    (tmp_path / "mine.txt").write_text("precious")
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} must be"):
        _write(tmp_path / change.pop("out", "out"), **change)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
