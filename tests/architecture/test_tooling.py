"""What ``make lint`` checks holds in every test run too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT

_BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--check", "--no-cache", "."],
        ["lint-imports", "--no-cache"],
        ["codespell"],
        ["mypy"],
    ],
    ids=lambda command: " ".join(command),
)
def test_the_source_passes(command: list[str]):
    program = _BIN / command[0]
    assert program.exists(), f"{command[0]} is not installed; run make setup"
    run = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
