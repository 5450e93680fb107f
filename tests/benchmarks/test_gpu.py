"""The GPU benchmark, tried on a CPU: it runs, says what it leaves out, and does not pass empty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = "tools/benchmarks/gpu.py"
_SMALL = ("--repeats", "1", "--boxes", "3", "--steps", "2x4", "--map", "16", "50", "44")
_CORE = ("correctness", "refinement", "training")
_WITHOUT_HOST = f"""
import runpy, sys
sys.modules["mmdet3d"] = None
sys.path.insert(0, {str(Path(_SCRIPT).parent)!r})
sys.argv[0] = {_SCRIPT!r}
runpy.run_path({_SCRIPT!r}, run_name="__main__")
"""


def _run(*arguments: str, script: tuple[str, ...] = (_SCRIPT,)) -> tuple[int, str]:
    """Status and output of the script."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *script, *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + ("" if done.returncode == 0 else done.stderr[-3000:])


def _report(file: Path, *arguments: str) -> tuple[Any, str]:
    """Figures and output of a run that went well."""
    status, said = _run(*_SMALL, *arguments, "--json", str(file))
    assert status == 0, said
    return json.loads(file.read_text()), said


@pytest.mark.slow
def test_the_core_is_measured_whole(tmp_path: Path):
    report, said = _report(tmp_path / "gpu.json", "--device", "cpu", "--parts", *_CORE)
    exact = report["correctness"]["float64"]
    assert max(exact["f_initial"], exact["f_final"]) < 1e-9
    assert exact["boxes"] < 1e-6  # f is flat at its maximum, and steps amplify rounding
    assert exact["moved"] > 0.01
    assert report["refinement"]["3"]["refine_ms"] > 0
    assert report["training"]["2 x 4"]["ms"] > 0
    for part in _CORE:
        assert part in said


def test_launches_and_waits_of_a_gpu_stay_few(tmp_path: Path):
    # Less than a tenth above what docs/gpu.md says, 1,754 and 213.
    sizes = ("--boxes", "50", "--steps", "50x64")
    arguments = ("--device", "cpu", "--parts", "refinement", "training", *sizes)
    report, _ = _report(tmp_path / "gpu.json", *arguments)
    assert 1000 < report["refinement"]["50"]["launches"] < 1930
    assert report["refinement"]["50"]["waits"] <= 3
    assert 100 < report["training"]["50 x 64"]["launches"] < 235
    assert report["training"]["50 x 64"]["waits"] <= 3


@pytest.mark.slow
@pytest.mark.mmdet3d
def test_the_detector_is_measured_from_points_to_boxes(tmp_path: Path):
    config = ("--config", "ebm_second_simulated_cpu.py", "--frames", "1")
    report, _ = _report(tmp_path / "gpu.json", "--device", "cpu", "--parts", "detector", *config)
    stages = report["detector"]
    assert len(stages) == 7
    assert all(row["ms"] > 0 for row in stages.values())
    assert stages["points to refined boxes"]["boxes"] > 0


def test_without_the_host_the_detector_is_left_out_and_the_report_says_so(tmp_path: Path):
    file = tmp_path / "gpu.json"
    arguments = (*_SMALL, "--device", "cpu", "--parts", "detector", "--json", str(file))
    status, said = _run(*arguments, script=("-c", _WITHOUT_HOST))
    assert status == 0, said
    assert "skipped: the host is not installed" in said
    assert json.loads(file.read_text())["detector"].startswith("skipped")


def test_without_a_card_nothing_is_measured(tmp_path: Path):
    script = f"import torch; torch.cuda.is_available = lambda: False\n{_WITHOUT_HOST}"
    file = tmp_path / "gpu.json"
    status, said = _run("--json", str(file), script=("-c", script))
    assert status == 1
    assert "No CUDA device is visible" in said
    assert not file.exists()


def test_on_a_card_float64_is_that_of_the_cpu(cuda: torch.device, tmp_path: Path):
    report, _ = _report(tmp_path / "gpu.json", "--device", cuda.type, "--parts", *_CORE)
    exact = report["correctness"]["float64"]
    assert max(exact["f_initial"], exact["f_final"]) < 1e-9
    assert exact["boxes"] < 1e-6  # f is flat at its maximum, and steps amplify rounding
    assert report["refinement"]["3"]["waits"] <= 3
    assert report["training"]["2 x 4"]["peak_gib"] > 0
