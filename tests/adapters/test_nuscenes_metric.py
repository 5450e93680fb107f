"""The nuScenes metric of the host: before and after, files, subsets, and the devkit's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.nuscenes import MODEL_CLASSES, labels_of, sample_of, write_split
from tests.evaluation.nuscenes.drives import VERSION, write_drives

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]
pytest.importorskip("mmdet3d")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two drives, and their infos."""
    folder = tmp_path_factory.mktemp("drives") / "root"
    write_drives(folder, np.random.default_rng(3), num_labels=60)
    return folder


@pytest.fixture(scope="module")
def infos(root: Path) -> list[dict[str, Any]]:
    """Of all samples; the file is ``infos.pkl``."""
    return write_split(root, root / "infos.pkl")


def _metric(root: Path, **options: Any) -> Any:
    from ebm3d.adapters.metrics import EBM3DNuScenesMetric

    metric = EBM3DNuScenesMetric(str(root / "infos.pkl"), num_replicates=20, **options)
    metric.dataset_meta = {"classes": MODEL_CLASSES}
    return metric


def _predictions(infos: list[dict[str, Any]], *, refined: bool, columns: int = 9) -> list[Any]:
    """Labels, moved, some of them missed; before refinement moved more."""
    rng = np.random.default_rng(1)
    samples = []
    for info in infos:
        boxes, names = labels_of(info)
        seen = np.flatnonzero(rng.random(len(boxes)) < 0.8)
        boxes = np.nan_to_num(boxes[seen, :columns])
        noise = rng.normal(size=boxes.shape) * [0.6, 0.6, 0.1, 0, 0, 0, 0.1, 0.5, 0.5][:columns]
        scores = rng.uniform(0.1, 1, len(boxes)).round(1)
        names = [names[i] for i in seen]
        initial = boxes + noise if refined else None
        samples.append(sample_of(info, boxes + noise / 2, scores, names, initial))
    return samples


def _run(metric: Any, samples: list[Any]) -> dict[str, float]:
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_x(root: Path, infos: list[dict[str, Any]], tmp_path: Path) -> None:
    figures = _run(_metric(root, json_file=str(tmp_path / "a.json")), _predictions(infos, refined=False))
    print({k: v for k, v in figures.items() if k.count("/") < 2})
    assert 0
