"""Python code in a process of its own, for what must not happen in the test's process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def run_python(script: str, *arguments: str, check: bool = True, **environment: str) -> str:
    """Run a script in a fresh interpreter at the project root.

    Args:
        script: Python source.
        arguments: of the script.
        check: whether a non-zero exit status fails the test, with the script's error output.
        environment: variables to set.

    Returns:
        What the script printed, without surrounding white space.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *arguments],
        cwd=_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"the script failed with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout.strip()
