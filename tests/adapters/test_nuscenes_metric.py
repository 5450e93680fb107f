"""The nuScenes metric of the host: before and after, files, subsets, and the devkit's figures."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm3d.boxes.codings import LocalCoding
from ebm3d.datasets.nuscenes.classes import CLASSES
from ebm3d.densities import BoxDistribution, GaussianDensity
from ebm3d.evaluation.nuscenes.lidar_frame import attributes_by_speed
from ebm3d.evaluation.tables import render
from tests.adapters.nuscenes import MODEL_CLASSES, labels_of, sample_of, write_split
from tests.evaluation.nuscenes.drives import VERSION, write_drives
from tests.evaluation.nuscenes.test_against_devkit import assert_equal, by_devkit

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]
pytest.importorskip("mmdet3d")
Infos = list[dict[str, Any]]
_SPREAD = [0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two drives."""
    folder = tmp_path_factory.mktemp("drives") / "root"
    write_drives(folder, np.random.default_rng(3), num_labels=60)
    return folder


@pytest.fixture(scope="module")
def infos(root: Path) -> Infos:
    """Of all samples; the file is ``infos.pkl``."""
    return write_split(root, root / "infos.pkl")


def _metric(root: Path, **options: Any) -> Any:
    from ebm3d.adapters.metrics import EBM3DNuScenesMetric

    options = {"ann_file": str(root / "infos.pkl"), "num_replicates": 5, **options}
    metric = EBM3DNuScenesMetric(**options)
    metric.dataset_meta = {"classes": MODEL_CLASSES}
    return metric


def _predictions(infos: Infos, *, refined: bool = False, columns: int = 9) -> list[Any]:
    """Labels, moved, some of them missed; before refinement moved more."""
    rng = np.random.default_rng(1)
    samples = []
    for info in infos:
        boxes, names = labels_of(info)
        seen = np.flatnonzero(rng.random(len(boxes)) < 0.9)
        boxes = np.nan_to_num(boxes[seen, :columns])
        noise = rng.normal(size=boxes.shape) * _SPREAD[:columns]
        noise[:, 3:6] *= boxes[:, 3:6]
        scores = rng.uniform(0.05, 1, len(boxes)).round(1)  # with ties, and zeros
        names = [names[i] for i in seen]
        initial = boxes + noise if refined else None
        samples.append(sample_of(info, boxes + noise / 2, scores, names, initial))
    return samples


def _run(metric: Any, samples: list[Any]) -> dict[str, float]:
    for sample in samples:
        metric.process({}, [sample])
    figures: dict[str, float] = metric.evaluate(len(samples))
    return figures


def _change(infos: Infos, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write an info file whose infos are changed in place."""
    content = {"metainfo": {}, "data_list": infos}
    content = pickle.loads(pickle.dumps(content))
    content["metainfo"] = {"categories": {n: i for i, n in enumerate(CLASSES)}, "version": VERSION}
    for info in content["data_list"]:
        change(info)
    path.write_bytes(pickle.dumps(content))


def test_the_devkit_finds_the_same_figures_in_what_is_written(
    root: Path, infos: Infos, tmp_path: Path
) -> None:
    from ebm3d.adapters.engine import comparison_table

    out, figures_file = tmp_path / "out", tmp_path / "figures.json"
    samples = _predictions(infos, refined=True)
    boxes, names = labels_of(infos[0])
    many = np.nan_to_num(np.tile(boxes, (600 // len(boxes) + 1, 1))[:600])
    many[:, :2] += np.random.default_rng(0).normal(size=(600, 2))
    scores = np.linspace(0.001, 0.999, 600)
    names = (names * 600)[:600]
    samples[0] = sample_of(infos[0], many, scores, names, many + 0.1)
    figures = _run(_metric(root, out_dir=str(out), json_file=str(figures_file)), samples[::-1])
    tree = json.loads(figures_file.read_text())
    assert set(tree) == {"before", "after", "comparison"}
    for stage, file in (("before", out / "before"), ("after", out)):
        theirs = by_devkit(root, file / "results_nusc.json", "mini_val", tmp_path)
        assert_equal(tree[stage], theirs)
        assert figures[f"{stage}/NDS"] == pytest.approx(theirs["nd_score"], abs=1e-9)
        assert figures[f"{stage}/mAVE"] == pytest.approx(theirs["tp_errors"]["vel_err"], abs=1e-9)
        ap = theirs["label_aps"]["car"]["0.5"]
        assert figures[f"{stage}/car/ap_0.5"] == pytest.approx(ap, abs=1e-9)
        assert tree[stage]["localization"]["left_out"]["over_limit"] == 100
    assert figures["after/NDS"] > figures["before/NDS"]
    key = "car/localization/mean_iou_3d"
    assert figures[f"after/{key}"] > figures[f"before/{key}"]
    text = render(comparison_table(tree))
    for name in ("NDS", "mAP", "mATE", "mAAE", "car AP", "barrier AP"):
        assert f" {name} " in text
    assert "value" in render(comparison_table(tree["after"]))
    difference = tree["comparison"]["means"]["nd_score"]["difference"]
    assert difference == pytest.approx(figures["after/NDS"] - figures["before/NDS"])


def test_true_boxes_have_an_nds_of_one(infos: Infos, tmp_path: Path) -> None:
    def follow_the_rule(info: dict[str, Any]) -> None:
        info["instances"] = [part for part in info["instances"] if part["bbox_3d_isvalid"]]
        for part in info["instances"]:
            velocity = np.array([part["global_box"][7:]])
            part["attr_label"] = int(attributes_by_speed([max(part["bbox_label"], 0)], velocity)[0])
            part["attr_label"] %= 9  # none is the last one

    _change(infos, tmp_path / "infos.pkl", follow_the_rule)
    changed = pickle.loads((tmp_path / "infos.pkl").read_bytes())["data_list"]
    samples = []
    for info in changed:
        boxes, names = labels_of(info)
        samples.append(sample_of(info, boxes, np.full(len(boxes), 0.5), names))
    figures = _run(_metric(tmp_path), samples)
    assert figures["mAP"] == pytest.approx(1.0)
    # Velocities lose their vertical part in the frame of the tilted car, as in the host's infos.
    assert figures["NDS"] == pytest.approx(1.0, abs=1e-3)
    assert min(figures[f"{name}/iou_ap_strict"] for name in CLASSES) == pytest.approx(1.0)


def test_boxes_are_written_as_the_host_writes_them(
    root: Path, infos: Infos, tmp_path: Path
) -> None:
    from mmdet3d.registry import METRICS

    samples = _predictions(infos)
    _run(_metric(root, out_dir=str(tmp_path)), samples)
    written = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    host = METRICS.build(
        {"type": "NuScenesMetric", "data_root": str(root), "ann_file": str(root / "infos.pkl")}
    )
    host.data_infos = infos
    results = [
        {"pred_instances_3d": sample["pred_instances_3d"], "sample_idx": index}
        for index, sample in enumerate(samples)
    ]
    files, _ = host.format_results(results, MODEL_CLASSES, str(tmp_path / "host"))
    theirs = json.loads(Path(files["pred_instances_3d"]).read_text())["results"]
    num = 0
    for token, expected in theirs.items():
        by_place = {tuple(np.round(box["translation"], 2)): box for box in written[token]}
        for box in expected:
            if box["detection_score"] == 0:
                continue
            ours = by_place[tuple(np.round(box["translation"], 2))]
            for name in ("detection_name", "attribute_name", "detection_score"):
                assert ours[name] == box[name]
            for name in ("translation", "size", "velocity"):
                np.testing.assert_allclose(ours[name], box[name], atol=1e-4)
            num += 1
    assert num > 100


def test_frames_are_known_by_name_in_any_order_and_a_subset_is_evaluated_alone(
    root: Path, infos: Infos, tmp_path: Path
) -> None:
    samples = _predictions(infos)
    assert _run(_metric(root), samples[::-1]) == _run(_metric(root), samples)
    out = tmp_path / "figures.json"
    figures = _run(_metric(root, json_file=str(out)), samples[5:3:-1])
    left_out = json.loads(out.read_text())["localization"]["left_out"]
    assert left_out["frames"] == len(infos) - 2

    def forget(info: dict[str, Any]) -> None:
        if info["token"] not in (infos[4]["token"], infos[5]["token"]):
            info["instances"] = []

    _change(infos, tmp_path / "infos.pkl", forget)
    others = _predictions(infos)
    for sample in (*others[:4], *others[6:]):
        predicted = sample["pred_instances_3d"]
        predicted.update({name: value[:0] for name, value in predicted.items()})
    alone = _run(_metric(tmp_path), others)
    assert {k: figures[k] for k in figures} == pytest.approx({k: alone[k] for k in figures})


@pytest.mark.parametrize("content", [b"text", pickle.dumps([]), pickle.dumps({"data_list": [{}]})])
def test_a_file_that_is_no_info_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "infos.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"infos\.pkl: expected an info file"):
        _ = _metric(tmp_path).frames
    with pytest.raises(ValueError, match=r"none\.pkl: expected an info file"):
        _ = _metric(tmp_path, ann_file=str(tmp_path / "none.pkl")).frames


def test_boxes_without_velocities_have_none(root: Path, infos: Infos, tmp_path: Path) -> None:
    samples = _predictions(infos, columns=7)
    figures = _run(_metric(root, out_dir=str(tmp_path)), samples)
    assert figures["mAVE"] == 1.0
    written = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    boxes = [box for part in written.values() for box in part]
    assert np.isnan([box["velocity"] for box in boxes]).all()
    theirs = by_devkit(root, tmp_path / "results_nusc.json", "mini_val", tmp_path)
    assert figures["NDS"] == pytest.approx(theirs["nd_score"], abs=1e-9)


@pytest.mark.parametrize("tables", [True, False])
def test_what_infos_of_the_host_lack_is_read_from_the_tables(
    root: Path, infos: Infos, tmp_path: Path, tables: bool
) -> None:
    def as_the_host(info: dict[str, Any]) -> None:
        for part in info["instances"]:
            for name in ("attr_label", "global_box", "category"):
                del part[name]

    _change(infos, tmp_path / "infos.pkl", as_the_host)
    samples = _predictions(infos)
    expected = _run(_metric(root), samples)
    figures = _run(_metric(tmp_path, **({"data_root": str(root)} if tables else {})), samples)
    assert tables == ("NDS" in figures) == ("mAAE" in figures)
    if tables:
        assert figures == expected
    assert figures["car/ap"] == pytest.approx(expected["car/ap"])


def test_a_split_without_labels_is_written_and_not_evaluated(infos: Infos, tmp_path: Path) -> None:
    _change(infos, tmp_path / "infos.pkl", lambda info: info.pop("instances"))
    samples = _predictions(infos)
    with pytest.raises(ValueError, match="out_dir must be given"):
        _metric(tmp_path).process({}, samples[:1])
    assert _run(_metric(tmp_path, out_dir=str(tmp_path / "out")), samples) == {}
    written = json.loads((tmp_path / "out" / "results_nusc.json").read_text())
    assert set(written["results"]) == {info["token"] for info in infos}


def test_true_densities_of_boxes_with_velocities_are_calibrated(
    root: Path, infos: Infos, tmp_path: Path
) -> None:
    std = torch.tensor([0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.1, 0.4, 0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for info in infos:
        boxes, names = labels_of(info)
        truth = torch.from_numpy(np.nan_to_num(boxes)).repeat(8, 1)
        shift = torch.randn(truth.shape, generator=generator, dtype=torch.float64) * std
        log_variance = (2 * std.log()).expand_as(truth)
        coding = LocalCoding(truth, torch.ones_like(truth))
        density = BoxDistribution(GaussianDensity(shift, log_variance), coding)
        predicted = density.boxes.numpy()
        scores = np.linspace(0.2, 0.9, len(truth))
        fields = {"initial_box_distribution": density}
        samples.append(sample_of(info, predicted, scores, names * 8, predicted, **fields))
    out = tmp_path / "figures.json"
    figures = _run(_metric(root, json_file=str(out)), samples)
    tree = json.loads(out.read_text())
    part = tree["before"]["calibration"]["all"]
    assert "calibration" not in tree["after"]
    assert figures["before/calibration/nll/mean"] == pytest.approx(part["nll"]["mean"])
    assert part["num_pairs"] > 100
    assert part["nll"]["mean"] == pytest.approx(part["entropy"], abs=0.8)
    assert part["mca"]["velocity"] < 0.1
    assert part["rms_standardized_error"]["vx"] == pytest.approx(1.0, abs=0.2)
    assert set(part["ece"]) == {"x", "y", "z", "dx", "dy", "dz", "yaw", "vx", "vy", "mean"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cloud": "there/none.pcd.bin"}, "frames must be among those of .*'none.pcd'"),
        ({"cloud": None}, "add 'lidar_path' to meta_keys"),
        ({"classes": ("car", "van")}, "classes of the data set must be among car, .* got van"),
        ({"column": 0, "value": np.nan}, "bboxes_3d must be finite, of positive size"),
        ({"column": 3, "value": 0.0}, "bboxes_3d must be finite, of positive size"),
        ({"column": 7, "value": np.inf}, "bboxes_3d must be finite, of positive size"),
        ({"score": -0.5}, "scores_3d must be finite numbers of at least 0"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(
    root: Path, infos: Infos, change: dict[str, Any], message: str
) -> None:
    sample = _predictions(infos[:1])[0]
    metric = _metric(root)
    sample["lidar_path"] = change.get("cloud", sample["lidar_path"])
    metric.dataset_meta["classes"] = change.get("classes", MODEL_CLASSES)
    predicted = sample["pred_instances_3d"]
    if "column" in change:
        predicted["bboxes_3d"].tensor[0, change["column"]] = change["value"]
    predicted["scores_3d"][0] = change.get("score", 0.5)
    with pytest.raises(ValueError, match=message):
        _run(metric, [sample])


def test_clouds_of_one_name_are_refused(infos: Infos, tmp_path: Path) -> None:
    def rename(info: dict[str, Any]) -> None:
        info["lidar_points"]["lidar_path"] = "same.pcd.bin"

    _change(infos, tmp_path / "infos.pkl", rename)
    with pytest.raises(ValueError, match=r"clouds of .* 'same.pcd' more than once"):
        _run(_metric(tmp_path), _predictions(infos)[:1])


def test_labels_of_the_host_s_models_are_in_the_order_of_its_data_sets() -> None:
    from mmdet3d.datasets import NuScenesDataset
    from mmengine.config import Config
    from mmengine.utils import get_installed_path

    path = "centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py"
    config = Config.fromfile(Path(get_installed_path("mmdet3d")) / ".mim" / "configs" / path)
    tasks = [name for task in config.model.pts_bbox_head.tasks for name in task["class_names"]]
    assert tuple(tasks) == MODEL_CLASSES
    assert tuple(config.test_dataloader.dataset.metainfo.classes) == MODEL_CLASSES
    assert NuScenesDataset.METAINFO["classes"] == CLASSES
