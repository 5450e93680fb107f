"""One frame through a trained model, with boxes before and after refinement and f around them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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


@dataclass(frozen=True)
class InferredFrame:
    """What a model says about one frame.

    Attributes:
        frame: points, boxes before and after refinement, scores, f, true boxes if known.
        energy: from a row of ``frame.refined`` to f near that box, a callable from ``(S, 7)`` to
            ``(S,)`` for boxes on any device, of the velocity of that row's box; ``None`` for a
            model without an energy. f is the model's exactly as long as a box stays within
            ``max_box_shift`` of that row's box.
        velocities: ``(N, 2)`` vx, vy (m/s) of ``frame.refined``; ``None`` for a model without.
    """

    frame: RefinedFrame
    energy: Callable[[int], Callable[[Tensor], Tensor]] | None
    velocities: np.ndarray | None = None


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
        self._cloud_layout = cloud_layout or CloudLayout()

    def frame_ids(self) -> list[str]:
        """Return the frames of the config's test data, in its order."""
        dataset = self._test_data()
        return [_frame_id(dataset.get_data_info(i)) for i in range(len(dataset))]

    def __call__(self, source: str | Path) -> InferredFrame:
        """Run the model on one frame.

        Args:
            source: the id of a frame of the config's test data, such as ``"000008"``, or a file
                that :func:`ebm3d.datasets.read_cloud` reads.

        Returns:
            Boxes before and after refinement; equal, with f NaN, where the model refines nothing.

        Raises:
            DataError: if the cloud is missing or cannot be read.
            ValueError: if the test data has no such frame.
        """
        suffix = cloud_suffix(source)
        if suffix is not None:
            frame_id = Path(source).name[: -len(suffix)]
            data, true = self._data_of_cloud(Path(source)), None
        else:
            frame_id, data, true = self._data_of_frame(str(source))
        with torch.no_grad():
            batch = self.model.data_preprocessor(pseudo_collate([data]), False)
            features = features_of(self.model, batch["inputs"], batch["data_samples"])
            dense = part_of(self.model, "bbox_head")
            result = dense.predict(features, batch["data_samples"])[0].to("cpu")
        boxes = result.bboxes_3d.tensor
        velocities = boxes[:, 7:].numpy() if boxes.shape[1] > 7 else None
        blank = torch.full((len(boxes),), torch.nan)
        frame = RefinedFrame(
            frame_id=frame_id,
            points=batch["inputs"]["points"][0].cpu().numpy(),
            initial=result.get("initial_bboxes_3d", result.bboxes_3d).tensor[:, :7].numpy(),
            refined=boxes[:, :7].numpy(),
            scores=result.scores_3d.numpy(),
            names=tuple(self._classes[label] for label in result.labels_3d),
            f_initial=result.get("f_initial", blank).numpy(),
            f_refined=result.get("f_refined", blank).numpy(),
            ground_truth=true,
        )
        head = getattr(dense, "refinement_head", None)
        if not isinstance(head, EBMRefinementHead):
            return InferredFrame(frame, None, velocities)
        columns = getattr(head, "num_columns", 7)  # of the boxes that f is a density of
        bev, points, labels = features.maps[0], features.points, result.labels_3d.long()

        def energy(row: int) -> Callable[[Tensor], Tensor]:
            box, label = boxes[row : row + 1, :columns].to(bev), labels[row : row + 1]
            f = head.make_energy(bev, points, [box], [label.to(bev.device)])

            def near(variants: Tensor) -> Tensor:
                rest = box[:, 7:].expand(len(variants), -1)
                return f(torch.cat((variants.to(box), rest), dim=1)[None])[0].to(variants.device)

            return near

        return InferredFrame(frame, energy, velocities)

    def _test_data(self) -> Any:
        """The data set of the config's tests, read when first needed."""
        if self._dataset is None:
            self._dataset = DATASETS.build(deepcopy(self._dataset_settings))
            self._dataset.full_init()
        return self._dataset

    def _data_of_frame(self, frame_id: str) -> tuple[str, dict[str, Any], np.ndarray | None]:
        """Id, model input and true boxes of the evaluated classes of one frame of the test data."""
        ids = self.frame_ids()
        if frame_id not in ids:
            known = ", ".join(ids[:_SHOWN_IDS]) + (", ..." if len(ids) > _SHOWN_IDS else "")
            expected = f"a frame of the config's test data ({known}) or a file: "
            expected += ", ".join(CLOUD_SUFFIXES)
            raise input_error("frame", expected, repr(frame_id))
        dataset = self._test_data()
        index = ids.index(frame_id)
        annotation = dataset.get_data_info(index).get("eval_ann_info")
        true = None
        if annotation is not None:
            boxes = annotation["gt_bboxes_3d"].tensor[:, :7].numpy()
            true = boxes[np.asarray(annotation["gt_labels_3d"]) >= 0]
        return frame_id, dataset[index], true

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


def _frame_id(info: dict[str, Any]) -> str:
    """The frame's name: the name of its cloud, since the host renumbers frames."""
    return Path(info["lidar_points"]["lidar_path"]).stem
