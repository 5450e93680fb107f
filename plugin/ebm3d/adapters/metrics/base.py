"""What the metrics of all data sets share: predictions before and after refinement, and outputs."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from ebm3d.adapters.dense_heads.score_fusion import INITIAL_SCORES
from ebm3d.adapters.metrics.calibration import CalibrationSettings
from ebm3d.datasets.atomic import check_writable, write_atomically
from ebm3d.densities import BoxDistribution
from ebm3d.errors import input_error
from ebm3d.evaluation.tables import render

# By stage: fields of boxes, scores and densities.
FIELDS = {
    "before": ("initial_bboxes_3d", INITIAL_SCORES, "initial_box_distribution"),
    "after": ("bboxes_3d", "scores_3d", "box_distribution"),
}
_NOT_RETURNED = ("by_", "quantiles", "ahs_", "reliability", "pit_histogram")


class StagedMetric(BaseMetric):
    """Collects predictions, those before refinement too where they hold ``initial_bboxes_3d``.

    Args:
        ann_file: info file of the split, version 1.1 of the host.
        num_replicates: of the bootstrap that gives the intervals of before against after.
        out_dir: folder that receives result files, or ``None``.
        json_file: file that receives all figures as a tree, or ``None``.
        calibration: the arguments of :class:`CalibrationSettings`.
        prefix: as in mmengine.
        collect_device: as in mmengine.
        backend_args: as in mmengine.
    """

    default_prefix = ""
    num_columns = 7
    """Of the boxes that are kept, if they have as many."""

    def __init__(
        self,
        ann_file: str,
        num_replicates: int,
        out_dir: str | None,
        json_file: str | None,
        calibration: dict[str, Any] | None,
        prefix: str | None,
        collect_device: str,
        backend_args: dict[str, Any] | None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.num_replicates = num_replicates
        self.out_dir = None if out_dir is None else Path(out_dir)
        if self.out_dir is not None:
            check_writable("out_dir", self.out_dir, "folder")
        self.json_file = None if json_file is None else Path(json_file)
        if self.json_file is not None:
            check_writable("json_file", self.json_file)
        self.calibration = CalibrationSettings(**(calibration or {}))
        self.backend_args = backend_args

    @abstractmethod
    def frame_id(self, path: str) -> str:
        """Return what identifies the frame of a cloud.

        Raises:
            ValueError: if that is no frame of the split.
        """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep what the evaluation needs of a batch.

        Args:
            data_batch: not used.
            data_samples: predictions with ``pred_instances_3d`` and ``lidar_path``.

        Raises:
            ValueError: if a sample does not say which cloud it is of, or has no densities that
                ``calibration`` needs.
        """
        for sample in data_samples:
            if not sample.get("lidar_path"):
                remedy = "add 'lidar_path' to meta_keys of Pack3DDetInputs"
                raise input_error("lidar_path of a prediction", "a path", None, remedy)
            predicted = sample["pred_instances_3d"]
            result: dict[str, Any] = {
                "frame_id": self.frame_id(sample["lidar_path"]),
                "labels": _to_numpy(predicted["labels_3d"]).astype(np.int64),
            }
            for stage, (boxes, scores, densities) in FIELDS.items():
                if boxes in predicted:
                    result[stage] = _to_numpy(predicted[boxes].tensor)[:, : self.num_columns]
                    chosen = predicted[scores if scores in predicted else "scores_3d"]
                    result[f"scores {stage}"] = _to_numpy(chosen)
                    if densities in predicted:
                        result[f"densities {stage}"] = predicted[densities].detach().to("cpu")
            if "densities after" not in result:
                self.calibration.require_densities()  # now, not after the last frame
            self.results.append(result)

    def densities(
        self, stage: str, results: Sequence[Mapping[str, Any]]
    ) -> tuple[BoxDistribution, CalibrationSettings] | None:
        """Return the densities of a stage, result after result, and what to do with them.

        Raises:
            ValueError: if ``calibration`` needs densities, and there are none.
        """
        settings, key = self.calibration, f"densities {stage}"
        if stage == "before":
            settings = replace(settings, temperature=None, fit_temperature=None, figures=None)
        if not results or not all(key in result for result in results):
            settings.require_densities()
            return None
        return type(results[0][key]).cat([result[key] for result in results]), settings

    def write_json(self, tree: Mapping[str, Any]) -> None:
        """Write all figures, where asked for."""
        if self.json_file is not None:
            self.json_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.json_file, (json.dumps(tree, indent=1) + "\n").encode())


def stages_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the stages that all results hold."""
    return [stage for stage in FIELDS if all(stage in result for result in results)]


def flat_figures(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every figure of a tree with its path: ``Car/3d/0.70/moderate/ap_r40``; no ``None``."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat_figures(value, f"{prefix}{key}/")
        elif value is not None:
            yield f"{prefix}{key}", float(value)


def returned(figures: Iterator[tuple[str, float]]) -> dict[str, float]:
    """Return the figures that a run logs and can select checkpoints by; none that is NaN."""
    return {
        key: value
        for key, value in figures
        if not any(word.startswith(_NOT_RETURNED) for word in key.split("/"))
        and not math.isnan(value)
    }


def log_tables(*tables: Any) -> None:
    """Write tables into the log of the run."""
    MMLogger.get_current_instance().info("\n%s", render(*tables))


def _to_numpy(values: Any) -> NDArray[Any]:
    """A tensor as a float64 array."""
    return values.detach().cpu().double().numpy()
