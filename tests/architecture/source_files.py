"""Which files the architecture tests look at."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "plugin" / "ebm3d"
HOST_ROOMS = ("adapters", "register.py")


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that is, or is about to be, under version control."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())


def tracked_text_files() -> Iterator[Path]:
    """Those of them that hold text."""
    for path in tracked_files():
        if b"\0" not in path.read_bytes()[:4096]:
            yield path


def package_files(core_only: bool = False) -> Iterator[Path]:
    """Every module of the package, or of its functional core."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if not (core_only and path.relative_to(PACKAGE).parts[0] in HOST_ROOMS):
            yield path


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method in a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def short(path: Path) -> str:
    """A path as it is written in a message."""
    return str(path.relative_to(ROOT))
