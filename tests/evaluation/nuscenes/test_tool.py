"""The command line for nuScenes results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.evaluation.nuscenes.drives import random_results, write_drives

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "evaluate_nuscenes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_printed_and_written(
    tool: ModuleType, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "drives"
    write_drives(root, rng)
    for name in ("before", "after"):
        (tmp_path / f"{name}.json").write_text(json.dumps(random_results(root, rng)))
    arguments = [root, tmp_path / "after.json", "--before", tmp_path / "before.json"]
    options = ["--replicates", "10", "--json", tmp_path / "new" / "figures.json"]
    assert tool.main([*map(str, arguments), *map(str, options)]) == 0
    tree = json.loads((tmp_path / "new" / "figures.json").read_text())
    shown = capsys.readouterr().out
    assert f"mAP {tree['mean_ap']:.4f}, NDS {tree['nd_score']:.4f}" in shown
    assert "Bootstrap over 2 scenes" in shown
    assert tree["meta"]["use_lidar"]
    assert tree["localization"]["comparison"]["means"]["mean_ap"]["after"] == tree["mean_ap"]


def test_what_is_read_is_not_written_over(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text("{}")
    assert tool.main([str(tmp_path), str(path), "--json", str(path)]) == 1
    assert "--json must be another file" in capsys.readouterr().err
    assert path.read_text() == "{}"


@pytest.mark.parametrize("option", ["", "--before"])
def test_what_is_refused_is_said_and_nothing_shown_or_written(
    tool: ModuleType,
    tmp_path: Path,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    root = tmp_path / "drives"
    write_drives(root, rng)
    (tmp_path / "r.json").write_text('{"meta": {}, "results": {}}')
    (tmp_path / "good.json").write_text(json.dumps(random_results(root, rng)))
    files = (
        [tmp_path / "good.json", option, tmp_path / "r.json"] if option else [tmp_path / "r.json"]
    )
    arguments = [root, *files, "--json", tmp_path / "figures.json"]
    assert tool.main([*map(str, arguments)]) == 1
    shown = capsys.readouterr()
    assert "12 samples without results" in shown.err
    assert "Nothing was evaluated." in shown.err
    assert not shown.out
    assert not (tmp_path / "figures.json").exists()
