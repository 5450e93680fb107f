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
    out = tmp_path / "out" / "figures.json"
    plots = tmp_path / "plots"
    arguments = [*folders[:2], "--iou", "0.5", "0.7", "--classes", "Car"]
    assert main([*arguments, "--json", str(out), "--plots", str(plots)]) == 0
    printed = capsys.readouterr().out
    assert "labels: 50 easy, 50 moderate, 50 hard; detections: 50" in printed
    figures = json.loads(out.read_text())
    assert list(figures) == ["Car"]
    assert {"bbox", "bev", "3d", "aos", "localization", "by_distance"} <= set(figures["Car"])
    assert list(figures["Car"]["3d"]) == ["0.50", "0.70"]
    assert set(figures["Car"]["3d"]["0.70"]) == {"easy", "moderate", "hard"}
    shown = figures["Car"]["3d"]["0.70"]["easy"]
    assert set(shown) == {"ap_r40", "ap_r11"}
    assert f"{shown['ap_r40']:6.2f}" in printed
    assert (plots / "precision_recall_car.png").read_bytes().startswith(b"\x89PNG")


def test_two_result_sets_are_compared(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    arguments = [*folders[:2], "--iou", "0.7", "--classes", "Car", "--replicates", "100"]
    assert main([*arguments, "--compare", folders[2], "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "AP R40 of second minus first" in printed
    comparison = json.loads(out.read_text())["Car"]["comparison"]
    part = comparison["3d"]["0.70"]["easy"]
    assert part["low"] <= part["difference"] <= part["high"]
    assert part["difference"] > 0
    assert comparison["improved"][0]["change"] > 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--classes", "Bus"], "classes must be among Car, Pedestrian, Cyclist"),
        (["--iou", "1.5"], "iou thresholds must be one or more values between 0 and 1"),
        (["--ids", "nowhere.txt"], "nowhere.txt: expected a text file of frame ids"),
        (["--distance-bands", "20", "10"], "borders of bands must be two or more ascending"),
    ],
)
def test_bad_input_is_named_and_fails(
    folders: list[str], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*folders[:2], *extra]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Nothing was evaluated." in captured.err
    assert captured.out == ""


def test_clouds_and_calibrations_belong_together(folders: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*folders[:2], "--velodyne", "somewhere"])


def test_notes_are_printed(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(10, 50):
        (Path(folders[1]) / f"{index:06d}.txt").unlink()
    assert main([*folders[:2], "--classes", "Car", "--iou", "0.7"]) == 0
    printed = capsys.readouterr().out
    assert "10 frames have result files and are evaluated, of 50 labeled ones" in printed
    assert "only 10 labels count" in printed
