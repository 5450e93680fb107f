"""Files that are no checkpoint, by what they are instead."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError

from mmengine.logging import print_log

from ebm3d.errors import input_error

_NUMBERED = re.compile(r"(epoch|iter)_\d+\.pth")
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
    newest = newest_checkpoint(path) if is_run else None
    remedy = f" (a folder; its newest is {newest})" if newest else ""
    remedy = remedy or (" (a folder without a whole one)" if path.is_dir() else "")
    raise FileNotFoundError(
        f"checkpoint: expected a file that training saved: {checkpoint}{remedy}"
    )


def newest_checkpoint(path: str | Path) -> str | None:
    """Return the newest whole checkpoint of a work folder, or ``None``.

    It is the one that ``last_checkpoint`` names, wherever the folder was moved to, unless that is
    missing or cut off: then the whole one that was written last.
    """
    folder = Path(path)
    record = folder / "last_checkpoint"
    named = record.read_text().strip() if record.is_file() else ""
    if "://" in named:
        return named
    for file in (folder / Path(named).name, Path(named)):
        if named and (file.is_dir() or zipfile.is_zipfile(file)):  # a folder of DeepSpeed's
            return str(file)
    numbered = [file for file in folder.glob("*.pth") if _NUMBERED.fullmatch(file.name)]
    whole = [file for file in numbered if zipfile.is_zipfile(file)]
    newest = max(whole, key=lambda file: file.stat().st_mtime_ns, default=None)
    if record.is_file():
        got = f"{record} names {named!r}, which is no whole checkpoint"
        print_log(f"{got}; the newest whole one is {newest}.", "current", logging.WARNING)
    return None if newest is None else str(newest)


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
