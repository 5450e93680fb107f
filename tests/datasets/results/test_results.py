"""Results of each format are read in one convention, and come back in kind."""

from __future__ import annotations

import json
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ebm3d.datasets import DataError, boxes_to_camera, write_calibration, write_cloud
from ebm3d.datasets.results import (
    SIDE_FILE,
    FrameChanges,
    FrameClouds,
    LabelledFrames,
    ResultFile,
    doubtful_frame,
    read_label_set,
    read_results,
)
from tests.datasets.scenes import CALIBRATION

# x, y, z of the bottom, length, width, height, yaw.
BOXES = {
    "000001": np.array([[10.0, 2, -1.6, 4, 1.6, 1.5, 0.3], [22, -5, -1.5, 0.8, 0.6, 1.8, -2]]),
    "000002": np.zeros((0, 7)),
    "000003": np.array([[31.0, 7, -1.7, 3.9, 1.7, 1.4, 3.0]]),
}
NAMES = {"000001": ["Car", "Pedestrian"], "000002": [], "000003": ["Car"]}
SCORES = {"000001": [17.5, -0.25], "000002": [], "000003": [0.5]}


def _kitti(folder: Path, *, scores: bool = True) -> Path:
    path = folder / "text"
    path.mkdir()
    for frame_id, boxes in BOXES.items():
        location, dimensions, angle = boxes_to_camera(boxes, CALIBRATION)
        columns = np.column_stack([dimensions, location, angle]).tolist()
        lines = ["DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10" + " 0" * scores]
        for i, row in enumerate(columns):
            score = f" {SCORES[frame_id][i]!r}" if scores else ""
            numbers = " ".join(map(repr, row))
            lines.append(f"{NAMES[frame_id][i]} 0 0  -1.25 1 2 3 44.5 {numbers}{score} ")
        (path / f"{frame_id}.txt").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    return path


def _openpcdet(folder: Path, *, infos: bool = False) -> Path:
    entries: list[dict[str, Any]] = []
    for frame_id, boxes in BOXES.items():
        center = boxes + np.outer(boxes[:, 5] / 2, [0, 0, 1, 0, 0, 0, 0])
        location, dimensions, angle = boxes_to_camera(boxes, CALIBRATION)
        entry = {
            "name": np.array(NAMES[frame_id]) if len(boxes) else np.zeros(0),
            "alpha": np.full(len(boxes), -1.25),
            "location": location.astype(np.float32),
            "dimensions": dimensions[:, [2, 0, 1]],
            "rotation_y": angle,
        }
        if infos:
            entry["name"] = np.array([*NAMES[frame_id], "DontCare"])
            entry["gt_boxes_lidar"] = center
            cloud = {"lidar_idx": frame_id, "num_features": 4}
            entries.append({"point_cloud": cloud, "annos": entry})
        else:
            entry |= {
                "score": np.array(SCORES[frame_id], np.float32),
                "pred": [1, {"a": (2.5, None)}],
            }
            entry |= {"boxes_lidar": center.astype(np.float32), "frame_id": np.str_(frame_id)}
            entries.append(entry)
    path = folder / "result.pkl"
    path.write_bytes(pickle.dumps(entries))
    return path


def _json(folder: Path) -> Path:
    path = folder / "preds"
    path.mkdir()
    for frame_id, boxes in BOXES.items():
        entry = {"labels_3d": [["Car", "Pedestrian"].index(n) for n in NAMES[frame_id]]}
        entry |= {
            "scores_3d": SCORES[frame_id],
            "bboxes_3d": boxes.tolist(),
            "box_type_3d": "LiDAR",
        }
        (path / f"{frame_id}.json").write_text(json.dumps(entry))
    return folder


def _tensors(folder: Path) -> Path:
    entries = []
    for frame_id, boxes in BOXES.items():
        wide = torch.zeros(len(boxes), 9, dtype=torch.float64)
        wide[:, 1:8] = torch.from_numpy(boxes)
        labels = [["Car", "Pedestrian"].index(n) for n in NAMES[frame_id]]
        part = {"bboxes_3d": wide[:, 1:8], "scores_3d": torch.tensor(SCORES[frame_id])}
        part["labels_3d"] = torch.tensor(labels, dtype=torch.int64)
        entries.append({"lidar_path": f"a/b/{frame_id}.bin", "pred_instances_3d": part})
    path = folder / "out.pkl"
    path.write_bytes(pickle.dumps(entries, protocol=2))
    return path


def _annos(folder: Path) -> Path:
    entries = pickle.loads(_openpcdet(folder).read_bytes())
    for index, entry in enumerate(entries):
        for key in ("boxes_lidar", "frame_id"):
            del entry[key]
        entry["sample_idx"] = np.full(len(entry["score"]), index)
    path = folder / "pred_instances_3d.pkl"
    path.write_bytes(pickle.dumps(entries))
    (folder / "val.txt").write_text("\n".join(BOXES))
    return path


WRITERS = {
    "kitti": _kitti,
    "openpcdet": _openpcdet,
    "json": _json,
    "tensors": _tensors,
    "annos": _annos,
}


def _read(path: Path, folder: Path, **options: Any) -> ResultFile:
    ids = folder / "val.txt"
    options.setdefault("ids", ids if ids.exists() else None)
    options.setdefault("class_names", ["Car", "Pedestrian"])
    return read_results(path, options.pop("calib", folder / "calib"), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with calibrations."""
    (tmp_path / "calib").mkdir()
    for frame_id in BOXES:
        write_calibration(tmp_path / f"calib/{frame_id}.txt", CALIBRATION)
    return tmp_path


def _equal(a: Any, b: Any) -> bool:
    """Equality of nested values, types included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and np.array_equal(a, b)
    return bool(type(a) is type(b) and a == b)


def _content(path: Path) -> Any:
    if path.suffix == ".txt":
        return path.read_bytes()
    return (
        json.loads(path.read_text()) if path.suffix == ".json" else pickle.loads(path.read_bytes())
    )


@pytest.mark.parametrize("name", WRITERS)
def test_boxes_are_read_in_one_convention(folder: Path, name: str) -> None:
    found = _read(WRITERS[name](folder), folder)
    assert [frame.frame_id for frame in found.frames] == list(BOXES)
    for frame in found.frames:
        np.testing.assert_allclose(frame.boxes, BOXES[frame.frame_id], atol=4e-6)
        assert frame.names.tolist() == NAMES[frame.frame_id]
        np.testing.assert_array_equal(frame.scores, np.float64(SCORES[frame.frame_id]))


@pytest.mark.parametrize("name", WRITERS)
def test_with_nothing_moved_values_are_those_of_the_file(folder: Path, name: str) -> None:
    path = WRITERS[name](folder)
    found = _read(path, folder)
    still = {
        frame.frame_id: FrameChanges(frame.boxes + 1, np.zeros(len(frame), dtype=np.bool_))
        for frame in found.frames
    }
    for changed, out in (({}, folder / "a"), (still, folder / "b")):
        for file in found.write(out, changed):
            origin = found.path / file.name if found.path.is_dir() else found.path
            assert _equal(_content(origin), _content(file))


@pytest.mark.parametrize("name", WRITERS)
def test_a_moved_box_alone_changes(folder: Path, name: str) -> None:
    found = _read(WRITERS[name](folder), folder)
    frame = found.frames[0]
    boxes = frame.boxes + np.array([0.5, -0.25, 0.125, 0.25, 0.125, 0.5, 0.75])
    fields = {"f_initial": np.array([1.5, 2.5]), "box_std": np.ones((2, 7))}
    changes = FrameChanges(boxes, np.array([False, True]), fields)
    written = found.write(folder / "out", {frame.frame_id: changes})
    again = _read(folder / "out", folder) if found.path.is_dir() else _read(written[0], folder)
    np.testing.assert_array_equal(again.frames[0].boxes[0], frame.boxes[0])
    # Text has four decimals, pickles are of float32.
    np.testing.assert_allclose(again.frames[0].boxes[1], boxes[1], atol=1.5e-4)
    np.testing.assert_array_equal(again.frames[2].boxes, found.frames[2].boxes)
    np.testing.assert_array_equal(again.frames[0].scores, frame.scores)
    if name == "kitti":
        side = np.load(folder / "out" / SIDE_FILE)
        assert side["frame_id"].tolist() == ["000001", "000001"]
        np.testing.assert_array_equal(side["f_initial"], [1.5, 2.5])
    else:
        content = _content(next(p for p in written if p.suffix in (".pkl", ".json")))
        entry = content[0] if isinstance(content, list) else content
        part = entry.get("pred_instances_3d", entry)
        np.testing.assert_array_equal(part["box_std"], np.ones((2, 7)))


@pytest.mark.parametrize("name", ["kitti", "openpcdet"])
def test_the_observation_angle_turns_with_the_box(folder: Path, name: str) -> None:
    found = _read(WRITERS[name](folder), folder)
    boxes = found.frames[0].boxes.copy()
    boxes[0, 6] += 0.25
    changes = FrameChanges(boxes, np.array([True, False]))
    (written, *_) = found.write(folder / "out", {"000001": changes})
    if name == "kitti":
        lines = written.read_text().splitlines()
        assert [line.split()[3] for line in lines] == ["-10", "-1.5000", "-1.25"]
        assert lines[1].split()[4:8] == ["1", "2", "3", "44.5"]  # the 2D box
    else:
        np.testing.assert_allclose(_content(written)[0]["alpha"], [-1.5, -1.25], atol=1e-12)


@pytest.mark.parametrize("kind", ["kitti", "infos", "lidar"])
def test_labels_are_results_without_scores(folder: Path, kind: str) -> None:
    calib: Path | None = folder / "calib"
    if kind == "lidar":
        path, calib = folder / "text", None
        path.mkdir()
        for frame_id, boxes in BOXES.items():
            center = boxes + np.outer(boxes[:, 5] / 2, [0, 0, 1, 0, 0, 0, 0])
            rows = zip(center.tolist(), NAMES[frame_id], strict=True)
            lines = [f"{' '.join(map(repr, row))} {name}\n" for row, name in rows]
            (path / f"{frame_id}.txt").write_text("".join(lines))
    else:
        path = _kitti(folder, scores=False) if kind == "kitti" else _openpcdet(folder, infos=True)
    labels = read_label_set(path, calib)
    for frame in labels.frames:
        np.testing.assert_allclose(frame.boxes, BOXES[frame.frame_id], atol=1e-12)
        assert frame.names.tolist() == NAMES[frame.frame_id]
        assert np.isnan(frame.scores).all()
    boxes = BOXES["000001"] + np.array([[0.0], [0.125]])
    changes = FrameChanges(boxes, np.array([False, True]))
    written = labels.write(folder / "out", {"000001": changes})
    again = read_label_set(written[0].parent if kind != "infos" else written[0], calib)
    np.testing.assert_allclose(again.frames[0].boxes, boxes, atol=1.5e-4)
    with pytest.raises(DataError, match="score" if kind != "lidar" else "columns"):
        read_results(path, folder / "calib")


@pytest.mark.parametrize("call", [b"cos\nsystem\n(S'true'\ntR.", b"cbuiltins\neval\n(S'1'\ntR."])
def test_a_pickle_runs_nothing(tmp_path: Path, call: bytes) -> None:
    (tmp_path / "result.pkl").write_bytes(call)
    with pytest.raises(DataError, match=r"(os\.system|builtins\.eval), which is not allowed"):
        read_results(tmp_path / "result.pkl")


def test_pickles_name_numpy_as_old_ones_and_new_ones_do(folder: Path) -> None:
    path = _openpcdet(folder)
    old = pickle.dumps(pickle.loads(path.read_bytes()), 2).replace(
        b"cnumpy._core.", b"cnumpy.core."
    )
    path.write_bytes(old.replace(b"cnumpy.core.", b"cnumpy._core."))
    (written,) = _read(path, folder).write(folder / "out", {})
    assert b"numpy._core" not in written.read_bytes()
    assert _equal(pickle.loads(written.read_bytes()), pickle.loads(old))


def test_boxes_of_the_host_are_kept_without_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mmdet3d.structures.bbox_3d.lidar_box3d"
    kind = type("LiDARInstance3DBoxes", (), {"__module__": name})
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), ModuleType(".".join(parts[:i])))
    sys.modules[name].LiDARInstance3DBoxes = kind  # type: ignore[attr-defined]
    path = _tensors(folder)
    entries = pickle.loads(path.read_bytes())
    for entry in entries:
        boxes = kind()
        boxes.tensor, boxes.box_dim = entry["pred_instances_3d"]["bboxes_3d"], 7
        entry["pred_instances_3d"]["bboxes_3d"] = boxes
        entry |= {"box_type_3d": kind, "order": OrderedDict(a=1)}
    path.write_bytes(pickle.dumps(entries, protocol=2))
    found = _read(path, folder)
    boxes = found.frames[0].boxes + 1
    changes = FrameChanges(boxes, np.array([True, False]))
    (written,) = found.write(folder / "out", {"000001": changes})
    again = pickle.loads(written.read_bytes())
    assert type(again[0]["pred_instances_3d"]["bboxes_3d"]) is again[0]["box_type_3d"] is kind
    tensor = again[0]["pred_instances_3d"]["bboxes_3d"].tensor
    np.testing.assert_array_equal(tensor[0].numpy(), boxes[0])
    np.testing.assert_array_equal(tensor[1].numpy(), BOXES["000001"][1])


def _break(found: Any, key: str, value: Any) -> Any:
    found[0][key] = value
    return found


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: [*e, e[0]], "frame 000001 2 times"),
        (lambda e: _break(e, "boxes_lidar", e[0]["boxes_lidar"] * np.nan), "finite boxes"),
        (lambda e: _break(e, "score", e[0]["score"] * np.nan), "finite scores"),
        (lambda e: _break(e, "boxes_lidar", -e[0]["boxes_lidar"]), "positive size"),
        (lambda e: _break(e, "score", e[0]["score"][:1]), "lengths"),
        (lambda e: [{"boxes": 1}], "keys boxes"),
        (lambda e: [], "empty list"),
    ],
)
def test_defects_are_named(folder: Path, change: Any, match: str) -> None:
    path = _openpcdet(folder)
    path.write_bytes(pickle.dumps(change(pickle.loads(path.read_bytes()))))
    with pytest.raises(DataError, match=match):
        _read(path, folder)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("kitti", {"calib": None}, "--calib"),
        ("openpcdet", {"calib": None}, "--calib"),
        ("json", {"class_names": ()}, "--class-names"),
        ("tensors", {"class_names": ["Car"]}, "labels_3d"),
        ("annos", {"ids": None}, "--frame-ids"),
    ],
)
def test_what_a_format_needs_is_asked_for(
    folder: Path, name: str, options: dict[str, Any], match: str
) -> None:
    path = WRITERS[name](folder)
    with pytest.raises(DataError, match=match):
        _read(path, folder, **options)


def test_class_names_are_mapped_and_others_named(folder: Path) -> None:
    found = _read(_kitti(folder), folder, name_map={"Pedestrian": "Walker"})
    assert found.frames[0].names.tolist() == ["Car", "Walker"]
    (problem,) = found.unknown_names(["car", "Walker"])
    assert problem.got == "Car for 2 boxes"
    assert "--map Car=car" in problem.remedy


def test_the_input_is_never_written_to(folder: Path) -> None:
    found = _read(_kitti(folder), folder)
    with pytest.raises(ValueError, match="out must be another folder"):
        found.write(found.path, {})
    with pytest.raises(ValueError, match="moved of frame 000001"):
        found.write(folder / "out", {"000001": FrameChanges(BOXES["000001"], np.ones(3, bool))})
    assert not (folder / "out").exists()


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
def test_clouds_go_with_frames(folder: Path, rng: np.random.Generator, suffix: str) -> None:
    clouds = folder / "clouds"
    clouds.mkdir()
    points = rng.uniform(-1, 1, (40, 4)).astype(np.float32)
    points[:, 3] = abs(points[:, 3])
    for frame_id in ("000001", "000002", "000009"):
        if suffix == ".bin":
            write_cloud(clouds / f"{frame_id}.bin", points)
        else:
            np.save(clouds / f"{frame_id}.npy", points)
    found = _read(_kitti(folder), folder)
    source = FrameClouds(clouds)
    assert source.differences(BOXES) == (["000003"], ["000009"])
    with pytest.raises(DataError, match="000003"):
        LabelledFrames(found, source)
    found.frames = found.frames[:2]
    frames = LabelledFrames(found, source)
    assert len(frames) == 2
    assert "000009" in frames.warnings[0].got
    np.testing.assert_array_equal(frames[1][1], points)
    np.testing.assert_array_equal(source.read("2"), points)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda b: b, None),
        (lambda b: b + np.outer(b[:, 5], [0, 0, 0.5, 0, 0, 0, 0]), "too high"),
        (lambda b: b[:, [0, 1, 2, 4, 3, 5, 6]], "width and length exchanged"),
        (lambda b: np.column_stack([b[:, :6], np.degrees(b[:, 6])]), "degrees"),
        (
            lambda b: np.column_stack([-b[:, 1], -b[:, 2], b[:, 0], b[:, 3:6], b[:, 6]]),
            "camera axes",
        ),
    ],
)
def test_boxes_beside_the_points_are_explained(
    folder: Path, rng: np.random.Generator, change: Any, match: str | None
) -> None:
    (folder / "clouds").mkdir()
    entries = []
    for frame_id in BOXES:
        boxes = np.column_stack(
            [
                rng.uniform(8, 50, 6),
                np.arange(6) * 8 - 20,
                np.full(6, -1.6),
                np.full((6, 3), [4, 1.6, 1.5]),
            ]
        )
        boxes = np.column_stack([boxes, rng.uniform(0.4, 1.2, 6)])
        local = rng.uniform(-0.5, 0.5, (6, 60, 3)) * boxes[:, None, 3:6]
        c, s = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
        x = c * local[..., 0] - s * local[..., 1] + boxes[:, None, 0]
        y = s * local[..., 0] + c * local[..., 1] + boxes[:, None, 1]
        z = local[..., 2] + boxes[:, None, 2] + 0.75
        points = np.stack([x, y, z, np.zeros_like(x)], axis=-1).reshape(-1, 4)
        write_cloud(folder / f"clouds/{frame_id}.bin", points.astype(np.float32))
        boxes = change(boxes)
        boxes = boxes + np.outer(boxes[:, 5] / 2, [0, 0, 1, 0, 0, 0, 0])
        entry = {"boxes_lidar": boxes, "name": np.full(6, "Car"), "score": np.ones(6)}
        entries.append(entry | {"frame_id": frame_id})
    (folder / "result.pkl").write_bytes(pickle.dumps(entries))
    doubts = doubtful_frame(read_results(folder / "result.pkl"), FrameClouds(folder / "clouds"))
    if match is None:
        assert not doubts
    else:
        assert match in doubts[0].got


def test_real_results_are_kept_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    labels = shared_data / "kitti_mini/training"
    found = read_label_set(labels / "label_2", labels / "calib")
    found.write(tmp_path / "out", {})
    for frame in found.frames[::10]:
        name = f"{frame.frame_id}.txt"
        assert (tmp_path / "out" / name).read_bytes() == (labels / "label_2" / name).read_bytes()


def _turn(axis: str, angle: float) -> np.ndarray:
    """A rotation about an axis, homogeneous."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[j, i] = np.sin(angle)
    matrix[i, j] = -np.sin(angle)
    return matrix


def test_submissions_to_nuscenes_are_moved_in_the_lidar_frame(tmp_path: Path) -> None:
    ego2global = _turn("z", 0.5) @ _turn("x", 0.03)
    ego2global[:3, 3] = 600, 1600, 1
    lidar2ego = _turn("z", -np.pi / 2) @ _turn("y", 0.02)
    lidar2ego[:3, 3] = 0.9, 0, 1.8
    lidar_points = {"lidar_path": "n1__LIDAR_TOP__15.pcd.bin", "lidar2ego": lidar2ego.tolist()}
    info = {"token": "t", "ego2global": ego2global.tolist(), "lidar_points": lidar_points}
    infos = tmp_path / "infos.pkl"
    infos.write_bytes(pickle.dumps({"metainfo": {}, "data_list": [info]}))
    record = {
        "sample_token": "t",
        "translation": [610.0, 1605.0, 1.5],
        "size": [2.0, 4.5, 1.5],
        "rotation": [float(np.cos(0.4)), 0.0, 0.0, float(np.sin(0.4))],
        "velocity": [3.0, 4.0],
        "detection_name": "car",
        "detection_score": 0.3,
        "attribute_name": "vehicle.moving",
    }
    content = {"meta": {"use_lidar": True}, "results": {"t": [record, dict(record)]}}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="--nuscenes"):
        read_results(path)
    found = read_results(path, nuscenes=infos)
    (frame,) = found.frames
    assert frame.frame_id == "n1__LIDAR_TOP__15"
    pose = ego2global @ lidar2ego
    center = np.linalg.solve(pose, [610.0, 1605.0, 1.5, 1.0])[:3]
    heading = pose[:3, :3].T @ [np.cos(0.8), np.sin(0.8), 0]
    expected = [*center[:2], center[2] - 0.75, 4.5, 2.0, 1.5, np.arctan2(heading[1], heading[0])]
    np.testing.assert_allclose(frame.boxes[0, :7], expected, atol=1e-12)
    (written,) = found.write(tmp_path / "same", {})
    assert json.loads(written.read_text()) == content
    boxes = frame.boxes.copy()
    boxes[0] += [0.5, 0.25, 0.125, 0.5, 0.25, 0.125, 0.75, 0.0, 0.0]
    fields = {"probability": np.array([0.25, 0.5])}
    changes = FrameChanges(boxes, np.array([True, False]), fields)
    (written,) = found.write(tmp_path / "moved", {frame.frame_id: changes})
    (again,) = read_results(written, nuscenes=infos).frames
    np.testing.assert_allclose(again.boxes, boxes, atol=1e-12)
    first, second = json.loads(written.read_text())["results"]["t"]
    assert second == {**record, "probability": 0.5}
    assert first["velocity"] == record["velocity"]
