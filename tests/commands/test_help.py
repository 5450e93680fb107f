"""Help costs no library: it is there at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ebm3d.commands import COMMANDS, main

_SLOW = ("torch", "numpy", "numba", "scipy", "rich", "matplotlib")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_no_library(command: str) -> None:
    program = (
        "import sys\nfrom ebm3d.commands import main\n"
        f"try: main({[command, '--help'] if command else ['--help']})\n"
        "except SystemExit as end: assert not end.code\n"
        f"sys.exit(str([name for name in {_SLOW} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "example" in done.stdout or "first minute" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-energy", "--out", "x"], "LABELS and CLOUDS, or --simulated"),
        (["train-energy", "--simulated", "2", "--ids", "x", "--out", "x"], "--ids is of LABELS"),
        (["refine", "a", "b", "--out", "c", "--steps", "-1"], "--steps"),
        (["refine", "a", "b", "--out", "c", "--map", "Van"], "--map takes A=B"),
        (["refine", "a", "b", "--out", "c", "--coverage", "0.9", "--steps", "5"], "--coverage"),
        (["fit-trust", "a", "b", "c", "--out", "d", "--folds", "1"], "--folds"),
    ],
)
def test_options_that_do_not_fit_end_with_the_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err
