"""The stock readers of mmdet3d 1.4.0 take what is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets import (
    boxes_from_camera,
    prepare_kitti,
    read_calibration,
    read_cloud,
    read_labels,
)
from tests.datasets.conftest import TRAIN, Tree

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CLASSES = ("Pedestrian", "Cyclist", "Car", "Van", "Truck", "Person_sitting", "Tram", "Misc")


@pytest.fixture(autouse=True)
def _host() -> None:
    """Register the host's classes."""
    pytest.importorskip("mmdet3d")
    from mmdet3d.utils import register_all_modules

    register_all_modules(init_default_scope=True)


@pytest.fixture
def root(kitti_tree: Tree) -> Path:
    prepare_kitti(kitti_tree.root)
    return kitti_tree.root


def _dataset(root: Path, split: str, classes: tuple[str, ...] = CLASSES, **options: Any) -> Any:
    from mmdet3d.datasets import KittiDataset

    return KittiDataset(
        data_root=str(root),
        ann_file=f"kitti_infos_{split}.pkl",
        data_prefix={"pts": "training/velodyne_reduced"},
        pipeline=[
            {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 4, "use_dim": 4},
            {"type": "LoadAnnotations3D", "with_bbox_3d": True, "with_label_3d": True},
            {"type": "Pack3DDetInputs", "keys": ["points", "gt_bboxes_3d", "gt_labels_3d"]},
        ],
        metainfo={"classes": classes},
        modality={"use_lidar": True, "use_camera": False},
        **options,
    )


def test_the_stock_data_set_reads_our_boxes_and_labels(kitti_tree: Tree, root: Path) -> None:
    dataset = _dataset(root, "train", filter_empty_gt=False)
    assert len(dataset) == len(TRAIN)
    for index, frame_id in enumerate(TRAIN):
        objects = read_labels(kitti_tree.label(frame_id))
        objects = objects.select(objects.names != "DontCare")
        calibration = read_calibration(kitti_tree.calibration(frame_id))
        fields = (objects.location, objects.dimensions, objects.rotation_y)
        expected = boxes_from_camera(*fields, calibration)
        annotations = dataset.get_data_info(index)["ann_info"]
        # The host works in float32 at distances up to 30 m.
        np.testing.assert_allclose(annotations["gt_bboxes_3d"].tensor, expected, atol=1e-5)
        assert [CLASSES[k] for k in annotations["gt_labels_3d"]] == objects.names.tolist()


def test_the_stock_pipeline_reads_our_clouds(kitti_tree: Tree, root: Path) -> None:
    points = _dataset(root, "train", ("Car",))[0]["inputs"]["points"]
    expected = read_cloud(kitti_tree.cloud("000000", "velodyne_reduced"))
    np.testing.assert_array_equal(points, expected)


def test_the_stock_metric_reads_our_labels(kitti_tree: Tree, root: Path) -> None:
    import mmengine
    from mmdet3d.evaluation.metrics import KittiMetric

    ann_file = str(root / "kitti_infos_val.pkl")
    infos = mmengine.load(ann_file)
    converted = KittiMetric(ann_file).convert_annos_to_kitti_annos(infos)
    annotations = converted[0]["kitti_annos"]
    objects = read_labels(kitti_tree.label("000004"))
    assert annotations["name"].tolist() == objects.names.tolist() == ["Car", "DontCare"]
    np.testing.assert_array_equal(annotations["bbox"], objects.bbox)
    np.testing.assert_array_equal(annotations["location"], objects.location)
    np.testing.assert_array_equal(annotations["dimensions"], objects.dimensions[:, [2, 0, 1]])
    np.testing.assert_array_equal(annotations["rotation_y"], objects.rotation_y)
    np.testing.assert_array_equal(annotations["alpha"], objects.alpha)
    np.testing.assert_array_equal(annotations["occluded"], objects.occluded)
    np.testing.assert_array_equal(annotations["truncated"], objects.truncated)


@pytest.mark.slow
def test_the_stock_sampler_puts_objects_back_into_their_boxes(root: Path) -> None:
    from mmdet3d.datasets.transforms.dbsampler import DataBaseSampler

    from ebm3d.adapters.repairs.numba_cache import repair_numba_caching
    from ebm3d.adapters.repairs.numpy_aliases import repair_numpy_aliases
    from ebm3d.boxes.points_in_boxes import points_in_boxes

    repair_numba_caching()
    repair_numpy_aliases()
    sampler = DataBaseSampler(
        info_path=str(root / "kitti_dbinfos_train.pkl"),
        data_root=str(root),
        rate=1.0,
        prepare={"filter_by_difficulty": [-1], "filter_by_min_points": {"Car": 5, "Cyclist": 5}},
        sample_groups={"Car": 2},
        classes=["Car"],
    )
    sampled = sampler.sample_all(np.zeros((0, 7), np.float32), np.zeros(0, np.int64))
    boxes = sampled["gt_bboxes_3d"]
    assert len(boxes) == 2
    grown = boxes + np.array([0, 0, -0.001, 0.002, 0.002, 0.002, 0])
    inside = points_in_boxes(sampled["points"].tensor.numpy(), grown)
    assert len(inside) >= 40
    assert inside.any(axis=1).all()
