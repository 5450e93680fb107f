"""Scores of a KITTI evaluation as probabilities that a box fits: calibration, and fitted fusions.

D detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from ebm3d.adapters.dense_heads.after_refinement import INITIAL_SCORES
from ebm3d.adapters.score_features import score_features
from ebm3d.datasets.atomic import check_writable
from ebm3d.errors import input_error
from ebm3d.evaluation.kitti_evaluation import MatchingProblem
from ebm3d.evaluation.kitti_protocol import OFFICIAL_IOU
from ebm3d.evaluation.score_calibration import calibration_of_scores, detection_outcomes
from ebm3d.evaluation.score_fusion import fit_score_fusion, write_score_fusion

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FusionSettings:
    """What is fitted to the scores of ``bboxes_3d``.

    Attributes:
        fit: file that receives the weights of a fusion, or None.
        features: what is fused, of :func:`ebm3d.adapters.score_features.score_features`.

    Raises:
        ValueError: if there is nothing to fuse, or the file cannot be written.
    """

    fit: str | None = None
    features: Sequence[str] = ("f_refined",)

    def __post_init__(self) -> None:
        """Check that there is a feature."""
        if self.fit is not None and not self.features:
            raise input_error("score_fusion.features", "one or more names", "none")
        if self.fit is not None:
            check_writable("score_fusion.fit", self.fit)

    def features_of(self, predicted: Any) -> FloatArray | None:
        """Return the features of a frame's predictions ``(N, K)``, if they are wanted.

        Args:
            predicted: what a detector gives of a frame.

        Raises:
            ValueError: if they hold no such feature, or their scores are not the detector's: fused
                already, or lowered by a ``score_decay``.
        """
        if self.fit is None:
            return None
        if INITIAL_SCORES in predicted:
            remedy = "fit with score_fusion=None (no --fusion) and score_decay=0"
            raise input_error("scores to be fused", "the detector's", "changed ones", remedy)
        found: FloatArray = score_features(predicted, tuple(self.features)).detach().cpu().numpy()
        return found

    def fit_to(
        self,
        problem: MatchingProblem,
        features: FloatArray,
        classes: Sequence[str],
    ) -> None:
        """Fit, write and say what it gains.

        Args:
            problem: labels and D detections.
            features: ``(D, K)``.
            classes: evaluated ones; the weights are the same for all.
        """
        if self.fit is None:
            return
        min_iou = {name: OFFICIAL_IOU[name] for name in classes}
        is_true, is_judged = detection_outcomes(problem, min_iou)
        columns = dict(zip(self.features, features[is_judged].T, strict=True))
        scores = problem.scores[is_judged]
        fitted = fit_score_fusion(scores, columns, is_true[is_judged], min_iou)
        write_score_fusion(self.fit, fitted)
        before, after = fitted.before, fitted.after
        MMLogger.get_current_instance().info(
            "Fusion of scores with %s on %d boxes, %.1f %% of them true: Brier score %.4f -> %.4f, "
            "ECE %.4f -> %.4f, log loss %.4f -> %.4f nats; written to %s",
            ", ".join(self.features),
            before.num_boxes,
            100 * before.share_true,
            before.brier,
            after.brier,
            before.ece,
            after.ece,
            before.log_loss,
            after.log_loss,
            self.fit,
        )


def calibration_by_class(
    problem: MatchingProblem, classes: Sequence[str]
) -> Mapping[str, dict[str, Any]]:
    """Measure the scores as probabilities that a box is found by the official tool's overlap.

    Args:
        problem: labels and detections.
        classes: evaluated ones.

    Returns:
        By class ``min_iou``, ``brier``, ``ece``, ``log_loss`` and more.
    """
    found = {}
    for name in classes:
        is_true, is_judged = detection_outcomes(problem, {name: OFFICIAL_IOU[name]})
        calibration = calibration_of_scores(problem.scores[is_judged], is_true[is_judged])
        found[name] = {"min_iou": OFFICIAL_IOU[name], **calibration.as_dict()}
    return found
