from __future__ import annotations

from pathlib import Path

import pytest

from ebm3d.datasets import atomic
from ebm3d.datasets.atomic import check_writable, write_atomically


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


def test_only_files_that_can_be_written_pass_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file", "new.json", "new/folder/new.json"):
        check_writable("--json", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for path in (tmp_path, tmp_path / "file" / "x.json"):
        with pytest.raises(ValueError, match="--json must be a file that can be written"):
            check_writable("--json", path)
