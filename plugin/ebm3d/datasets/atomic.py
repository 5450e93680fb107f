"""Replace a file in one step, and check beforehand that it can be written."""

from __future__ import annotations

import os
from pathlib import Path

from ebm3d.errors import input_error


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename it: readers never see a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(name: str, path: str | Path) -> None:
    """Raise a ``ValueError`` if a file cannot be written; missing folders can be made."""
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    target = path if path.exists() else folder
    if path.is_dir() or not folder.is_dir() or not os.access(target, os.W_OK):
        got = f"{path}, where {target} cannot be written to"
        raise input_error(name, "a file that can be written", got, "choose another")
