"""The KITTI evaluation as a metric of the host, before and after refinement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import load
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from ebm3d.adapters.metrics.calibration import (
    CalibrationSettings,
    boxes_of_labels,
    calibrate,
    join_densities,
)
from ebm3d.adapters.metrics.kitti_conversion import (
    calibration_of_info,
    detections_of_boxes,
    frame_id_of,
    is_evaluated,
    labels_of_info,
    points_of_info,
)
from ebm3d.adapters.metrics.score_fusion import FusionSettings, calibration_by_class
from ebm3d.adapters.metrics.stages import FIELDS, has_own_boxes_before, stages_of
from ebm3d.datasets.atomic import check_writable, write_atomically
from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.datasets.kitti_labels import KittiObjects, write_labels
from ebm3d.errors import input_error
from ebm3d.evaluation.calibration import CalibrationReport
from ebm3d.evaluation.comparison import NUM_REPLICATES, compare_kitti
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.kitti_protocol import CLASSES, resolve_iou_thresholds
from ebm3d.evaluation.kitti_report import KittiReport, flat_figures, report_kitti
from ebm3d.evaluation.tables import (
    calibration_table,
    comparison_tables,
    render,
    report_tables,
)

_NO_POINTS = np.zeros(0, dtype=np.int64)
_NOT_RETURNED = ("by_", "quantiles", "ahs_", "reliability", "pit_histogram")


@METRICS.register_module()
class EBM3DKittiMetric(BaseMetric):
    """KITTI's protocol at any overlap thresholds, on the CPU, with localization errors.

    Replaces the host's ``KittiMetric`` in any config. Predictions that hold ``initial_bboxes_3d``
    are evaluated before and after refinement, with keys under ``before/`` and ``after/``; others
    without prefix. Before is what the detector gives without refinement, also where candidates were
    refined before NMS (:mod:`ebm3d.adapters.metrics.stages`). Frames are told apart by the name of
    their cloud, so subsets of the data set (``indices``) and any order are fine.

    Keys: ``[before/|after/]Car/3d/0.70/moderate/ap_r40`` and the like,
    ``[before/|after/]Car/localization/moderate/mean_iou_3d`` and
    ``.../errors/along/mean_abs``; with both sets also ``.../localization_same_pairs/...``: the
    pairs matched before refinement, measured before and after, or where candidates were refined
    before NMS those of the true boxes that both sets find. The file ``json_file`` and the log
    hold more: AP and errors by distance, occlusion and points, quantiles, and under ``comparison``
    the differences between before and after with their intervals.

    Predictions that hold ``box_distribution`` (densities of ``bboxes_3d``, such as an
    :class:`ebm3d.densities.BoxDistribution`), or ``initial_box_distribution``, are also measured
    for calibration on the pairs of ``localization``: keys
    ``[before/|after/]Car/calibration/moderate/nll/mean`` and the like. Scores are measured as
    probabilities that a box overlaps a true one as the official tool wants: keys
    ``[before/|after/]Car/scores/brier``, ``ece`` and ``log_loss``.

    Args:
        ann_file: info file of the split, version 1.1 of the host.
        iou_thresholds: for bbox, BEV and 3D alike: for all classes, or by class; ``None`` for the
            defaults of ``ebm3d.evaluation.kitti_protocol``.
        classes: which to evaluate; ``None`` for those of Car, Pedestrian and Cyclist that the
            data set is loaded with.
        pcd_limit_range: x, y, z from and to between which the bottom center of a predicted box
            must lie, else it is dropped; the host's default.
        default_cam_key: camera of the labels.
        num_replicates: of the bootstrap that gives the intervals of before against after.
        out_dir: folder that receives one KITTI result file a frame (those before refinement in
            its subfolder ``before``), or ``None``.
        json_file: file that receives all figures as a tree, or ``None``.
        calibration: what to do with predicted densities: the arguments of
            :class:`ebm3d.adapters.metrics.calibration.CalibrationSettings`.
        score_fusion: what to fit to the scores: the arguments of
            :class:`ebm3d.adapters.metrics.score_fusion.FusionSettings`.
        prefix: as in mmengine.
        collect_device: as in mmengine.
        backend_args: as in mmengine.
    """

    default_prefix = ""

    def __init__(
        self,
        ann_file: str,
        iou_thresholds: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
        classes: Sequence[str] | None = None,
        pcd_limit_range: Sequence[float] = (0, -40, -3, 70.4, 40, 0.0),
        default_cam_key: str = "CAM2",
        num_replicates: int = NUM_REPLICATES,
        out_dir: str | None = None,
        json_file: str | None = None,
        calibration: dict[str, Any] | None = None,
        score_fusion: dict[str, Any] | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if len(pcd_limit_range) != 6:
            raise input_error("pcd_limit_range", "six numbers", list(pcd_limit_range))
        if classes is not None:
            resolve_iou_thresholds(classes, iou_thresholds)
        self.ann_file = ann_file
        self.iou_thresholds = iou_thresholds
        self.classes = classes
        self.pcd_limit_range = tuple(float(value) for value in pcd_limit_range)
        self.default_cam_key = default_cam_key
        self.num_replicates = num_replicates
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.json_file = None if json_file is None else Path(json_file)
        if self.json_file is not None:
            check_writable("json_file", self.json_file)
        self.calibration = CalibrationSettings(**(calibration or {}))
        self.score_fusion = FusionSettings(**(score_fusion or {}))
        self.backend_args = backend_args

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep what the evaluation needs of a batch.

        Args:
            data_batch: not used.
            data_samples: predictions with ``pred_instances_3d`` and ``lidar_path``.

        Raises:
            ValueError: if a sample does not say which cloud it is of, ``calibration`` asks for
                what needs densities and it has none, or ``score_fusion`` for features.
        """
        for sample in data_samples:
            if not sample.get("lidar_path"):
                remedy = "add 'lidar_path' to meta_keys of Pack3DDetInputs"
                raise input_error("lidar_path of a prediction", "given", "none", remedy)
            predicted, stages = sample["pred_instances_3d"], stages_of(sample)
            result: dict[str, Any] = {
                "frame_id": frame_id_of(sample["lidar_path"]),
                "features": self.score_fusion.features_of(predicted),
                "has_own_boxes_before": has_own_boxes_before(sample),
            }
            for stage, found in stages.items():
                result[stage] = _to_numpy(found.boxes.tensor)[:, :7]
                result[f"scores {stage}"] = _to_numpy(found.scores)
                result[f"labels {stage}"] = _to_numpy(found.labels).astype(np.int64)
                if found.densities is not None:
                    result[f"densities {stage}"] = found.densities.detach().to("cpu")
            if "densities after" not in result:
                self.calibration.require_densities()  # now, not after the last frame
            self.results.append(result)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate all frames.

        Args:
            results: of ``process``, of all processes.

        Returns:
            All figures by key.

        Raises:
            ValueError: if a frame is not in the info file, or a box is not finite.
        """
        logger = MMLogger.get_current_instance()
        infos = load(self.ann_file, backend_args=self.backend_args)
        by_frame = {frame_id_of(i["lidar_points"]["lidar_path"]): i for i in infos["data_list"]}
        names = {label: name for name, label in infos["metainfo"]["categories"].items()}
        names.setdefault(-1, "DontCare")
        # Sorted, so that sums are rounded alike whatever the order of the frames.
        frames = {r["frame_id"]: r for r in sorted(results, key=lambda r: r["frame_id"])}
        unknown = [frame_id for frame_id in frames if frame_id not in by_frame]
        if unknown:
            got = f"{len(unknown)} others, first {unknown[0]!r}"
            remedy = "give the metric the ann_file of the data set that is evaluated"
            raise input_error("frames", f"among those of {self.ann_file}", got, remedy)
        labels = stack_frames({i: labels_of_info(by_frame[i], names) for i in frames}, scores=False)
        num_points = np.concatenate([_NO_POINTS, *(points_of_info(by_frame[i]) for i in frames)])
        thresholds = resolve_iou_thresholds(self._evaluated_classes(), self.iou_thresholds)
        stages = [s for s in FIELDS if all(s in result for result in results)]
        tree: dict[str, Any] = {}
        problems: dict[str, MatchingProblem] = {}
        kept: dict[str, NDArray[np.bool_]] = {}
        for stage in stages:
            detections, kept[stage] = self._detections(frames, by_frame, stage)
            problems[stage] = MatchingProblem(labels, detections)
            report = report_kitti(problems[stage], thresholds, num_points=num_points)
            tree[stage] = report.as_dict()
            for name, scores in calibration_by_class(problems[stage], list(thresholds)).items():
                tree[stage][name]["scores"] = scores
            title = f"{stage} refinement, " if len(stages) == 2 else ""
            logger.info("\n%s", render(*report_tables(report, title)))
            calibrations = [calibration_of_info(by_frame[i], self.default_cam_key) for i in frames]
            truths = boxes_of_labels(labels, calibrations)
            reports = self._calibrate(stage, report, frames, kept[stage], labels, truths)
            for name, by_difficulty in reports.items():
                logger.info("\n%s", render(calibration_table(by_difficulty, name, title)))
                tree[stage][name]["calibration"] = {
                    difficulty: part.as_dict() for difficulty, part in by_difficulty.items()
                }
            self._write_results(stage, detections)
        if len(stages) == 2:
            partners = None
            if not any(result["has_own_boxes_before"] for result in results):
                row_after = np.where(kept["after"], np.cumsum(kept["after"]) - 1, -1)
                partners = row_after[kept["before"]]
            comparison = compare_kitti(
                problems["before"],
                problems["after"],
                thresholds,
                partners=partners,
                num_replicates=self.num_replicates,
            )
            logger.info("\n%s", render(*comparison_tables(comparison, stages)))
            for class_name, by_difficulty in comparison.same_pairs.items():
                for stage, name in zip(stages, ("first", "second"), strict=True):
                    tree[stage][class_name]["localization_same_pairs"] = {
                        difficulty: figures[name] for difficulty, figures in by_difficulty.items()
                    }
            tree["comparison"] = comparison.as_dict()
        else:
            tree = tree["after"]
        if self.json_file is not None:
            self.json_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.json_file, (json.dumps(tree, indent=1) + "\n").encode())
        # Last, so that nothing is lost where too few boxes say nothing.
        features = [r["features"] for r in frames.values() if r["features"] is not None]
        if features:
            rows = np.concatenate(features)[kept["after"]]
            self.score_fusion.fit_to(problems["after"], rows, list(thresholds))
        tree.pop("comparison", None)
        return {key: value for key, value in flat_figures(tree) if _is_returned(key)}

    def _evaluated_classes(self) -> tuple[str, ...]:
        """The classes asked for, or those the data set is loaded with."""
        if self.classes is not None:
            return tuple(self.classes)
        loaded = (self.dataset_meta or {}).get("classes", CLASSES)
        return tuple(name for name in CLASSES if name in loaded)

    def _detections(
        self,
        frames: Mapping[str, dict[str, Any]],
        infos: Mapping[str, Mapping[str, Any]],
        stage: str,
    ) -> tuple[KittiFrames, NDArray[np.bool_]]:
        """Predictions of one stage that the host would evaluate, and which those are."""
        class_names = (self.dataset_meta or {}).get("classes", CLASSES)
        kept = [np.zeros(0, dtype=np.bool_)]
        converted: dict[str, KittiObjects] = {}
        for frame_id, result in frames.items():
            boxes = result[stage]
            if not np.isfinite(boxes).all():
                row = int(np.argwhere(~np.isfinite(boxes))[0][0])
                got = f"{boxes[row]} in frame {frame_id!r}"
                raise input_error(FIELDS[stage], "finite", got, "check the training")
            image = infos[frame_id]["images"][self.default_cam_key]
            objects = detections_of_boxes(
                boxes,
                result[f"scores {stage}"],
                [class_names[label] for label in result[f"labels {stage}"]],
                calibration_of_info(infos[frame_id], self.default_cam_key),
                (image["width"], image["height"]),
            )
            kept.append(is_evaluated(boxes, objects, self.pcd_limit_range))
            converted[frame_id] = objects.select(kept[-1])
        return stack_frames(converted, scores=True), np.concatenate(kept)

    def _calibrate(
        self,
        stage: str,
        report: KittiReport,
        frames: Mapping[str, dict[str, Any]],
        kept: NDArray[np.bool_],
        labels: KittiFrames,
        truths: NDArray[np.float64],
    ) -> Mapping[str, Mapping[str, CalibrationReport]]:
        """Calibration of one stage's densities by class and difficulty, if it has densities."""
        settings = self.calibration if stage == "after" else CalibrationSettings()
        key = f"densities {stage}"
        if not frames or not all(key in result for result in frames.values()):
            settings.require_densities()
            return {}
        densities = join_densities([result[key] for result in frames.values()])
        return calibrate(
            report,
            labels,
            truths,
            densities[torch.from_numpy(kept)],
            np.concatenate([result[stage] for result in frames.values()])[kept],
            settings,
        )

    def _write_results(self, stage: str, frames: KittiFrames) -> None:
        """Write one KITTI result file a frame, where asked for."""
        if self.out_dir is None:
            return
        folder = self.out_dir if stage == "after" else self.out_dir / stage
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame_id in enumerate(frames.frame_ids):
            write_labels(folder / f"{frame_id}.txt", frames.frame(index))


def _is_returned(key: str) -> bool:
    """Whether a figure is among those a run logs and can select checkpoints by."""
    words = key.split("/")
    return not any(word.startswith(_NOT_RETURNED) for word in words)


def _to_numpy(values: Any) -> NDArray[Any]:
    """A tensor as a float64 array."""
    return values.detach().cpu().double().numpy()
