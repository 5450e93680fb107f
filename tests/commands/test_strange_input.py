"""What users have that is unusual works; what cannot work is named, and nothing is written."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ebm3d.commands import COMMANDS, main
from ebm3d.datasets.results import read_results
from tests.commands.conftest import refine_arguments, train_arguments

Entry = dict[str, Any]


@pytest.fixture
def copy(data: Path, tmp_path: Path) -> Path:
    return shutil.copytree(data, tmp_path / "data")


def _entries(data: Path) -> list[Entry]:
    """The detections as OpenPCDet pickles them."""
    entries = []
    for frame in read_results(data / "detections", data / "calib", {"Van": "Car"}).frames:
        boxes = frame.boxes + np.array([0, 0, 0.5, 0, 0, 0, 0]) * frame.boxes[:, 5:6]
        entry = {"boxes_lidar": boxes, "name": frame.names, "score": frame.scores}
        entries.append({**entry, "frame_id": frame.frame_id})
    return entries


def _refine(data: Path, content: object, *options: str) -> tuple[int, Path]:
    """Refine a pickle; the status and the folder of the output."""
    path, out = data / "pickled" / "result.pkl", data / "out"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    arguments = [*refine_arguments(data), "--steps", "1", "--out", str(out), *options]
    arguments[1] = str(path)
    return main(arguments), out


def _empty_first(shape: tuple[int, ...]) -> Callable[[list[Entry]], list[Entry]]:
    none = {"boxes_lidar": np.zeros(shape), "name": np.array([]), "score": np.array([])}
    return lambda entries: [{**entries[0], **none}, *entries[1:]]


@pytest.mark.parametrize(
    "change",
    [
        _empty_first((0,)),
        _empty_first((0, 7)),
        lambda e: [{**x, "frame_id": int(x["frame_id"])} for x in e],
        lambda e: [{**x, "name": x["name"].astype("S")} for x in e],
        lambda e: [{**x, "boxes_lidar": x["boxes_lidar"].astype(np.float32)} for x in e],
    ],
    ids=["empty (0,)", "empty (0, 7)", "ids as numbers", "names as bytes", "float32"],
)
def test_unusual_pickles_are_refined(copy: Path, change: Callable[[Any], Any]) -> None:
    status, out = _refine(copy, change(_entries(copy)))
    assert status == 0
    assert [len(entry["name"]) for entry in pickle.loads((out / "result.pkl").read_bytes())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [{**x, "score": x["score"][:, None]} for x in e], "scores ("),
        (lambda e: [{k: v for k, v in x.items() if k != "frame_id"} for x in e], "frame_id"),
        (lambda e: b"[" * 5000, "JSON that is damaged"),
        (lambda e: b"", "an empty file"),
        (lambda e: b"Car 0 0 0\n", "text ('Car' first)"),
        (lambda e: np.ones(400, np.float32).tobytes(), "as in a point cloud"),
        (lambda e: {}, "the keys (none)"),
        (lambda e: [*e, {**e[0], "frame_id": str(int(e[0]["frame_id"]))}], "every frame once"),
    ],
)
def test_other_pickles_are_named(
    copy: Path,
    change: Callable[[Any], Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out = _refine(copy, change(_entries(copy)))
    assert status == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("number", [0, 1, 3])
def test_predictions_without_names_need_an_id_each(
    copy: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"boxes_lidar": "bboxes_3d", "score": "scores_3d"}
    entries = [{keys[k]: v for k, v in e.items() if k in keys} for e in _entries(copy)]
    entries = [{**e, "labels_3d": np.zeros(len(e["scores_3d"]), np.int64)} for e in entries]
    options = ["--class-names", "Car"]
    if number:
        (copy / "ids.txt").write_text("\n".join(f"{i:06d}" for i in range(number)))
        options += ["--frame-ids", str(copy / "ids.txt")]
    status, _ = _refine(copy, entries, *options)
    error = capsys.readouterr().err
    assert status == 1
    assert f"names of its 2 frames, which it numbers, but got {number}; give --frame-ids" in error


def _other_weights(content: Entry) -> Entry:
    weights = {name: value * torch.nan for name, value in content["weights"].items()}
    return {**content, "weights": weights}


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {k: v for k, v in c.items() if k != "version"},
        lambda c: {k: v for k, v in c.items() if k != "weights"},
        lambda c: {**c, "weights": {}},
        lambda c: {**c, "settings": {**c["settings"], "more": 1}},
        lambda c: {**c, "settings": None},
        lambda c: {**c, "trust": {"a": 1}},
        _other_weights,
    ],
)
def test_changed_energies_are_named(
    copy: Path, change: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "energy.pt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    assert main([*refine_arguments(copy), "--out", str(copy / "out")]) == 1
    error = capsys.readouterr().err
    assert "energy.pt: expected" in error
    assert "train it again" in error


def _two_of_one_frame(data: Path) -> None:
    for folder in ("detections", "calib"):
        shutil.copy(data / folder / "000001.txt", data / folder / "1.txt")


def _three_columns(data: Path) -> None:
    for path in (data / "clouds").iterdir():
        np.fromfile(path, np.float32).reshape(-1, 4)[:, :3].tofile(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [(_two_of_one_frame, "every frame once"), (_three_columns, "write .npy files")],
)
def test_other_folders_are_named(
    copy: Path,
    change: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(copy)
    assert main([*refine_arguments(copy), "--out", str(copy / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "--cloud-" not in error


def test_hidden_files_are_passed_over(copy: Path) -> None:
    for path in ("detections/._000000.txt", "clouds/._000000.bin"):
        (copy / path).write_bytes(b"\0\5\x16\7")
    out = copy / "out"
    assert main([*refine_arguments(copy), "--steps", "0", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["000000.txt", "000001.txt"]


@pytest.mark.parametrize("place", ["ids.txt", "labels/000000.txt", "clouds/000000.bin"])
def test_input_is_not_written_over(
    copy: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "ids.txt").write_text("000000\n000001\n")
    before = (copy / place).read_bytes()
    options = ["--ids", str(copy / "ids.txt"), "--out", str(copy / place)]
    assert main([*train_arguments(copy), *options]) == 1
    assert "--out must be another file than those that are read" in capsys.readouterr().err
    assert (copy / place).read_bytes() == before


@pytest.mark.parametrize(
    ("ids", "message"),
    [("000007", "--val-ids must be among the 2 frames"), ("000000 000001", "got all 2")],
)
def test_held_out_frames_are_some_of_the_frames(
    copy: Path, ids: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "ids.txt").write_text(ids)
    options = ["--val-ids", str(copy / "ids.txt"), "--out", str(copy / "new.pt")]
    assert main([*train_arguments(copy), *options]) == 1
    assert message in capsys.readouterr().err


def test_frames_without_cloud_can_be_left_out(copy: Path) -> None:
    (copy / "clouds" / "000001.bin").unlink()
    (copy / "ids.txt").write_text("000000")
    options = ["--ids", str(copy / "ids.txt"), "--val-share", "0", "--out", str(copy / "new.pt")]
    assert main([*train_arguments(copy), *options]) == 0


@pytest.mark.parametrize("command", ["fit-trust", "fit-coverage"])
@pytest.mark.parametrize("text", ["", "Car 0 0 0 0 0 9 9 1.5 1.6 4 0 2 900 0\n"])
def test_labels_that_match_no_detection_are_named(
    copy: Path, command: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (copy / "labels").iterdir():
        path.write_text(text)
    results, clouds, *options = refine_arguments(copy)[1:]
    arguments = [command, results, str(copy / "labels"), clouds, *options]
    assert main([*arguments, "--out", str(copy / "new.pt")]) == 1
    assert "DETECTIONS must be with boxes of Car that overlap" in capsys.readouterr().err
    assert not (copy / "new.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refine", "a", "b", "--steps", "1000000000"], "--steps must be from 0 to 1000"),
        (["refine", "a", "b", "--map", "Van=Car=Bus"], "--map takes A=B"),
        (["refine", "a", "b", "--map", "Van=Car", "Van=Bus"], "--map takes each name once"),
        (["train-energy", "a", "b", "--seed", "-1"], "--seed must be at least 0"),
        (["audit-labels", "a", "b", "--folds", "1"], "--folds must be at least 2"),
        (["audit-labels", "a", "b", "--steps", "0"], "--steps 1"),
        (["audit-labels", "a", "b", "--pictures", "-1"], "--pictures 0"),
        (["audit-labels", "a", "b", "--threshold", "nan"], "--threshold must be a finite number"),
    ],
)
def test_numbers_and_names_are_checked(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err


def test_an_interruption_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("ebm3d.commands.refine.run", stop)
    assert main(["refine", "a", "b", "--out", "c"]) == 130
    assert f"Nothing was {COMMANDS['refine'][1]}." in capsys.readouterr().err
