"""Files and folders that are whole under their names, whenever a process ends.

What is being written has a name with ``.partial``; a killed run's is removed by the next run.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ebm3d.errors import input_error

# In a folder whose files are of two runs; nothing reads such results.
UNFINISHED = "unfinished"


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file in one step: readers see the old content or the new, never a part.

    Raises:
        OSError: naming ``path``, which is unchanged.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_into_set(path: str | Path, content: bytes) -> None:
    """Write a file of a folder that appears when all is written (:func:`new_folder`); no lock.

    Raises:
        OSError: naming ``path``.
    """
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name to write to, with the suffix of ``path``; what is there at the end replaces it.

    Two processes that write the same file do so one after the other. Links stay links, and devices
    (``/dev/stdout``) are written directly.

    Raises:
        OSError: naming ``path``, which is unchanged.
    """
    target = Path(path)
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    target = target.resolve()
    partial = target.with_name(f".partial-{target.name}")
    try:
        with _locked(partial):
            try:
                yield partial
                os.replace(partial, target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def scratch_folder(prefix: Path) -> Iterator[Path]:
    """Yield a new folder ``PREFIX...``, removed at the end; those of killed runs are removed."""
    for leftover in prefix.parent.glob(f"{glob.escape(prefix.name)}*"):
        with suppress(OSError), _flocked(os.open(leftover, os.O_RDONLY), wait=False):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = tempfile.TemporaryDirectory(prefix=prefix.name, dir=prefix.parent)
    with temporary as name, _flocked(os.open(name, os.O_RDONLY)):
        yield Path(name)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes ``path``, new or empty before, when all is written.

    Raises:
        ValueError: if ``path`` is not empty.
    """
    path = Path(path).resolve()
    with _staged(path) as folder:  # first, as it removes what a killed run left
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise input_error("out", "a new or empty folder", path, "remove it or choose another")
        yield folder
        folder.rename(path)


@contextmanager
def merged_folder(path: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; its files are moved into ``path`` when all are written.

    Other files of ``path`` stay. While files are moved into folders that had some, the file
    ``unfinished`` is in each of these folders.
    """
    path = Path(path).resolve()
    with _staged(path) as staged:
        yield staged
        if not path.exists() or not any(path.iterdir()):
            staged.rename(path)
            return
        folders = [folder for folder in (staged, *staged.rglob("*")) if folder.is_dir()]
        targets = [path / folder.relative_to(staged) for folder in folders]
        for target in targets:
            target.mkdir(exist_ok=True)
            (target / UNFINISHED).touch()
        for folder, target in zip(folders, targets, strict=True):
            for file in folder.iterdir():
                if not file.is_dir():
                    os.replace(file, target / file.name)
        for target in targets:
            (target / UNFINISHED).unlink()


def check_writable(name: str, path: str | Path, kind: str = "file") -> None:
    """Raise a ``ValueError`` if a file (or "folder") cannot be written; folders can be made."""
    path = Path(path).absolute()
    target = next(place for place in (path, *path.parents) if place.exists())
    is_kind = target.is_dir() == (kind == "folder") if target == path else target.is_dir()
    if not is_kind or not os.access(target, os.W_OK):
        got = f"{path}, where {target} cannot be written to"
        if target == path and not is_kind:
            got = f"{path}, which is a {'file' if kind == 'folder' else 'folder'}"
        raise input_error(name, f"a {kind} that can be written", got, "choose another")


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A folder named as ``path`` in a scratch folder beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.with_name(f".partial-{path.name}-")) as scratch:
        folder = scratch / path.name
        folder.mkdir()
        yield folder


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Make an empty file that no other process writes to."""
    is_there = False
    while not is_there:
        with _flocked(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o666)) as file:
            with suppress(FileNotFoundError):  # else renamed by the process before
                is_there = os.path.samestat(os.fstat(file), partial.stat())
            if is_there:
                os.truncate(file, 0)
                yield


@contextmanager
def _flocked(file: int, wait: bool = True) -> Iterator[int]:
    """Hold the lock of an open file, then close it; the lock ends with the process."""
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # another holds it, or a file system without locks
            if not wait:
                raise
        yield file
    finally:
        os.close(file)
