"""The metric of the host: frames by name, before and after, files, and the host's own figures."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm3d.datasets import boxes_from_camera
from ebm3d.datasets.kitti_frames import KittiFrames, read_frames
from ebm3d.evaluation import evaluate_kitti
from tests.adapters.infos import LIDAR_TO_CAMERA, P2, info_of, write_infos
from tests.evaluation.scenes import make_frames, random_scene

# With the repairs the host keeps its compiled kernels from run to run.
pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]
pytest.importorskip("mmdet3d")
_FEW = {"classes": ["Car", "Cyclist"], "iou_thresholds": [0.5, 0.7]}


@pytest.fixture(scope="module")
def labels() -> KittiFrames:
    """30 crowded frames."""
    return random_scene(np.random.default_rng(5), 30)[0]


@pytest.fixture
def path(tmp_path: Path, labels: KittiFrames) -> Path:
    """The info file of the frames."""
    write_infos(tmp_path / "infos.pkl", labels)
    return tmp_path / "infos.pkl"


def _metric(path: Path, **options: Any) -> Any:
    from ebm3d.adapters.metrics import EBM3DKittiMetric

    metric = EBM3DKittiMetric(ann_file=str(path), num_replicates=50, **options)
    metric.dataset_meta = {"classes": ("Pedestrian", "Cyclist", "Car")}
    return metric


def _predictions(
    labels: KittiFrames, *, refined: bool, spread: float = 1.0, **image: Any
) -> list[Any]:
    """A sample a frame: the cars, moved; with boxes before refinement moved more."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    from ebm3d.adapters.metrics.kitti_conversion import calibration_of_info

    rng = np.random.default_rng(1)
    calibration = calibration_of_info(info_of("000000", labels.frame(0), **image), "CAM2")
    samples = []
    for index, name in enumerate(labels.frame_ids):
        cars = labels.frame(index)
        cars = cars.select(cars.names == "Car")
        boxes = boxes_from_camera(cars.location, cars.dimensions, cars.rotation_y, calibration)
        noise = spread * rng.normal(size=boxes.shape) * [0.3, 0.3, 0.05, 0.1, 0.05, 0.05, 0.05]

        def wrap(values: np.ndarray) -> LiDARInstance3DBoxes:
            return LiDARInstance3DBoxes(torch.as_tensor(values, dtype=torch.float32))

        predicted = InstanceData(
            bboxes_3d=wrap(boxes + noise * (0.3 if refined else 1.0)),
            scores_3d=torch.as_tensor(rng.permutation(len(boxes)) / 100 + index / 1000),
            labels_3d=torch.full((len(boxes),), 2),
        )
        if refined:
            predicted.initial_bboxes_3d = wrap(boxes + noise)
        sample = Det3DDataSample(metainfo={"lidar_path": f"some/where/{name}.bin", "sample_idx": 0})
        sample.pred_instances_3d = predicted
        samples.append(sample.to_dict())
    return samples


def _run(metric: Any, samples: list[Any]) -> dict[str, float]:
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_the_metric_scores_what_it_writes(path: Path, labels: KittiFrames, tmp_path: Path) -> None:
    figures = _run(
        _metric(path, out_dir=str(tmp_path / "out")), _predictions(labels, refined=False)
    )
    written = read_frames(tmp_path / "out", labels.frame_ids, scores=True)
    expected = evaluate_kitti(labels, written)
    for key in ("bbox/0.70/hard", "bev/0.50/hard", "3d/0.50/moderate", "aos/0.70/hard"):
        metric, threshold, difficulty = key.split("/")
        for name in ("ap_r40", "ap_r11"):
            value = expected.average_precision("Car", metric, float(threshold), difficulty, name)
            assert figures[f"Car/{key}/{name}"] == pytest.approx(value, abs=1e-9)
    assert 1.0 < figures["Car/3d/0.50/hard/ap_r40"] < 100.0


def test_frames_are_known_by_name_in_any_order_and_a_subset_is_evaluated_alone(
    path: Path, labels: KittiFrames
) -> None:
    samples = _predictions(labels, refined=False)
    assert _run(_metric(path), samples[::-1]) == _run(_metric(path), samples)
    figures = _run(_metric(path), samples[10:20])
    subset = labels.select(labels.frame_ids[10:20]).objects
    assert 0 < figures["Car/num_labels/hard"] <= (subset.names == "Car").sum()


def test_both_stages_are_evaluated_where_boxes_were_refined(
    path: Path, labels: KittiFrames, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    metric = _metric(path, json_file=str(out), out_dir=str(tmp_path / "out"))
    figures = _run(metric, _predictions(labels, refined=True))
    assert all(key.startswith(("before/", "after/")) for key in figures)
    same = "Car/localization_same_pairs/hard"
    assert figures[f"before/{same}/num_matched"] == figures[f"after/{same}/num_matched"] > 5
    assert figures[f"after/{same}/mean_iou_3d"] > figures[f"before/{same}/mean_iou_3d"]
    assert (
        figures[f"after/{same}/errors/along/mean_abs"]
        < figures[f"before/{same}/errors/along/mean_abs"]
    )
    tree = json.loads(out.read_text())
    assert set(tree) == {"before", "after", "comparison"}
    assert tree["after"]["Car"]["3d"]["0.70"]["hard"]["ap_r40"] == pytest.approx(
        figures["after/Car/3d/0.70/hard/ap_r40"]
    )
    assert "by_points" in tree["after"]["Car"]["localization"]
    assert len(list((tmp_path / "out").glob("*.txt"))) == 30
    assert len(list((tmp_path / "out" / "before").glob("*.txt"))) == 30


def test_frames_without_predictions_are_legal(
    path: Path, labels: KittiFrames, tmp_path: Path
) -> None:
    samples = _predictions(labels, refined=True)
    for sample in samples:
        predicted = sample["pred_instances_3d"]
        predicted.update({name: value[:0] for name, value in predicted.items()})
    figures = _run(_metric(path, out_dir=str(tmp_path / "out")), samples)
    assert figures["after/Car/3d/0.70/hard/ap_r40"] == 0.0
    assert (tmp_path / "out" / "000003.txt").read_text() == ""


@pytest.mark.parametrize(
    ("limits", "uses_image", "reasons"),
    [
        (None, True, [None, None, "outside_image", "behind_camera", None]),
        (
            (0, -40, -3, 70.4, 40, 0.0),
            True,
            [None, "outside_limits", "outside_image", *["outside_limits"] * 2],
        ),
        (None, False, [None] * 5),
        (
            (-99, -40, -3, 70.4, 40, 0.0),
            False,
            [None, "outside_limits", None, None, "outside_limits"],
        ),
    ],
)
def test_every_box_that_is_left_out_has_one_reason(
    labels: KittiFrames, limits: Any, uses_image: bool, reasons: list[str | None]
) -> None:
    from ebm3d.adapters.metrics.kitti_conversion import calibration_of_info, detections_of_boxes
    from ebm3d.adapters.metrics.left_out import find_left_out

    calibration = calibration_of_info(info_of("000000", labels.frame(0)), "CAM2")
    size = [4.0, 1.6, 1.5, 0.1]
    places = [[20, 0, -1.7], [75, 0, -1.7], [10, 30, -1.7], [-20, 0, -1.7], [20, 0, 0.5]]
    boxes = np.array([[*place, *size] for place in places])
    objects = detections_of_boxes(boxes, np.ones(5), ["Car"] * 5, calibration, (1242, 375))
    assert (objects.bbox >= 0.0).all()
    assert (objects.bbox <= [1242, 375, 1242, 375]).all()
    masks = find_left_out(boxes, objects, limits, uses_image)
    found = [[name for name, mask in masks.items() if mask[i]] or [None] for i in range(5)]
    assert found == [[reason] for reason in reasons]


@pytest.mark.parametrize(
    ("place", "turn"),
    [((0, 0, 1.73), 0.0), ((0, 0, 0), np.pi), ((-90, 50, -5), 0.7)],
    ids=["origin on the ground", "x backwards", "far origin"],
)
def test_figures_do_not_depend_on_the_lidar_frame(
    path: Path, labels: KittiFrames, place: tuple[float, ...], turn: float
) -> None:
    # Perfect boxes: noise would turn with the frame.
    expected = _run(_metric(path, **_FEW), _predictions(labels, refined=False, spread=0.0))
    moved = np.eye(4)
    moved[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    moved[:3, 3] = place
    image = {"lidar2cam": LIDAR_TO_CAMERA @ np.linalg.inv(moved)}
    write_infos(path, labels, **image)
    figures = _run(_metric(path, **_FEW), _predictions(labels, refined=False, spread=0.0, **image))
    assert figures["Car/num_detections"] == expected["Car/num_detections"] > 40
    for key in ("3d/0.70/hard", "bbox/0.70/hard", "aos/0.50/moderate", "bev/0.70/easy"):
        assert figures[f"Car/{key}/ap_r40"] == pytest.approx(expected[f"Car/{key}/ap_r40"])


@pytest.mark.parametrize("lidar_only", [True, False])
def test_without_2d_boxes_nothing_is_left_out_wherever_it_lies(
    tmp_path: Path, rng: np.random.Generator, lidar_only: bool
) -> None:
    scene = make_frames(
        [[{"x": x, "z": z, "bbox": (0.0,) * 4}] for x, z in rng.uniform(-80, 80, (60, 2))],
        scores=False,
    )
    image = {"height": 0, "width": 0} if lidar_only else {}
    path, out = tmp_path / "infos.pkl", tmp_path / "figures.json"
    write_infos(path, scene, {"lidar_only": lidar_only}, **image)
    metric = _metric(path, json_file=str(out), out_dir=str(tmp_path / "out"), **_FEW)
    figures = _run(metric, _predictions(scene, refined=False, spread=0.0))
    for key in ("3d/0.70/easy", "bev/0.70/hard"):
        assert figures[f"Car/{key}/ap_r40"] == pytest.approx(100)
    assert not [key for key in figures if "/bbox/" in key or "/aos/" in key]
    tree = json.loads(out.read_text())["Car"]
    assert tree["bbox"]["0.70"]["easy"]["ap_r40"] is None
    left_out = tree["left_out"]["detections"]
    assert not any(left_out[k] for k in ("outside_limits", "behind_camera", "outside_image"))
    written = read_frames(tmp_path / "out", scene.frame_ids, scores=True)
    assert len(written.objects) == 60


def test_what_limits_leave_out_is_counted_by_class_and_warned_of(
    path: Path, labels: KittiFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.logging import MMLogger

    warnings: list[str] = []
    monkeypatch.setattr(MMLogger, "warning", lambda _, text, *args: warnings.append(text % args))
    samples = _predictions(labels, refined=True)[:20]
    out, limits = tmp_path / "figures.json", [0, -40, -3, 30, 40, 0]
    _run(_metric(path, pcd_limit_range=limits, json_file=str(out), **_FEW), samples)
    tree = json.loads(out.read_text())
    for stage, boxes in (("before", "initial_bboxes_3d"), ("after", "bboxes_3d")):
        places = np.concatenate([s["pred_instances_3d"][boxes].tensor[:, 0] for s in samples])
        left_out = tree[stage]["Car"]["left_out"]
        assert 0 < left_out["detections"]["outside_limits"] == (places >= 30).sum() < len(places)
        assert left_out["frames"] == 10
    assert tree["after"]["Cyclist"]["left_out"]["detections"]["outside_limits"] == 0
    assert len(warnings) == 1
    assert "confident boxes lie outside pcd_limit_range" in warnings[0]


def test_clouds_of_one_name_are_refused(path: Path, labels: KittiFrames) -> None:
    infos = pickle.loads(path.read_bytes())
    infos["data_list"][3]["lidar_points"]["lidar_path"] = "other/000000.bin"
    path.write_bytes(pickle.dumps(infos))
    with pytest.raises(ValueError, match=r"clouds of .* '000000' more than once"):
        _run(_metric(path), _predictions(labels, refined=False)[:1])


def test_a_box_projects_as_in_the_host(path: Path, labels: KittiFrames) -> None:
    from mmdet3d.structures import Box3DMode, LiDARInstance3DBoxes, points_cam2img

    from ebm3d.adapters.metrics.kitti_conversion import calibration_of_info, project_boxes
    from ebm3d.datasets import boxes_to_camera

    calibration = calibration_of_info(info_of("000000", labels.frame(0)), "CAM2")
    boxes = np.array([[20, 3, -1.7, 4.1, 1.6, 1.5, 0.4], [9, -5, -1.6, 0.8, 0.6, 1.8, -2.0]])
    ours = project_boxes(*boxes_to_camera(boxes, calibration), calibration.P2)
    host = LiDARInstance3DBoxes(torch.as_tensor(boxes)).convert_to(
        Box3DMode.CAM, np.array(LIDAR_TO_CAMERA)
    )
    pixels = points_cam2img(host.corners.double(), torch.as_tensor(P2, dtype=torch.float64))
    theirs = torch.cat([pixels.amin(dim=1), pixels.amax(dim=1)], dim=1).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


def test_figures_in_the_picture_are_the_host_s(path: Path, labels: KittiFrames) -> None:
    from mmdet3d.evaluation.functional.kitti_utils.eval import do_eval

    _, detections = random_scene(np.random.default_rng(5), 30)
    ours = evaluate_kitti(labels, detections, classes=["Car"], iou_thresholds=[0.5, 0.7])
    annotations = [
        [
            {
                "name": part.names,
                "truncated": part.truncated,
                "occluded": part.occluded,
                "alpha": part.alpha,
                "bbox": part.bbox,
                "dimensions": part.dimensions[:, [2, 0, 1]],
                "location": part.location,
                "rotation_y": part.rotation_y,
                "score": np.zeros(len(part)) if part.score is None else part.score,
            }
            for part in map(frames.frame, range(len(frames)))
        ]
        for frames in (labels, detections)
    ]
    thresholds = np.array([[[0.5]] * 3, [[0.7]] * 3])
    results = do_eval(*annotations, [0], thresholds, ["bbox", "aos"])
    r11, r40 = results[0], results[4]
    for k, threshold in enumerate((0.5, 0.7)):
        for level, difficulty in enumerate(("easy", "moderate", "hard")):
            place = ("Car", "bbox", threshold, difficulty)
            assert ours.average_precision(*place, "ap_r11") == pytest.approx(
                r11[0, level, k], abs=0.01
            )
            assert ours.average_precision(*place, "ap_r40") == pytest.approx(
                r40[0, level, k], abs=0.01
            )


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (None, "add 'lidar_path' to meta_keys of Pack3DDetInputs"),
        ("there/900000.bin", "1 others, first '900000'"),
        ("000000.bin", "bboxes_3d must be finite"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(
    path: Path, labels: KittiFrames, cloud: str | None, message: str
) -> None:
    samples = _predictions(labels, refined=False)
    sample = next(s for s in samples if len(s["pred_instances_3d"]["scores_3d"]))
    sample["lidar_path"] = cloud
    sample["pred_instances_3d"]["bboxes_3d"].tensor[0, 0] = float("nan")
    with pytest.raises(ValueError, match=message):
        _run(_metric(path), [sample])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["Bus"]}, ValueError, "classes must be among Car"),
        ({"pcd_limit_range": [0, 1]}, ValueError, "pcd_limit_range must be six numbers"),
        ({"pcd_limit_range": [0, -4, 0, 7, 4, -3]}, ValueError, "pcd_limit_range must be six"),
        ({"anfile": "infos.pkl"}, TypeError, "anfile"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type, message: str) -> None:
    from mmdet3d.registry import METRICS

    with pytest.raises(error, match=message):
        METRICS.build({"type": "EBM3DKittiMetric", "ann_file": "infos.pkl", **options})
