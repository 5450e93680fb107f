"""One frame through a trained model, with boxes before and after refinement and f around them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.registry import DATASETS, MODELS
from mmdet3d.structures import get_box_type
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import Tensor

from ebm3d.adapters.checkpoints import check_file, load_weights
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.parts import features_of, part_of
from ebm3d.adapters.refinement_heads import EBMRefinementHead
from ebm3d.datasets import CloudLayout, read_cloud, write_cloud
from ebm3d.datasets.point_clouds import CLOUD_SUFFIXES, cloud_suffix, intensity_problem
from ebm3d.errors import input_error
from ebm3d.visualization import RefinedFrame

_SHOWN_IDS = 5
_LAG = 4  # column in which the host's sweeps hold their time lag, before it takes use_dim
_HOST_COLUMNS = (0, 1, 2, 4)  # its default of use_dim


@dataclass(frozen=True)
class InferredFrame:
    """What a model says about one frame.

    Attributes:
        frame: points, boxes before and after refinement, scores, f, true boxes if known.
        energy: from a row of ``frame.refined`` to f near that box, a callable from ``(S, D)`` to
            ``(S,)`` for boxes on any device; ``None`` for a model without an energy. f is the
            model's exactly as long as a box stays within ``max_box_shift`` of that row's box.
        energy_columns: D, 9 for an f of the velocity too.
    """

    frame: RefinedFrame
    energy: Callable[[int], Callable[[Tensor], Tensor]] | None
    energy_columns: int = 7


class FrameInference:
    """A model and its test pipeline, built once and applied to frame after frame.

    Args:
        config: a config file, or the name of one that comes with the package.
        checkpoint: what training saved; it must hold every parameter of the model.
        device: where the model runs; None for CUDA where there is CUDA.
        cfg_options: values of the config by dotted key.
        cloud_layout: of cloud files; see :func:`ebm3d.datasets.read_cloud`.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if the checkpoint belongs to another model, see
            :func:`ebm3d.adapters.checkpoints.load_weights`.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        device: str | None = None,
        cfg_options: dict[str, Any] | None = None,
        cloud_layout: CloudLayout | None = None,
    ) -> None:
        check_file(checkpoint)
        cfg = load_settings(config, cfg_options=cfg_options)
        init_default_scope(cfg.get("default_scope", "mmdet3d"))
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = MODELS.build(cfg.model)
        refine = part_of(cfg.model, "bbox_head").get("refine", True)
        load_weights(self.model, checkpoint, cfg, refine=refine)
        self.model.to(self.device).eval()
        self._dataset_settings = cfg.test_dataloader.dataset
        self._classes = tuple(cfg.test_dataloader.dataset.metainfo["classes"])
        self._dataset: Any = None
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._cloud_layout = cloud_layout or CloudLayout()
        is_nuscenes = issubclass(DATASETS.get(self._dataset_settings.type), NuScenesDataset)
        self._forward = "y" if is_nuscenes else "x"

    def frame_ids(self) -> list[str]:
        """Return the frames of the config's test data, in its order."""
        self._test_data()
        return list(self._ids)

    def __call__(self, source: str | Path) -> InferredFrame:
        """Run the model on one frame.

        Args:
            source: a frame of the config's test data: its id, such as ``"000008"`` or nuScenes'
                sample token, or its cloud's name; or a file that :func:`ebm3d.datasets.read_cloud`
                reads, without sweeps before it.

        Returns:
            Boxes before and after refinement; equal, with f NaN, where the model refines nothing.

        Raises:
            DataError: if the cloud is missing or cannot be read.
            ValueError: if the test data has no such frame.
        """
        suffix, is_name = cloud_suffix(source), Path(source).name == str(source)
        if suffix is not None and (not is_name or Path(source).exists()):
            frame_id = _stem(source)
            data, true = self._data_of_cloud(Path(source)), None
        else:
            frame_id, data, true = self._data_of_frame(str(source))
        with torch.no_grad():
            batch = self.model.data_preprocessor(pseudo_collate([data]), False)
            features = features_of(self.model, batch["inputs"], batch["data_samples"])
            dense = part_of(self.model, "bbox_head")
            result = dense.predict(features, batch["data_samples"])[0].to("cpu")
        refined, labels = result.bboxes_3d.tensor, result.labels_3d.long()
        blank = torch.full((len(refined),), torch.nan)
        points = batch["inputs"]["points"][0].cpu().numpy()
        lag = _lag_column(self._dataset_settings.pipeline)
        frame = RefinedFrame(
            frame_id=frame_id,
            points=points,
            initial=result.get("initial_bboxes_3d", result.bboxes_3d).tensor.numpy(),
            refined=refined.numpy(),
            scores=result.scores_3d.numpy(),
            names=tuple(self._classes[label] for label in labels),
            f_initial=result.get("f_initial", blank).numpy(),
            f_refined=result.get("f_refined", blank).numpy(),
            ground_truth=None if true is None else true[:, : refined.shape[1]],
            lags=None if lag is None else points[:, lag],
            forward=self._forward,
        )
        head = getattr(dense, "refinement_head", None)
        if not isinstance(head, EBMRefinementHead):
            return InferredFrame(frame, None)
        bev, clouds, columns = features.maps[0], features.points, head.box_columns

        def energy(row: int) -> Callable[[Tensor], Tensor]:
            box, label = refined[row : row + 1, :columns].to(bev), labels[row : row + 1]
            f = head.make_energy(bev, clouds, [box], [label.to(bev.device)])
            return lambda variants: f(variants.to(box)[None])[0].to(variants.device)

        return InferredFrame(frame, energy, columns)

    def _test_data(self) -> Any:
        """The data set of the config's tests, read when first needed."""
        if self._dataset is None:
            self._dataset = DATASETS.build(deepcopy(self._dataset_settings))
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
        columns = next(s.load_dim for s in self._dataset_settings.pipeline if "load_dim" in s)
        if columns == points.shape[1]:  # KITTI; nuScenes has a ring, too, and intensities to 255
            problem = intensity_problem(path, float(points[:, 3].min()), float(points[:, 3].max()))
            if problem is not None:
                print_log(str(problem), logger="current", level=logging.WARNING)
        box_type, box_mode = get_box_type(self._dataset_settings.get("box_type_3d", "LiDAR"))
        pipeline = Compose(deepcopy(self._dataset_settings.pipeline))
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


def _lag_column(pipeline: Sequence[dict[str, Any]]) -> int | None:
    """Which column of the model's points is their time lag; None if there is none."""
    for step in pipeline:
        if step["type"] == "LoadPointsFromMultiSweeps":
            columns = step.get("use_dim", _HOST_COLUMNS)
            columns = list(range(columns)) if isinstance(columns, int) else list(columns)
            return columns.index(_LAG) if _LAG in columns else None
    return None
