"""Frames of a config's test data, and clouds that its pipeline takes."""

from __future__ import annotations

import logging
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.registry import DATASETS
from mmdet3d.structures import get_box_type
from mmengine.dataset import Compose
from mmengine.logging import print_log

from ebm3d.adapters.parts import LAG, sweep_columns
from ebm3d.datasets import CloudLayout, read_cloud, write_cloud
from ebm3d.datasets.point_clouds import CLOUD_SUFFIXES, cloud_suffix, intensity_problem
from ebm3d.errors import input_error

_SHOWN_IDS = 5


class FrameSource:
    """The test data of a config, read when first needed.

    Args:
        settings: of the data set, as in the config.
        cloud_layout: of cloud files; see :func:`ebm3d.datasets.read_cloud`.

    Attributes:
        lag_column: of the model's points, their time lag in seconds; None if there is none.
        forward: see :class:`ebm3d.visualization.RefinedFrame`.
    """

    def __init__(self, settings: Any, cloud_layout: CloudLayout | None = None) -> None:
        self._settings, self._cloud_layout = settings, cloud_layout or CloudLayout()
        self._dataset: Any = None
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        columns = sweep_columns(settings.pipeline) or []
        self.lag_column = columns.index(LAG) if LAG in columns else None
        is_nuscenes = issubclass(DATASETS.get(settings.type), NuScenesDataset)
        self.forward = "y" if is_nuscenes else "x"

    def ids(self) -> list[str]:
        """Return the frames in their order: sample tokens, or the names of their clouds."""
        self._test_data()
        return list(self._ids)

    def load(self, source: str | Path) -> tuple[str, dict[str, Any], np.ndarray | None]:
        """Return id, model input and true boxes of a frame or a cloud.

        Args:
            source: see :meth:`ebm3d.adapters.inference.FrameInference.__call__`.

        Raises:
            DataError: if the cloud is missing or cannot be read.
            ValueError: if the test data has no such frame.
        """
        path = Path(source)
        is_name = path.name == str(source) and not path.exists()
        if cloud_suffix(source) is None or is_name:
            return self._data_of_frame(str(source))
        return _stem(path), self._data_of_cloud(path), None

    def _test_data(self) -> Any:
        """The data set of the config's tests, read when first needed."""
        if self._dataset is None:
            self._dataset = DATASETS.build(deepcopy(self._settings))
            self._dataset.full_init()
            infos = map(self._dataset.get_data_info, range(len(self._dataset)))
            names = [
                (info.get("token"), _stem(info["lidar_points"]["lidar_path"])) for info in infos
            ]
            # The token of a sample, or its cloud's name, since the host renumbers frames.
            self._ids = [token or stem for token, stem in names]
            self._rows = {name: row for row, pair in enumerate(names) for name in pair if name}
        return self._dataset

    def _data_of_frame(self, source: str) -> tuple[str, dict[str, Any], np.ndarray | None]:
        """Id, model input and true boxes of the evaluated classes of one frame of the test data."""
        dataset, ids = self._test_data(), self._ids
        index = self._rows.get(_stem(source))
        if index is None:
            known = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
            expected = f"a frame of the config's test data ({known}) or a file: "
            expected += ", ".join(CLOUD_SUFFIXES)
            raise input_error("frame", expected, repr(source))
        annotation = dataset.get_data_info(index).get("eval_ann_info")
        true = None
        if annotation is not None:
            boxes = annotation["gt_bboxes_3d"].tensor.numpy()
            true = boxes[np.asarray(annotation["gt_labels_3d"]) >= 0]
        return ids[index], dataset[index], true

    def _data_of_cloud(self, path: Path) -> dict[str, Any]:
        """Model input of a cloud without annotations."""
        points = read_cloud(path, self._cloud_layout)
        columns = next(s.load_dim for s in self._settings.pipeline if "load_dim" in s)
        if columns == points.shape[1]:  # KITTI; nuScenes has a ring, too, and intensities to 255
            problem = intensity_problem(path, float(points[:, 3].min()), float(points[:, 3].max()))
            if problem is not None:
                print_log(str(problem), logger="current", level=logging.WARNING)
        box_type, box_mode = get_box_type(self._settings.get("box_type_3d", "LiDAR"))
        pipeline = Compose(deepcopy(self._settings.pipeline))
        with tempfile.TemporaryDirectory() as folder:
            standard = str(Path(folder) / "cloud.bin")
            write_cloud(standard, points, columns)
            data: dict[str, Any] = pipeline(
                {
                    "lidar_points": {"lidar_path": standard},
                    "lidar_path": standard,
                    "timestamp": 1,
                    "axis_align_matrix": np.eye(4),
                    "box_type_3d": box_type,
                    "box_mode_3d": box_mode,
                }
            )
        return data


def _stem(path: str | Path) -> str:
    """The name of a cloud's file without its type."""
    name = Path(path).name
    return name.removesuffix(cloud_suffix(name) or "")
