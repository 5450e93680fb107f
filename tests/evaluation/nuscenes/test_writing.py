"""Result files that are written: accepted by the development kit, equal to the host's."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.datasets.nuscenes.poses import rotation_matrices
from ebm3d.evaluation.nuscenes import detections_of_frame, read_results, write_results
from ebm3d.evaluation.nuscenes.boxes import NuScenesBoxes, join_boxes
from tests.evaluation.nuscenes.drives import quaternion


def pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """A transform ``(4, 4)`` of a tilted sensor or car."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrices(quaternion(rng))
    matrix[:3, 3] = rng.uniform(-500, 500, 3)
    return matrix


def frame(rng: np.random.Generator, num: int) -> dict[str, NDArray[Any]]:
    """Boxes ``(N, 9)`` of the LiDAR frame, some in rest, with scores and classes."""
    low = [-20.0, -20.0, -3.0, 0.5, 0.5, 0.5, -np.pi, -1.0, -1.0]
    boxes = rng.uniform(low, np.abs(low), size=(num, 9))
    boxes[::3, 7:] *= 0.1
    classes = rng.integers(len(CLASSES), size=num)
    return {"boxes": boxes, "scores": rng.uniform(0.01, 1, num), "class_index": classes}


def detections(rng: np.random.Generator, num: int, sample: int = 0) -> NuScenesBoxes:
    """Detections of one frame."""
    return detections_of_frame(sample, lidar_to_global=pose(rng), **frame(rng, num))


def test_what_is_written_reads_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    boxes = join_boxes([detections(rng, 7, 1), detections(rng, 5, 0)])
    boxes.velocity[3] = np.nan
    write_results(tmp_path / "r.json", ["a", "b", "c"], boxes)
    results = read_results(tmp_path / "r.json")
    assert results.tokens == ("a", "b", "c")
    expected = boxes.select(np.argsort(boxes.sample, kind="stable"))
    for name, values in vars(expected).items():
        tolerance = 1e-15 if name == "yaw" else 0.0
        np.testing.assert_allclose(
            getattr(results.boxes, name), values, rtol=0, atol=4 * tolerance, err_msg=name
        )


def test_the_500_boxes_of_highest_score_are_written(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    boxes = detections(rng, 520)
    boxes.score[:5] = 0.0
    write_results(tmp_path / "r.json", ["a"], boxes)
    scores = read_results(tmp_path / "r.json").boxes.score
    assert (len(scores), scores.min()) == (500, np.sort(boxes.score)[20])


def test_the_development_kit_accepts_it(tmp_path: Path, rng: np.random.Generator) -> None:
    loaders = pytest.importorskip("nuscenes.eval.common.loaders")
    from nuscenes.eval.detection.data_classes import DetectionBox

    write_results(tmp_path / "r.json", ["a", "b"], detections(rng, 9))
    boxes, meta = loaders.load_prediction(str(tmp_path / "r.json"), 500, DetectionBox)
    assert (len(boxes["a"]), len(boxes["b"]), meta["use_lidar"]) == (9, 0, True)


@pytest.mark.parametrize("column", ["translation", "size", "yaw", "score", "velocity"])
def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, rng: np.random.Generator, column: str
) -> None:
    boxes = detections(rng, 3)
    getattr(boxes, column)[1] = np.inf
    with pytest.raises(ValueError, match=f"{column} must be finite"):
        write_results(tmp_path / "r.json", ["a"], boxes)
    assert not (tmp_path / "r.json").exists()


def test_boxes_of_other_columns_are_refused(rng: np.random.Generator) -> None:
    values = frame(rng, 2)
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 7\) or \(N, 9\)"):
        detections_of_frame(0, lidar_to_global=np.eye(4), **values | {"boxes": np.ones((2, 8))})


@pytest.mark.mmdet3d
def test_boxes_and_attributes_are_those_of_the_host(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    pytest.importorskip("mmdet3d")
    import_module("ebm3d.register")  # operators in place of compiled mmcv
    import torch
    from mmdet3d.evaluation.metrics import nuscenes_metric as metrics
    from mmdet3d.structures import LiDARInstance3DBoxes
    from nuscenes.eval.common.config import config_factory

    values, lidar_to_ego, ego_to_global = frame(rng, 60), pose(rng), pose(rng)
    lidar_to_ego[:3, 3] /= 500  # the host drops boxes beyond the range
    info = {"ego2global": ego_to_global, "lidar_points": {"lidar2ego": lidar_to_ego}, "token": "a"}
    host = metrics.NuScenesMetric.__new__(metrics.NuScenesMetric)
    host.data_infos, host.modality = [info], {}
    host.eval_detection_configs = config_factory("detection_cvpr_2019")
    boxes = LiDARInstance3DBoxes(torch.tensor(values["boxes"]), box_dim=9)
    tensors = {"scores_3d": torch.tensor(values["scores"]), "bboxes_3d": boxes}
    tensors["labels_3d"] = torch.tensor(values["class_index"])
    written: list[Any] = []
    metrics.mmengine, real = _Dump(written), metrics.mmengine
    try:
        host._format_lidar_bbox([tensors], [0], list(CLASSES), str(tmp_path))
    finally:
        metrics.mmengine = real
    (tmp_path / "host.json").write_text(json.dumps(written[0] | {"meta": {}}, default=float))
    theirs = read_results(tmp_path / "host.json").boxes
    ours = detections_of_frame(0, lidar_to_global=ego_to_global @ lidar_to_ego, **values)
    assert len(theirs) == len(ours)
    for name, column in vars(ours).items():
        # Numbers of the host are float32 in between.
        np.testing.assert_allclose(getattr(theirs, name), column, atol=2e-3, err_msg=name)


class _Dump:
    """mmengine without a progress bar and files."""

    def __init__(self, written: list[Any]) -> None:
        self.written = written

    @staticmethod
    def track_iter_progress(items: Any) -> Any:
        """Go through the items."""
        return items

    @staticmethod
    def mkdir_or_exist(path: str) -> None:
        """Do nothing."""

    def dump(self, content: Any, path: str) -> None:
        """Keep the content."""
        self.written.append(content)
