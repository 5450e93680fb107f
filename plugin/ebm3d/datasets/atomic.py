"""Files, and whole sets of files, that appear complete or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import input_error

_STORE = ".prepared"
_CURRENT = "current"


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that no reader ever sees a part of it.

    The bytes go to a temporary file in the same folder, which is then renamed. A kill in between
    leaves the old file, or none, and a temporary file with the ending ``.partial``.

    Args:
        path: the file to write; its folder must exist.
        content: the bytes of the whole file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def check_writable(name: str, path: str | Path) -> None:
    """Raise if a file cannot be written, before the work whose result it is to hold.

    Args:
        name: of the argument, for the message.
        path: the file; folders that are missing could still be made.

    Raises:
        ValueError: if there is a folder in its place, a file in that of a folder, or no permission.
    """
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    target = path if path.exists() else folder
    if path.is_dir() or not folder.is_dir() or not os.access(target, os.W_OK):
        got = f"{path}, where {target} is no place to write one"
        raise input_error(name, "a file that can be written", got, "choose another")


@contextmanager
def replace_together(root: Path, links: Mapping[str, str]) -> Iterator[Path]:
    """Make several files and folders below ``root``, and bring them into place in one step.

    The outputs are written to a folder of their own, ``root/.prepared/<generation>``. What users
    see are symbolic links that pass through one more link, ``root/.prepared/current``; renaming
    that one link is the only step that changes what they see, and the file system makes it whole.
    A kill at any moment leaves all old outputs, or all new ones.

    .. code-block:: text

        kitti_infos_train.pkl -> .prepared/current/kitti_infos_train.pkl
        .prepared/current     -> generation-k2x9

    Args:
        root: the folder the outputs belong to; made if it is missing.
        links: for every output its place below ``root``, and its place in the new folder.

    Yields:
        The empty folder to write into. If the body raises, it is removed and nothing changes.

    Raises:
        DataError: if ``root`` cannot be written, an output's place is taken by something that is no
            such link, or another process is at work on ``root``.
    """
    try:
        (root / _STORE).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose an output folder that can be written"
        problem = Problem(root, None, "a folder that can be written", str(error), remedy)
        raise DataError([problem]) from error
    _refuse_strangers(root, links)
    # The root may be a link itself: relative links are counted from where it really is.
    home = root.resolve()
    store = home / _STORE
    with _lock(store):
        current = store / _CURRENT
        for leftover in store.glob("generation-*"):
            if not current.exists() or leftover != store / os.readlink(current):
                shutil.rmtree(leftover)
        generation = Path(tempfile.mkdtemp(prefix="generation-", dir=store))
        generation.chmod(0o755)
        try:
            yield generation
        except BaseException:
            shutil.rmtree(generation)
            raise
        for place, target in links.items():
            link_to(home / place, store / _CURRENT / target)
        old = store / os.readlink(current) if current.exists() else None
        _replace_link(current, generation.name)
        if old is not None:
            shutil.rmtree(old)


def link_to(place: Path, target: Path) -> None:
    """Make ``place`` a relative symbolic link to ``target``, unless it is that already."""
    place.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target, place.parent.resolve())
    if not place.is_symlink() or os.readlink(place) != relative:
        _replace_link(place, relative)


def is_published(place: Path) -> bool:
    """Whether ``place`` is a link made by ``replace_together``."""
    return place.is_symlink() and f"{_STORE}/{_CURRENT}/" in os.readlink(place)


def _replace_link(place: Path, target: str) -> None:
    """Point the link ``place`` at ``target`` in one step."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    os.symlink(target, partial)
    os.replace(partial, place)


def _refuse_strangers(root: Path, links: Mapping[str, str]) -> None:
    """Raise where an output would overwrite what this module did not make."""
    problems = []
    for place in links:
        path = root / place
        if os.path.lexists(path) and not is_published(path):
            got = "a link of other origin" if path.is_symlink() else "one of other origin"
            remedy = "move it away, or choose another output folder"
            expected = "no such file, or one made by an earlier run"
            problems.append(Problem(path, None, expected, got, remedy))
    if problems:
        raise DataError(problems)


@contextmanager
def _lock(store: Path) -> Iterator[None]:
    """Hold the store for one process; a killed process lets go of it by itself."""
    with (store / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            remedy = "wait until it has ended"
            expected = "no other process at work here"
            problem = Problem(store, None, expected, "a second preparation", remedy)
            raise DataError([problem]) from error
        yield
