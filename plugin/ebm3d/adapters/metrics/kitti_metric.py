"""The KITTI evaluation as a metric of the host, before and after refinement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import METRICS
from numpy.typing import NDArray

from ebm3d.adapters.metrics.base import (
    FIELDS,
    StagedMetric,
    flat_figures,
    log_tables,
    returned,
    stages_of,
)
from ebm3d.adapters.metrics.calibration import boxes_of_labels, calibrate
from ebm3d.adapters.metrics.kitti_conversion import (
    Split,
    calibration_of_info,
    detections_of_boxes,
    frame_id_of,
    points_of_info,
    read_split,
)
from ebm3d.adapters.metrics.left_out import check_limits, find_left_out, warn_left_out
from ebm3d.datasets.atomic import merged_folder
from ebm3d.datasets.kitti_frames import KittiFrames, stack_frames
from ebm3d.datasets.kitti_labels import KittiObjects, write_labels
from ebm3d.errors import input_error
from ebm3d.evaluation.calibration import CalibrationReport
from ebm3d.evaluation.comparison import NUM_REPLICATES, compare_kitti
from ebm3d.evaluation.kitti_protocol import CLASSES, OFFICIAL_IOU, resolve_iou_thresholds
from ebm3d.evaluation.kitti_report import KittiReport, report_kitti
from ebm3d.evaluation.localization import MIN_OVERLAP
from ebm3d.evaluation.matching_problem import MatchingProblem
from ebm3d.evaluation.score_calibration import calibration_of_scores, detection_outcomes
from ebm3d.evaluation.tables import calibration_table, comparison_tables, report_tables

_NO_POINTS = np.zeros(0, dtype=np.int64)


@METRICS.register_module()
class EBM3DKittiMetric(StagedMetric):
    """KITTI's protocol at any overlap thresholds, on the CPU, with localization errors.

    Replaces the host's ``KittiMetric`` in any config. Predictions that hold ``initial_bboxes_3d``
    are evaluated before and after refinement, with keys under ``before/`` and ``after/``; others
    without prefix. Frames are identified by the name of their cloud, so subsets of the data set
    (``indices``) and any order are fine. Without 2D boxes of labels, or on infos of LiDAR alone,
    BEV and 3D are evaluated without the rules of the image.

    Keys: ``[before/|after/]Car/3d/0.70/moderate/ap_r40`` and the like,
    ``.../Car/localization/moderate/mean_iou_3d``, ``.../Car/localization_same_pairs/...`` (the
    pairs matched before refinement, before and after), ``.../Car/scores/brier``, and of predictions
    with ``box_distribution`` ``.../Car/calibration/moderate/nll/mean``. ``json_file`` and the log
    hold more. docs/evaluation.md.

    Args:
        ann_file: info file of the split, version 1.1 of the host.
        iou_thresholds: for bbox, BEV and 3D: for all classes, or by class; ``None`` for the
            defaults of ``ebm3d.evaluation.kitti_protocol``.
        classes: which to evaluate; ``None`` for those of Car, Pedestrian and Cyclist that the
            data set is loaded with.
        pcd_limit_range: x, y, z from and to between which the bottom center of a predicted box
            must lie, else it is left out and counted; ``None``: no limits. The host's are
            ``[0, -40, -3, 70.4, 40, 0]``.
        default_cam_key: camera of the labels.
        num_replicates: of the bootstrap that gives the intervals of before against after.
        out_dir: folder that receives one KITTI result file a frame (those before refinement in
            its subfolder ``before``), or ``None``.
        json_file: file that receives all figures as a tree, or ``None``.
        calibration: what to do with predicted densities: the arguments of
            :class:`ebm3d.adapters.metrics.calibration.CalibrationSettings`.
        prefix: as in mmengine.
        collect_device: as in mmengine.
        backend_args: as in mmengine.
    """

    def __init__(
        self,
        ann_file: str,
        iou_thresholds: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
        classes: Sequence[str] | None = None,
        pcd_limit_range: Sequence[float] | None = None,
        default_cam_key: str = "CAM2",
        num_replicates: int = NUM_REPLICATES,
        out_dir: str | None = None,
        json_file: str | None = None,
        calibration: dict[str, Any] | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            ann_file,
            num_replicates,
            out_dir,
            json_file,
            calibration,
            prefix,
            collect_device,
            backend_args,
        )
        check_limits(pcd_limit_range)
        if classes is not None:
            resolve_iou_thresholds(classes, iou_thresholds)
        self.iou_thresholds = iou_thresholds
        self.classes = classes
        self.pcd_limit_range = pcd_limit_range
        self.default_cam_key = default_cam_key

    def frame_id(self, path: str) -> str:
        """The stem of a cloud's name."""
        return frame_id_of(path)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate the results of all processes; ValueError as of the methods below."""
        split = self.read_split(results)
        num_points = np.concatenate(
            [_NO_POINTS, *(points_of_info(info) for info in split.infos.values())]
        )
        thresholds = resolve_iou_thresholds(self.evaluated_classes(), self.iou_thresholds)
        stages = stages_of(results)
        tree: dict[str, Any] = {}
        detections = {stage: self.detections(split, stage) for stage in stages}
        for stage, (problem, kept) in detections.items():
            report = report_kitti(
                problem,
                thresholds,
                num_points=num_points,
                num_frames_left_out=split.num_frames_left_out,
            )
            title = f"{stage} refinement, " if len(stages) == 2 else ""
            log_tables(*report_tables(report, title))
            tree[stage] = report.as_dict()
            for name in thresholds:
                is_true, is_judged = detection_outcomes(problem, {name: OFFICIAL_IOU[name]})
                scores = calibration_of_scores(problem.scores[is_judged], is_true[is_judged])
                tree[stage][name]["scores"] = {"min_iou": OFFICIAL_IOU[name], **scores.as_dict()}
            for name, reports in self._calibrate(stage, report, split, kept).items():
                overlap = MIN_OVERLAP[name.lower()]
                text = f"{name}: predicted densities on the pairs with BEV IoU > {overlap:g}"
                log_tables(calibration_table(reports, f"{title}{text}"))
                figures = {difficulty: part.as_dict() for difficulty, part in reports.items()}
                tree[stage][name]["calibration"] = figures
        self._write_results({stage: problem for stage, (problem, _) in detections.items()})
        if len(stages) == 2:
            (before, kept_before), (after, kept_after) = detections.values()
            row_after = np.where(kept_after, np.cumsum(kept_after) - 1, -1)
            comparison = compare_kitti(
                before,
                after,
                thresholds,
                partners=row_after[kept_before],
                num_replicates=self.num_replicates,
            )
            log_tables(*comparison_tables(comparison, stages))
            for class_name, by_difficulty in comparison.same_pairs.items():
                for stage, name in zip(stages, ("first", "second"), strict=True):
                    tree[stage][class_name]["localization_same_pairs"] = {
                        difficulty: figures[name] for difficulty, figures in by_difficulty.items()
                    }
            tree["comparison"] = comparison.as_dict()
        else:
            tree = tree["after"]
        self.write_json(tree)
        tree.pop("comparison", None)
        return returned(flat_figures(tree))

    def read_split(self, results: list[dict[str, Any]]) -> Split:
        """Join the results of ``process`` with the labels of the info file.

        Raises:
            ValueError: if a frame is not in the info file, or clouds of it have one name.
        """
        return read_split(results, self.ann_file, self.backend_args)

    def evaluated_classes(self) -> tuple[str, ...]:
        """The classes asked for, or those the data set is loaded with."""
        if self.classes is not None:
            return tuple(self.classes)
        loaded = (self.dataset_meta or {}).get("classes", CLASSES)
        return tuple(name for name in CLASSES if name in loaded)

    def detections(self, split: Split, stage: str) -> tuple[MatchingProblem, NDArray[np.bool_]]:
        """Return labels and predictions of one stage, and which rows of the predictions count.

        Args:
            split: of :meth:`read_split`.
            stage: "before" or "after" refinement.

        Returns:
            The problem of matching them, and a mask over all predicted boxes, frame after frame:
            those within the limits and, where images are used, in the image.

        Raises:
            ValueError: if a box is not finite.
        """
        class_names = (self.dataset_meta or {}).get("classes", CLASSES)
        converted: dict[str, KittiObjects] = {}
        for frame_id, result in split.frames.items():
            boxes, info = result[stage], split.infos[frame_id]
            if not np.isfinite(boxes).all():
                row = int(np.argwhere(~np.isfinite(boxes))[0][0])
                got = f"{boxes[row]} in frame {frame_id!r}"
                raise input_error(FIELDS[stage][0], "finite", got, "check the training")
            image = info["images"][self.default_cam_key]
            converted[frame_id] = detections_of_boxes(
                boxes,
                result[f"scores {stage}"],
                [class_names[label] for label in result["labels"]],
                calibration_of_info(info, self.default_cam_key),
                (image["width"], image["height"]),
            )
        predicted = stack_frames(converted, scores=True)
        objects = predicted.objects
        boxes = np.concatenate([np.zeros((0, 7)), *(r[stage] for r in split.frames.values())])
        reasons = find_left_out(boxes, objects, self.pcd_limit_range, split.uses_image)
        kept = ~np.any(list(reasons.values()), axis=0)
        starts = np.concatenate([[0], np.cumsum(kept)])[predicted.starts]
        problem = MatchingProblem(
            split.labels,
            KittiFrames(predicted.frame_ids, starts, objects.select(kept)),
            uses_image=split.uses_image,
            dropped={r: Counter(objects.names[mask].tolist()) for r, mask in reasons.items()},
        )
        if stage == "after" and objects.score is not None:
            warn_left_out(split.labels, objects.score, reasons)
        return problem, kept

    def _calibrate(
        self, stage: str, report: KittiReport, split: Split, kept: NDArray[np.bool_]
    ) -> Mapping[str, Mapping[str, CalibrationReport]]:
        """Calibration of one stage's densities by class and difficulty, if it has densities."""
        frames = list(split.frames.values())
        given = self.densities(stage, frames)
        if given is None:
            return {}
        densities, settings = given
        calibrations = [calibration_of_info(i, self.default_cam_key) for i in split.infos.values()]
        labels = split.labels
        return calibrate(
            {key: (pairs.labels, pairs.detections) for key, pairs in report.pairs.items()},
            boxes_of_labels(labels, calibrations),
            [labels.frame_ids[frame] for frame in labels.frame_of_object],
            densities[torch.from_numpy(kept)],
            np.concatenate([result[stage] for result in frames])[kept],
            settings,
        )

    def _write_results(self, problems: Mapping[str, MatchingProblem]) -> None:
        """Write one KITTI result file a frame and stage, all together, where asked for."""
        if self.out_dir is None:
            return
        with merged_folder(self.out_dir) as out:
            for stage, problem in problems.items():
                folder = out if stage == "after" else out / stage
                folder.mkdir(exist_ok=True)
                for index, frame_id in enumerate(problem.detections.frame_ids):
                    write_labels(folder / f"{frame_id}.txt", problem.detections.frame(index))
