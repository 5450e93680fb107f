"""The command line tool: output, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ebm3d.datasets import write_labels
from tests.evaluation.scenes import make_objects
from tools.evaluate_kitti import main


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Fifty labeled frames and two result sets, the second one better."""
    rng = np.random.default_rng(0)
    spreads = {"label_2": 0.0, "first": 0.5, "second": 0.1}
    for name, spread in spreads.items():
        (tmp_path / name).mkdir()
        for index in range(50):
            row = {"x": spread * rng.normal(), "score": rng.random()}
            objects = make_objects([row], scores=name != "label_2")
            write_labels(tmp_path / name / f"{index:06d}.txt", objects)
    return [str(tmp_path / name) for name in spreads]


def test_figures_are_printed_and_written(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plots = tmp_path / "out" / "figures.json", tmp_path / "plots"
    arguments = [*folders[:2], "--iou", "0.5", "0.7", "--classes", "Car"]
    (Path(folders[1]) / "000000.txt").unlink()
    assert main([*arguments, "--json", str(out), "--plots", str(plots)]) == 0
    printed = capsys.readouterr().out
    assert "labels: 49 easy, 49 moderate, 49 hard; detections: 49" in printed
    assert "49 frames have result files and are evaluated, of 50 labeled ones" in printed
    figures = json.loads(out.read_text())["Car"]
    assert {"bbox", "bev", "3d", "aos", "localization", "by_distance"} <= set(figures)
    assert f"{figures['3d']['0.70']['easy']['ap_r40']:6.2f}" in printed
    assert figures["left_out"]["frames"] == 1
    assert "labeled frames without predictions: 1." in printed
    assert (plots / "precision_recall_car.png").read_bytes().startswith(b"\x89PNG")


def test_two_result_sets_are_compared(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = [*folders[:2], "--iou", "0.7", "--classes", "Car", "--replicates", "100"]
    (tmp_path / "ids.txt").write_text("".join(f"{index:06d}\n" for index in range(48)))
    flat = make_objects([{"name": "Bus", "score": 1}, {"bbox": (0.0,) * 4}], scores=True)
    write_labels(Path(folders[2]) / "000047.txt", flat)
    arguments += ["--ids", str(tmp_path / "ids.txt")]
    assert main([*arguments, "--compare", folders[2], "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2 result files of frames outside --ids are left out (first 000048)" in printed
    assert "second: Left out, detections of classes that are not evaluated: 1 Bus." in printed
    assert "AP R40 of second minus first" in printed
    comparison = json.loads(out.read_text())["Car"]["comparison"]
    part = comparison["3d"]["0.70"]["easy"]
    assert part["low"] <= part["difference"] <= part["high"]
    assert part["difference"] > 0
    assert comparison["improved"][0]["change"] > 0
    left_out = comparison["left_out"]
    assert left_out["detections"]["without_2d_box"]["easy"] == 1
    assert left_out["other_classes"]["detections"] == {"Bus": 1}


def test_bad_input_is_named_and_fails(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*folders[:2], "--ids", "nowhere.txt"]) == 1
    captured = capsys.readouterr()
    assert "nowhere.txt: expected a list of frame ids" in captured.err
    assert "Nothing was evaluated." in captured.err
    assert captured.out == ""
