"""Every official figure equals that of the development kit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.evaluation.nuscenes import evaluate_nuscenes, read_results, read_table_truth
from tests.evaluation.nuscenes.drives import VERSION, random_results, write_drives

TOLERANCE = 1e-9


def figures(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the official figures of a summary by their path, but its time."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from figures(value, f"{path}{name}/")
        elif (
            isinstance(value, (int, float)) and not isinstance(value, bool) and name != "eval_time"
        ):
            yield path + name, value


def assert_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Compare the figures of two summaries, NaN with NaN."""
    expected = dict(figures(theirs))
    actual = dict(figures(ours))
    assert len(expected) > 100
    np.testing.assert_allclose(
        [actual[name] for name in expected], [*expected.values()], rtol=0, atol=TOLERANCE
    )


def by_devkit(root: Path, results: Path, split: str, folder: Path) -> Mapping[str, Any]:
    """Evaluate with the development kit."""
    pytest.importorskip("nuscenes.eval.detection.evaluate")
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    tables = NuScenes(version=VERSION, dataroot=str(root), verbose=False)
    config = config_factory("detection_cvpr_2019")
    evaluation = DetectionEval(tables, config, str(results), split, str(folder), verbose=False)
    summary: Mapping[str, Any] = json.loads(json.dumps(evaluation.evaluate()[0].serialize()))
    return summary


def by_us(root: Path, results: Path, split: str) -> Mapping[str, Any]:
    """Evaluate with the package, through JSON as the tool writes it."""
    truth = read_table_truth(root, VERSION, split)
    detections, _ = read_results(results).boxes_of(truth)
    tree: Mapping[str, Any] = json.loads(json.dumps(evaluate_nuscenes(truth, detections).as_dict()))
    return tree


@pytest.mark.parametrize(
    ("label_classes", "classes", "score"),
    [
        (CLASSES, CLASSES, None),
        (CLASSES, ("car", "bicycle", "barrier"), None),
        (("pedestrian", "motorcycle", "bicycle"), CLASSES, None),
        (CLASSES, CLASSES, 0.0),
        (("bicycle", "motorcycle"), ("bicycle", "motorcycle"), 0.5),
    ],
)
@pytest.mark.parametrize("split", ["mini_val", "own_val"])
def test_random_results_have_the_figures_of_the_devkit(
    tmp_path: Path,
    rng: np.random.Generator,
    label_classes: tuple[str, ...],
    classes: tuple[str, ...],
    score: float | None,
    split: str,
) -> None:
    root = tmp_path / "drives"
    write_drives(root, rng, classes=label_classes, num_labels=60)
    own = {"own_val": ["scene-0916"]}
    (root / VERSION / "splits.json").write_text(json.dumps(own))
    results = tmp_path / "results.json"
    results.write_text(json.dumps(random_results(root, rng, classes=classes, score=score)))
    theirs = by_devkit(root, results, split, tmp_path)
    assert_equal(by_us(root, results, split), theirs)


@pytest.mark.parametrize("folder", ["detections", "pseudo_detections"])
def test_real_annotations_have_the_published_figures(shared_data: Path, folder: str) -> None:
    root = shared_data / "nuscenes_mini_val"
    if not root.is_dir():
        pytest.skip("the annotations of mini_val are absent")
    ours = by_us(root, root / folder / "results_nusc.json", "mini_val")
    assert_equal(ours, json.loads((root / folder / "metrics_summary.json").read_text()))
