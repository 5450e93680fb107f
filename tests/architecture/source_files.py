"""Which files the architecture tests look at."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugin" / "ebm3d"


@cache
def text_files() -> tuple[Path, ...]:
    """Every text file that is, or is about to be, under version control."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-c", "-o", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    files = (ROOT / name for name in names if name)
    return tuple(f for f in files if f.is_file() and b"\0" not in f.read_bytes()[:4096])


def package_files(core_only: bool = False) -> Iterator[Path]:
    """Every module of the package, or of its functional core."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if not (core_only and path.relative_to(PACKAGE).parts[0] in ("adapters", "register.py")):
            yield path


def short(path: Path) -> str:
    """A path as it is written in a message."""
    return str(path.relative_to(ROOT))
