"""The nuScenes evaluation as a metric of the host, before and after refinement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import METRICS
from mmengine.logging import MMLogger
from rich.console import RenderableType

from ebm3d.adapters.metrics.base import (
    StagedMetric,
    flat_figures,
    log_tables,
    returned,
    stages_of,
)
from ebm3d.adapters.metrics.calibration import calibrate
from ebm3d.adapters.metrics.nuscenes_conversion import (
    StageDetections,
    stage_detections,
)
from ebm3d.adapters.metrics.nuscenes_frames import NuScenesFrames, read_frames, select_samples
from ebm3d.datasets.atomic import merged_folder
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.errors import input_error
from ebm3d.evaluation.calibration import CalibrationReport
from ebm3d.evaluation.comparison import NUM_REPLICATES
from ebm3d.evaluation.nuscenes import PROTOCOL, NuScenesReport, evaluate_nuscenes, write_results
from ebm3d.evaluation.nuscenes.boxes import FloatArray
from ebm3d.evaluation.nuscenes.comparison import compare_nuscenes
from ebm3d.evaluation.nuscenes.lidar_frame import boxes_of_samples
from ebm3d.evaluation.nuscenes.localization import find_pairs
from ebm3d.evaluation.nuscenes.tables import comparison_tables, report_tables
from ebm3d.evaluation.tables import calibration_table

RESULTS = "results_nusc.json"
_GROUP = f"pairs within {PROTOCOL.dist_th_tp:g} m"
_NUM_COLUMNS = 4
MEAN_ERRORS = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}


@METRICS.register_module()
class EBM3DNuScenesMetric(StagedMetric):
    """The nuScenes detection protocol, on the CPU, without the development kit.

    Replaces the host's ``NuScenesMetric`` in any config; version and split are those of the info
    file, whose labels are read once. Predictions that hold ``initial_bboxes_3d`` are evaluated
    before and after refinement, with keys under ``before/`` and ``after/``; others without prefix.
    Frames are identified by the name of their cloud, so subsets of the data set (``indices``) and
    any order are fine. Boxes of seven columns have no velocity: mAVE is then 1, as the protocol has
    it. Attributes follow class and speed, as in the host. Of each frame the 500 boxes of highest
    score count. A split without labels is written to ``out_dir`` and not evaluated.

    Keys: ``[before/|after/]NDS``, ``mAP``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE``; by
    class ``car/ap`` and ``car/ap_0.5``, ``car/trans_err`` and the like, ``car/localization/...``,
    and of predictions with ``box_distribution`` ``car/calibration/nll/mean``. ``json_file`` has the
    keys of the development kit's ``metrics_summary.json`` beside ours. docs/nuscenes.md.

    Args:
        ann_file: info file of the split, version 1.1 of the host.
        data_root: where the tables are, for info files of the host, which hold neither attributes
            nor bicycle racks; by default the folder of ``ann_file``.
        num_replicates: of the bootstrap over scenes that gives the intervals of before against
            after.
        out_dir: folder that receives ``results_nusc.json`` for development kit and leaderboard
            (that before refinement in its subfolder ``before``), or ``None``.
        json_file: file that receives all figures as a tree, or ``None``.
        calibration: what to do with predicted densities: the arguments of
            :class:`ebm3d.adapters.metrics.calibration.CalibrationSettings`.
        prefix: as in mmengine.
        collect_device: as in mmengine.
        backend_args: as in mmengine.
    """

    num_columns = 9

    def __init__(
        self,
        ann_file: str,
        data_root: str | None = None,
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
        self.data_root = Path(ann_file).parent if data_root is None else Path(data_root)

    @cached_property
    def frames(self) -> NuScenesFrames:
        """The info file, read once.

        Raises:
            ValueError: if its clouds have one name, or it has no labels and there is no
                ``out_dir``.
        """
        frames = read_frames(self.ann_file, self.data_root, self.backend_args)
        if frames.truth is None and self.out_dir is None:
            expected = f"given, as {self.ann_file} holds no labels to evaluate against"
            remedy = "the results are then written for the leaderboard"
            raise input_error("out_dir", expected, None, remedy)
        return frames

    def frame_id(self, path: str) -> str:
        """The stem of a cloud's name, one of the info file."""
        return self.frames.frame_id(path)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate the results of all processes; ValueError for boxes that are not valid."""
        by_row = {self.frames.rows[result["frame_id"]]: result for result in results}
        chosen = np.array(sorted(by_row), dtype=np.int64)
        results = [by_row[row] for row in chosen.tolist()]
        transforms = self.frames.transforms[chosen]
        class_names = (self.dataset_meta or {}).get("classes", CLASSES)
        detections = {
            stage: stage_detections(results, stage, transforms, class_names)
            for stage in stages_of(results)
        }
        self._write_results([self.frames.tokens[row] for row in chosen.tolist()], detections)
        if self.frames.truth is None:
            _note(f"{self.ann_file} holds no labels: results are written, not evaluated.")
            return {}
        truth = select_samples(self.frames.truth, chosen)
        num_others = len(self.frames.tokens) - len(chosen)
        if num_others:
            _note(f"{len(chosen)} of {len(self.frames.tokens)} frames are evaluated.")
        tree: dict[str, Any] = {}
        reports: dict[str, NuScenesReport] = {}
        for stage, part in detections.items():
            report = evaluate_nuscenes(truth, part.boxes)
            title = f"{stage} refinement, " if len(detections) == 2 else ""
            log_tables(*report_tables(report, title))
            tree[stage] = report.as_dict()
            left_out = {"over_limit": part.num_over_limit, "frames": num_others}
            tree[stage]["localization"]["left_out"] |= left_out
            reports[stage] = report
            densities = self._calibrate(stage, report, part, results, transforms)
            if densities:
                log_tables(*_calibration_tables(densities, title))
                tree[stage]["calibration"] = {
                    n: report.as_dict() for n, report in densities.items()
                }
        if len(detections) == 2:
            comparison = compare_nuscenes(*reports.values(), num_replicates=self.num_replicates)
            log_tables(*comparison_tables(comparison))
            tree["comparison"] = comparison
        else:
            tree = tree["after"]
        self.write_json(tree)
        if len(detections) < 2:
            return returned(_figures(tree))
        return {
            f"{stage}/{key}": value
            for stage in detections
            for key, value in returned(_figures(tree[stage])).items()
        }

    def _calibrate(
        self,
        stage: str,
        report: NuScenesReport,
        detections: StageDetections,
        results: Sequence[Mapping[str, Any]],
        transforms: FloatArray,
    ) -> dict[str, CalibrationReport]:
        """Calibration of one stage's densities, of all classes and by class, if it has any."""
        given = self.densities(stage, results)
        if given is None:
            return {}
        densities, settings = given
        matching, pairs = report.matching, find_pairs(report.matching)
        rows = detections.rows[matching.rows]
        num_columns = densities.boxes.shape[1]
        predicted = np.concatenate([result[stage] for result in results])[rows, :num_columns]
        groups = {"all": np.ones(len(pairs.class_index), dtype=np.bool_)}
        groups |= {name: pairs.class_index == index for index, name in enumerate(CLASSES)}
        reports = calibrate(
            {
                (name, _GROUP): (pairs.matched.labels[inside], pairs.matched.detections[inside])
                for name, inside in groups.items()
            },
            boxes_of_samples(matching.labels, transforms)[:, :num_columns],
            [matching.truth.tokens[sample] for sample in matching.labels.sample],
            densities[torch.from_numpy(rows)],
            predicted,
            settings,
            shown=_GROUP,
        )
        return {name: by_group[_GROUP] for name, by_group in reports.items()}

    def _write_results(
        self, tokens: Sequence[str], detections: Mapping[str, StageDetections]
    ) -> None:
        """Write one result file a stage, all together, where asked for."""
        if self.out_dir is None:
            return
        with merged_folder(self.out_dir) as out:
            for stage, part in detections.items():
                folder = out if stage == "after" else out / stage
                write_results(folder / RESULTS, tokens, part.boxes)


def _calibration_tables(
    reports: Mapping[str, CalibrationReport], title: str
) -> Iterator[RenderableType]:
    """Yield the calibration of all classes and of those that have pairs, some columns at a time."""
    shown = [name for name, report in reports.items() if report.num_pairs or name == "all"]
    for first in range(0, len(shown), _NUM_COLUMNS):
        part = {name: reports[name] for name in shown[first : first + _NUM_COLUMNS]}
        yield calibration_table(part, f"{title}Predicted densities on the {_GROUP}")


def _figures(tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures of one stage by key, those that are known."""
    yield "NDS", tree["nd_score"]
    yield "mAP", tree["mean_ap"]
    for error, key in MEAN_ERRORS.items():
        yield key, tree["tp_errors"][error]
    for name, aps in tree["label_aps"].items():
        yield f"{name}/ap", tree["mean_dist_aps"][name]
        yield from ((f"{name}/ap_{distance}", ap) for distance, ap in aps.items())
        yield from ((f"{name}/{k}", v) for k, v in tree["label_tp_errors"][name].items())
        yield from (
            (f"{name}/iou_ap_{k}", v) for k, v in tree["localization"]["iou_aps"][name].items()
        )
        yield from flat_figures(tree["localization"]["classes"][name], f"{name}/localization/")
    for name, figures in tree.get("calibration", {}).items():
        prefix = "calibration/" if name == "all" else f"{name}/calibration/"
        yield from flat_figures(figures, prefix)


def _note(text: str) -> None:
    """Write a line into the log of the run."""
    MMLogger.get_current_instance().info(text)
