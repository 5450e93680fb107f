from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ebm3d.datasets import atomic
from ebm3d.datasets.atomic import (
    UNFINISHED,
    check_writable,
    merged_folder,
    new_folder,
    replacing,
    scratch_folder,
    write_atomically,
)
from ebm3d.datasets.problems import DataError
from ebm3d.evaluation import read_folders


def fill(place: AbstractContextManager[Path], error: Exception) -> None:
    """Write half of what is to be written, then fail."""
    with place as partial:
        file = partial / "file" if partial.is_dir() else partial
        file.write_text("half")
        raise error


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new")
    assert (path.read_text() if path.exists() else None) == old
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    """SIGKILL leaves the name that was written to, and no lock."""
    with replacing(tmp_path / "file.png") as partial:
        assert partial.suffix == ".png"  # of which libraries take the format
    partial.write_text("more than what comes next")
    write_atomically(tmp_path / "file.png", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_two_writers_of_one_file_write_one_after_the_other(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "file", content), contents))
    assert [path.read_bytes() in contents for path in tmp_path.iterdir()] == [True]


def test_links_stay_links_and_devices_stay_devices(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    write_atomically("/dev/null", b"new")
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_is_said_with_the_file_and_costs_nothing(tmp_path: Path) -> None:
    """Libraries raise errors without the name, or with that of the part."""
    path = tmp_path / "file"
    path.write_text("old")
    for names in ((), (str(tmp_path / ".partial-file"),)):
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)
        with pytest.raises(OSError, match=r"No space left on device: .*/file'"):
            fill(replacing(path), error)
        assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_folders_of_killed_runs_are_removed_and_those_of_live_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "run-dead" / "sub").mkdir(parents=True)
    with scratch_folder(tmp_path / "run-") as live:
        assert list(tmp_path.iterdir()) == [live]
        with scratch_folder(tmp_path / "run-") as other:
            assert live.is_dir()
            assert other != live
    assert not list(tmp_path.iterdir())


def test_a_new_folder_appears_when_it_is_full(tmp_path: Path) -> None:
    out = tmp_path / "a [b]" / "out"
    with pytest.raises(RuntimeError):
        fill(new_folder(out), RuntimeError())
    assert not list(out.parent.iterdir())
    with new_folder(out) as folder:
        (folder / "file").touch()
        assert not out.exists()
    assert list(out.iterdir()) == [out / "file"]
    with pytest.raises(ValueError, match="out must be a new or empty folder"), new_folder(out):
        pass


def test_results_of_two_runs_are_marked_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, labels = tmp_path / "out", tmp_path / "labels"
    labels.mkdir()
    (labels / "000000.txt").touch()

    def write(text: str) -> None:
        with merged_folder(out) as folder:
            (folder / "before").mkdir()
            for name in ("000000.txt", "000001.txt", "before/000000.txt"):
                (folder / name).write_text(text)

    def texts() -> list[str]:
        return [file.read_text() for file in sorted(out.rglob("*.txt"))]

    write("old")
    (out / "notes.md").touch()
    calls: list[object] = []

    def stop(*names: Path) -> None:
        calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        names[0].rename(names[1])

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write("new")
    assert sorted(texts()) == ["new", "old", "old"]
    for folder in (out, out / "before"):
        with pytest.raises(DataError, match="interrupted"):
            read_folders(labels, folder)
    write("new")
    assert texts() == ["new"] * 3
    assert not list(out.rglob(UNFINISHED))
    assert (out / "notes.md").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "out"]


def test_files_are_written_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_atomically(tmp_path / "file", b"new")
    (tmp_path / "run-unknown").mkdir()
    with scratch_folder(tmp_path / "run-"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run-unknown"]


def test_only_files_that_can_be_written_pass_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "new.json", "new/folder/new.json"):
        check_writable("--json", tmp_path / name)
    check_writable("--out", tmp_path, "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for path in (tmp_path, tmp_path / "file" / "x.json"):
        with pytest.raises(ValueError, match="--json must be a file that can be written"):
            check_writable("--json", path)
    with pytest.raises(ValueError, match="--out must be a folder that can be written"):
        check_writable("--out", tmp_path / "file", "folder")
