from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebm3d.datasets import DataError, atomic
from ebm3d.datasets.atomic import check_writable, replace_together, write_atomically

LINKS = {"a.pkl": "a.pkl", "b.pkl": "b.pkl", "training/clouds": "clouds"}


class _Killed(BaseException):
    """Stands for the end of the process."""


def _publish(root: Path, text: str) -> None:
    with replace_together(root, LINKS) as folder:
        (folder / "a.pkl").write_text(text)
        (folder / "b.pkl").write_text(text)
        (folder / "clouds").mkdir()
        (folder / "clouds" / "1.bin").write_text(text)


def _visible(root: Path) -> list[str | None]:
    """What a reader finds at the three places, or None."""
    paths = [root / "a.pkl", root / "b.pkl", root / "training" / "clouds" / "1.bin"]
    return [path.read_text() if path.exists() else None for path in paths]


def _kill_at(monkeypatch: pytest.MonkeyPatch, call: int, after: bool) -> list[str]:
    """End the process before or after its ``call``-th change to the file system."""
    calls: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == call and not after:
                raise _Killed
            result = real(*args, **kwargs)
            if len(calls) == call:
                raise _Killed
            return result

        monkeypatch.setattr(owner, name, wrapped)

    wrap(atomic.os, "replace")
    wrap(atomic.os, "symlink")
    wrap(atomic.shutil, "rmtree")
    return calls


def _num_changes(tmp_path: Path, old: bool) -> int:
    """How many changes to the file system one publication makes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if old:
            _publish(tmp_path / "counted", "old")
        calls = _kill_at(monkeypatch, call=0, after=False)
        _publish(tmp_path / "counted", "new")
    return len(calls)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_change_leaves_all_old_or_all_new(
    tmp_path: Path, old: bool, after: bool
) -> None:
    num_changes = _num_changes(tmp_path, old)
    assert num_changes >= 3
    seen = set()
    for call in range(1, num_changes + 1):
        root = tmp_path / f"killed-{call}"
        if old:
            _publish(root, "old")
        with pytest.MonkeyPatch.context() as monkeypatch:
            _kill_at(monkeypatch, call, after)
            with pytest.raises(_Killed):
                _publish(root, "new")
        states = set(_visible(root))
        assert len(states) == 1, f"mixed outputs after change {call}: {_visible(root)}"
        seen |= states
        _publish(root, "newer")
        assert set(_visible(root)) == {"newer"}, "a later run must succeed"
    before = "old" if old else None
    # On a first run the switch is the last change: a kill before it leaves nothing to be seen.
    assert seen == ({before} if not old and not after else {before, "new"})


def test_a_failure_while_writing_changes_nothing(tmp_path: Path) -> None:
    _publish(tmp_path, "old")

    def fail() -> None:
        with replace_together(tmp_path, LINKS) as folder:
            (folder / "a.pkl").write_text("new")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert _visible(tmp_path) == ["old"] * 3
    assert len(list((tmp_path / ".prepared").glob("generation-*"))) == 1


@pytest.mark.slow
def test_a_killed_process_changes_nothing_and_leaves_no_lock(tmp_path: Path) -> None:
    _publish(tmp_path, "old")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from ebm3d.datasets.atomic import replace_together\n"
        f"with replace_together(Path(sys.argv[1]), {LINKS!r}) as folder:\n"
        "    (folder / 'a.pkl').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    plugin = str(Path(atomic.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": plugin}
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert _visible(tmp_path) == ["old"] * 3
    assert len(list((tmp_path / ".prepared").glob("generation-*"))) == 2
    _publish(tmp_path, "new")
    assert _visible(tmp_path) == ["new"] * 3
    assert len(list((tmp_path / ".prepared").glob("generation-*"))) == 1


def test_files_of_other_origin_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_text("precious")
    (tmp_path / "b.pkl").symlink_to("a.pkl")
    with pytest.raises(DataError) as caught:
        _publish(tmp_path, "new")
    assert [problem.file.name for problem in caught.value.problems] == ["a.pkl", "b.pkl"]
    assert "choose another output folder" in caught.value.problems[0].remedy
    assert (tmp_path / "a.pkl").read_text() == "precious"


def test_two_processes_do_not_work_on_one_folder(tmp_path: Path) -> None:
    _publish(tmp_path, "old")
    with (tmp_path / ".prepared" / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="wait until it has ended"):
            _publish(tmp_path, "new")
    assert _visible(tmp_path) == ["old"] * 3


def test_a_root_behind_a_link_is_prepared_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    _publish(tmp_path / "link", "new")
    assert _visible(tmp_path / "link") == ["new"] * 3
    assert os.readlink(tmp_path / "disk" / "set" / "a.pkl") == ".prepared/current/a.pkl"


def test_a_root_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose an output folder that can be written"):
        _publish(tmp_path / "file", "new")


def test_outputs_can_be_moved_with_their_folder(tmp_path: Path) -> None:
    _publish(tmp_path / "here", "new")
    (tmp_path / "here").rename(tmp_path / "there")
    assert _visible(tmp_path / "there") == ["new"] * 3


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    _kill_at(monkeypatch, call=1, after=False)
    with pytest.raises(_Killed):
        write_atomically(path, b"new")
    assert (path.read_text() if path.exists() else None) == old
    assert list(tmp_path.iterdir()) == ([path] if old else [])


def test_files_that_can_be_written_pass(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}")
    for name in ("there.json", "new.json", "new/folder/new.json"):
        check_writable("--json", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.json"]


def test_files_without_a_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x.json"):
        with pytest.raises(ValueError, match="--json must be a file that can be written"):
            check_writable("--json", path)
