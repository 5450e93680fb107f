"""The fast evaluation against the protocol in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from ebm3d.evaluation import evaluate_kitti
from ebm3d.evaluation.kitti_evaluation import SIMILARITY_NAMES
from tests.evaluation.scenes import random_scene
from tests.oracles.kitti_protocol import LIMITS, average_precisions


@pytest.mark.parametrize("metric", ["bbox", "bev", "3d"])
@pytest.mark.parametrize("class_name", ["Car", "Pedestrian"])
def test_crowded_scenes_score_as_in_plain_python(
    rng: np.random.Generator, metric: str, class_name: str
) -> None:
    labels, detections = random_scene(rng, 30, class_name)
    thresholds = (0.25, 0.6)
    found = evaluate_kitti(labels, detections, classes=[class_name], iou_thresholds=thresholds)
    seen = []
    for threshold in thresholds:
        for difficulty in LIMITS:
            expected = average_precisions(
                labels, detections, class_name, metric, threshold, difficulty
            )
            for name in ("ap_r40", "ap_r11"):
                place = (threshold, difficulty, name)
                value = found.average_precision(class_name, metric, *place)
                assert value == pytest.approx(expected[name], abs=1e-9)
                similar = found.average_precision(class_name, SIMILARITY_NAMES[metric], *place)
                assert similar == pytest.approx(
                    expected[name.replace("ap", "similarity")], abs=1e-9
                )
                seen.append(value)
    assert len({round(value, 6) for value in seen}) > 6
