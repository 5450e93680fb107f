"""The command on two simulated frames: what goes in comes out, and bad input is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm3d.commands import main
from ebm3d.datasets.results import read_results
from ebm3d.refinement.energy_file import load_energy, shipped_energy
from tests.commands.conftest import refine_arguments, train_arguments


def test_zero_steps_give_the_files_back(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*refine_arguments(data), "--steps", "0", "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in (data / "detections").iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_boxes_move_and_all_else_stays(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*refine_arguments(data), "--out", str(out), "--pictures", "1"]) == 0
    captured = capsys.readouterr()
    assert "Refined boxes" in captured.out
    assert "cautious default" in captured.err
    frames = [read_results(path, data / "calib").frames for path in (data / "detections", out)]
    fields = np.load(out / "refinement.npz")
    is_known = np.isin(np.concatenate([frame.names for frame in frames[0]]), ("Car", "Van"))
    np.testing.assert_array_equal(fields["moved"], is_known)
    assert (fields["f_refined"] != fields["f_initial"])[is_known].any()
    assert (fields["box_std"][is_known] > 0).all()
    for before, after in zip(*frames, strict=True):
        np.testing.assert_array_equal(before.names, after.names)
        np.testing.assert_array_equal(before.scores, after.scores)
        stays = ~np.isin(before.names, ("Car", "Van"))
        np.testing.assert_array_equal(before.boxes[stays], after.boxes[stays])
    assert len(list((out / "pictures").glob("*.png"))) == 1


def test_the_file_of_an_energy_says_what_it_was_trained_on(data: Path) -> None:
    training = load_energy(data / "energy.pt").training
    assert training["data"].endswith("/labels")
    assert not training["data"].startswith("/")
    assert (training["frames"], training["held_out_frames"], training["steps"]) == (1, 1, 5)
    assert sum(training["boxes"]["Car"]) > 0


def test_a_training_goes_on_from_a_file(data: Path, tmp_path: Path) -> None:
    arguments = [a for a in train_arguments(data) if a not in ("--classes", "Car")]
    init, out = data / "energy.pt", tmp_path / "next.pt"
    assert main([*arguments, "--init", str(init), "--out", str(out)]) == 0
    energies = [load_energy(path) for path in (init, out)]
    assert energies[0].energy.settings == energies[1].energy.settings
    assert energies[1].training["init"] == "energy.pt"


def test_classes_of_an_energy_need_no_labels_to_go_on(data: Path, tmp_path: Path) -> None:
    arguments = [a for a in train_arguments(data) if a not in ("--classes", "Car")]
    out = tmp_path / "next.pt"
    assert main([*arguments, "--init", str(shipped_energy()), "--out", str(out)]) == 0
    assert load_energy(out).energy.settings == load_energy(shipped_energy()).energy.settings


def test_simulated_frames_need_no_data(tmp_path: Path) -> None:
    arguments = ["train-energy", "--simulated", "2", "--map", "Van=Car", "--classes", "Car"]
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for file in files:
        assert main([*arguments, "--steps", "1", "--device", "cpu", "--out", str(file)]) == 0
    a, b = (load_energy(file).energy.state_dict() for file in files)
    assert all(torch.equal(a[name], b[name]) for name in a)


def _without_a_cloud(data: Path) -> None:
    next((data / "clouds").iterdir()).unlink()


def _with_nan(data: Path) -> None:
    path = data / "detections" / "000000.txt"
    words = path.read_text().split()
    path.write_text(" ".join([*words[:11], "nan", *words[12:16]]) + "\n")


def _without_detections(data: Path) -> None:
    for path in (data / "detections").iterdir():
        path.unlink()


def _with_a_damaged_cloud(data: Path) -> None:
    (data / "clouds" / "000001.bin").write_bytes(b"\0" * 16 * 3 + b"\0")


def _with_other_names(data: Path) -> None:
    for path in (data / "detections").iterdir():
        path.write_text(path.read_text().replace("Car", "automobile").replace("Van", "bus"))


def _with_another_file(data: Path) -> None:
    torch.save({"state_dict": {}}, data / "energy.pt")


def _with_another_version(data: Path) -> None:
    content = torch.load(data / "energy.pt", weights_only=True)
    torch.save({**content, "version": 99}, data / "energy.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_cloud, "a cloud for each of the 2 frames"),
        (_with_nan, "nan"),
        (_without_detections, "empty folder"),
        (_with_a_damaged_cloud, "000001.bin"),
        (_with_other_names, "--map automobile=Car"),
        (_with_another_file, "a checkpoint of a detector"),
        (_with_another_version, "version 99"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_input_is_named_and_nothing_is_written(
    change: object, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    assert callable(change)
    change(copy)
    assert main([*refine_arguments(copy), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Nothing was refined." in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--out", "detections", "--out must be another folder than the input"),
        ("--out", "clouds", "--out must be a new or empty folder"),
        ("--device", "cuda:99", "--device must be a device of this machine"),
        ("--device", "sofa", "--device must be cpu, cuda or cuda:N"),
        ("--classes", "Boat", "--classes must be of the energy's: Car"),
    ],
)
def test_options_that_cannot_be_are_named(
    option: str, value: str, message: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*refine_arguments(data), "--out", str(data / "new")]
    arguments += [option, str(data / value) if option == "--out" else value]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_trust_is_fitted_and_used(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(data / name) for name in ("detections", "labels", "clouds")]
    rest = ["--calib", str(data / "calib"), "--map", "Van=Car", "--folds", "2", "--device", "cpu"]
    energy, out = str(data / "energy.pt"), str(tmp_path / "trusted.pt")
    assert main(["fit-trust", *paths, *rest, "--energy", energy, "--out", out]) == 0
    captured = capsys.readouterr()
    assert "Gain of refinement" in captured.out
    assert "Car: no gain" in captured.out
    assert "the gain is overstated" in captured.err
    arguments = [*refine_arguments(data), "--energy", out, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "boxes of Car stay" in capsys.readouterr().err


def test_coverage_is_fitted_and_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrated, out = tmp_path / "calibrated.pt", tmp_path / "out"
    refine = refine_arguments(data)
    assert main([*refine, "--coverage", "0.5", "--out", str(out)]) == 1
    assert "ebm3d fit-coverage" in capsys.readouterr().err
    results, clouds, *options = refine[1:]
    fit = ["fit-coverage", results, str(data / "labels"), clouds, *options]
    assert main([*fit, "--out", str(calibrated)]) == 0
    assert "faces move outwards" in capsys.readouterr().out
    refine[refine.index("--energy") + 1] = str(calibrated)
    assert main([*refine, "--coverage", "0.5", "--out", str(out)]) == 0
    fields = np.load(out / "refinement.npz")
    outer, moved = fields["outer_box"], fields["moved"]
    boxes = np.concatenate([frame.boxes for frame in read_results(out, data / "calib").frames])
    assert (outer[moved, 3:6] >= boxes[moved, 3:6] - 1e-3).all()
    assert np.isnan(outer[~moved]).all()


def test_labels_are_audited_and_left_as_they_are(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (data / "labels").iterdir()}
    out = tmp_path / "audit"
    paths = [str(data / "labels"), str(data / "clouds"), "--calib", str(data / "calib")]
    rest = ["--map", "Van=Car", "--pictures", "0", "--device", "cpu", "--out", str(out)]
    assert main(["audit-labels", *paths, "--energy", str(data / "energy.pt"), *rest]) == 0
    captured = capsys.readouterr()
    assert "The least likely labels" in captured.out
    assert "it judges what it was trained on" in captured.err
    assert {"labels.csv", "index.html", "corrected"} <= {path.name for path in out.iterdir()}
    assert {path.name for path in (out / "corrected").iterdir()} == set(before)
    assert {path.name: path.read_bytes() for path in (data / "labels").iterdir()} == before
