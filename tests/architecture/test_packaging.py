"""The wheel: everything a user needs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source_files import PACKAGE, ROOT

_CONFIG = "ebm_second_kitti.py"
_BUILD = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
_USE = f"""
import ebm3d
from mmdet3d.registry import MODELS
from mmengine import Config
from mmengine.registry import init_default_scope

path = ebm3d.config_path("{_CONFIG}")
init_default_scope("mmdet3d")
MODELS.build(Config.fromfile(path).model)
print(path)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as ``pip install .`` would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", _BUILD, str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return zipfile.ZipFile(folder / run.stdout.split()[-1])


def test_the_wheel_holds_package_configs_and_finder_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    names = {n for n in wheel.namelist() if ".dist-info/" not in n}
    suffixes = {".py", ".json", ".typed"}
    files = [p for p in PACKAGE.rglob("*") if p.suffix in suffixes]
    expected = {f"ebm3d/{p.relative_to(PACKAGE)}" for p in files}
    configs = ROOT / "configs"
    expected |= {f"ebm3d/configs/{p.relative_to(configs)}" for p in configs.rglob("*.py")}
    assert "ebm3d/py.typed" in names
    assert expected <= names
    assert {n for n in names if not n.startswith("ebm3d/")} == {
        "_ebm3d_operators.py",
        "ebm3d_operators.pth",
    }
    assert not [n for n in names if "__pycache__" in n or n.endswith(".nbi")]


@pytest.mark.mmdet3d
def test_a_config_of_the_installed_wheel_builds_from_any_directory(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)
    elsewhere.mkdir()
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _USE],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert Path(run.stdout.split()[-1]) == site / "ebm3d" / "configs" / _CONFIG
