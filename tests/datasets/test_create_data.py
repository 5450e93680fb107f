from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ebm3d.datasets import read_cloud
from tests.datasets.conftest import Tree
from tests.datasets.scenes import Scenes, write_custom

_TOOL = Path(__file__).resolve().parents[2] / "tools" / "create_data.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("create_data", _TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_and_a_table_are_made(
    tool: ModuleType, kitti_tree: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["kitti", "--root", str(kitti_tree.root), "--out", str(out), "--workers", "1"]
    assert tool.main(arguments) == 0
    assert (out / "kitti_infos_train.pkl").is_file()
    assert not (kitti_tree.root / "kitti_infos_train.pkl").exists()
    printed = capsys.readouterr().out
    assert "Person_sitting" in printed
    assert "4 training and 2 validation frames" in printed


def test_defects_are_all_shown_and_nothing_is_written(
    tool: ModuleType, kitti_tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    kitti_tree.cloud("000002").unlink()
    kitti_tree.label("000003").write_text("Car [0] 0\n")
    cloud = read_cloud(kitti_tree.cloud("000005"))
    kitti_tree.cloud("000005").write_bytes(cloud.tobytes()[:-1])
    assert tool.main(["kitti", "--root", str(kitti_tree.root), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    for name in ("000002.bin", "000003.txt:1", "000005.bin", "3 defects in 3 files"):
        assert name in error
    for word in ("expected", "got", "remedy"):
        assert error.count(f"  {word}  ") == 3
    assert not (kitti_tree.root / "kitti_infos_train.pkl").exists()


def test_thousands_of_defects_are_counted_by_kind(
    tool: ModuleType, kitti_tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    kitti_tree.label("000000").write_text("Car 0 0\n" * 3000)
    kitti_tree.label("000003").write_text("")
    kitti_tree.cloud("000002").unlink()
    assert tool.main(["kitti", "--root", str(kitti_tree.root), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert error.count("  expected  ") == 21
    assert "000002.bin" in error
    assert "2,980 more in" in error
    assert "3,001 defects in 2 files" in error


def test_labels_that_miss_the_cloud_end_in_code_1_unless_unchecked(
    tool: ModuleType, tmp_path: Path, scenes: Scenes, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_custom(tmp_path / "data", scenes, lambda boxes: boxes)
    arguments = ["kitti", "--root", str(root), "--workers", "1", "--no-calibration"]
    assert tool.main([*arguments, "--box-origin", "bottom"]) == 1
    assert "give --box-origin center" in capsys.readouterr().err
    assert tool.main([*arguments, "--box-origin", "bottom", "--unchecked-labels"]) == 0
    assert "give --box-origin center" in capsys.readouterr().err
    assert tool.main(arguments) == 0
    printed = capsys.readouterr()
    assert "no cameras" in printed.out
    assert "expected" not in printed.err
    with pytest.raises(SystemExit):
        tool.main([*arguments[:-1], "--box-origin", "bottom"])


@pytest.mark.slow
def test_simulated_frames_are_written_and_prepared(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "simulated"
    arguments = ["simulated", "--out", str(out), "--train", "2", "--val", "1", "--workers", "1"]
    assert tool.main(arguments) == 0
    assert "2 training and 1 validation frames" in capsys.readouterr().out
    assert (out / "kitti_infos_val.pkl").is_file()
    assert tool.main(arguments) == 1
    assert "new or empty folder" in capsys.readouterr().err
