"""Fit the score fusion of a refined dense head, M-31, and write it into a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import METRICS
from mmengine.runner import Runner

from ebm3d.adapters.checkpoints import check_file, load_weights
from ebm3d.adapters.dense_heads.score_fusion import INITIAL_SCORES, ScoreFusion, score_features
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.parts import part_name, part_of
from ebm3d.datasets.atomic import check_writable, write_atomically
from ebm3d.errors import input_error
from ebm3d.evaluation.kitti_protocol import OFFICIAL_IOU
from ebm3d.evaluation.score_calibration import (
    ScoreCalibration,
    calibration_of_scores,
    detection_outcomes,
)
from ebm3d.evaluation.score_fusion import fit_score_fusion


def fit_fusion(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    features: Sequence[str] = ("f_refined",),
    cfg_options: dict[str, Any] | None = None,
) -> tuple[ScoreCalibration, ScoreCalibration]:
    """Fit scores of refined boxes on the test split as probabilities that the box fits.

    A box fits if it overlaps a true one of its class by the official 3D IoU.

    Args:
        config: config with a ``RefinedDenseHead``.
        checkpoint: what training saved; a fusion in it is ignored.
        out: file that receives the checkpoint with the fusion.
        features: what is fused with the score, see
            :func:`~ebm3d.adapters.dense_heads.score_fusion.score_features`.
        cfg_options: values of the config by dotted key.

    Returns:
        Calibration of the scores on this split before and after.

    Raises:
        ValueError: if the model refines no boxes, the predictions lack a feature, or there are too
            few boxes.
    """
    if not features or len(set(features)) < len(features):
        raise input_error("features", "one or more names, each once", list(features))
    check_writable("out", out)
    check_file(checkpoint)
    cfg = load_settings(config, work_dir=Path("work_dirs") / "fit_fusion", cfg_options=cfg_options)
    head, place = part_of(cfg.model, "bbox_head"), part_name(cfg.model, "bbox_head")
    if head.get("type") != "RefinedDenseHead" or not head.get("refine", True):
        raise input_error(f"model.{place}", "a RefinedDenseHead that refines", head.get("type"))
    evaluator = cfg.test_evaluator
    if not isinstance(evaluator, dict) or evaluator.get("type") != "EBM3DKittiMetric":
        remedy = "other data sets have no fusion yet: their scores stay the detector's"
        got = evaluator.get("type") if isinstance(evaluator, dict) else type(evaluator).__name__
        raise input_error("test_evaluator", "one EBM3DKittiMetric", got, remedy)
    runner = Runner.from_cfg(cfg)
    saved = load_weights(runner.model, checkpoint, cfg)
    runner.model.eval()
    part_of(runner.model, "bbox_head").score_fusion.features = ()  # of an earlier fit
    loader = runner.test_dataloader
    metric: Any = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = loader.dataset.metainfo
    columns = {}
    for batch in loader:
        with torch.no_grad():
            samples = runner.model.test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
        for sample, result in zip(samples, metric.results[-len(samples) :], strict=True):
            predicted = sample.pred_instances_3d
            if INITIAL_SCORES in predicted:
                remedy = "score_decay=0; fuse the feature 'uncertainty' instead"
                raise input_error("scores", "the detector's", "those of a score_decay", remedy)
            columns[result["frame_id"]] = score_features(predicted, features).cpu().numpy()
    split = metric.read_split(metric.results)
    problem, kept = metric.detections(split, "after")
    min_iou = {name: OFFICIAL_IOU[name] for name in metric.evaluated_classes()}
    is_true, is_judged = detection_outcomes(problem, min_iou)
    rows = np.concatenate([columns[frame_id] for frame_id in split.frames])[kept][is_judged]
    scores, outcomes = problem.scores[is_judged], is_true[is_judged]
    fitted = fit_score_fusion(scores, rows, outcomes)
    fusion = ScoreFusion()
    fusion.set_weights(features, fitted.weights, fitted.alone)
    fused = fusion.fuse(torch.from_numpy(scores), torch.from_numpy(rows)).numpy()
    for name, value in fusion.state_dict().items():
        saved["state_dict"][f"{place}.score_fusion.{name}"] = value
    content = BytesIO()
    torch.save(saved, content)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(out), content.getvalue())
    return calibration_of_scores(scores, outcomes), calibration_of_scores(fused, outcomes)
