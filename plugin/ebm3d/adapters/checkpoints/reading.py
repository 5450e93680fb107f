"""Files that are no checkpoint, by what they are instead."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from pickle import UnpicklingError

from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from ebm3d.errors import input_error

_AGAIN = "copy or download it again, or give an older one"
_STARTS = {
    b"version https://git-lfs": ("a Git LFS pointer", "fetch the file itself with git lfs pull"),
    b"<": ("a web page", "download the file itself"),
}


def check_file(checkpoint: str | Path) -> None:
    """Raise a ``FileNotFoundError`` unless a checkpoint is a file; a URL is not looked at."""
    path = Path(checkpoint)
    if path.is_file() or "://" in str(checkpoint):
        return
    is_run = (path / "last_checkpoint").is_file()
    remedy = f" (a folder; its newest is {find_latest_checkpoint(str(path))})" if is_run else ""
    raise FileNotFoundError(
        f"checkpoint: expected a file that training saved: {checkpoint}{remedy}"
    )


def warn_if_damaged(checkpoint: str | Path) -> None:
    """Warn where the content of a file does not match its checksums, which torch does not read."""
    if not zipfile.is_zipfile(checkpoint):
        return
    with zipfile.ZipFile(checkpoint) as file:
        damaged = file.testzip()
    if damaged:
        message = f"checkpoint {checkpoint} may be damaged: {damaged} has another checksum."
        print_log(message, logger="current", level=logging.WARNING)


def explain(checkpoint: str | Path, error: Exception) -> ValueError:
    """Return the error for a checkpoint that cannot be read, from its first bytes."""
    got, remedy = _what_it_is(Path(checkpoint), error)
    lines = str(error).splitlines() or [""]
    line = next((line for line in lines if "nsupported" in line or "GLOBAL" in line), lines[0])
    got = f"{got} ({type(error).__name__}: {line.strip().partition('. ')[0]})"
    return input_error(f"checkpoint {checkpoint}", "a file that training saved", got, remedy)


def _what_it_is(path: Path, error: Exception) -> tuple[str, str]:
    """What a file is, and what to do about it."""
    if not path.is_file():
        return "what cannot be read", ""
    with path.open("rb") as file:
        start = file.read(32)
    if not start:
        return "an empty file", _AGAIN
    for sign, answer in _STARTS.items():
        if start.startswith(sign):
            return answer
    if start[8:10] == b'{"':
        convert = "save it by torch.save(safetensors.torch.load_file(FILE), 'FILE.pth')"
        return "a safetensors file", convert
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        return "a torn file", _AGAIN
    if isinstance(error, (UnpicklingError, ValueError)) and start[:1] in (b"P", b"\x80"):
        remedy = "where you trust it, save its state_dict alone with torch.save"
        return "Python objects besides tensors, which safe loading refuses", remedy
    return "what cannot be read", _AGAIN
