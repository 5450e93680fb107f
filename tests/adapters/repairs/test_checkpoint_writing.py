"""A whole checkpoint at every moment of a training, with the repair; and without."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def save(path: Path, epoch: int) -> None:
    torch.save({"epoch": epoch}, path)


@pytest.mark.parametrize(
    ("record", "cut_off", "expected"),
    [
        ("FOLDER/epoch_2.pth", (), "epoch_2.pth"),
        ("/moved/away/epoch_2.pth", (), "epoch_2.pth"),
        ("FOLDER/epoch_2.pth", ("epoch_2.pth",), "epoch_10.pth"),
        ("FOLDER/epoch_2.pth", ("epoch_2.pth", "epoch_10.pth"), "epoch_9.pth"),
        ("FOLDER/epoch_11.pth", (), "epoch_10.pth"),  # removed
        ("", (), "epoch_10.pth"),
        (None, (), "epoch_10.pth"),
        (None, ("epoch_2.pth", "epoch_9.pth", "epoch_10.pth"), None),
        ("s3://bucket/epoch_2.pth", (), "s3://bucket/epoch_2.pth"),
    ],
)
def test_training_resumes_from_the_newest_whole_checkpoint(
    tmp_path: Path, record: str | None, cut_off: tuple[str, ...], expected: str | None
) -> None:
    from mmengine.runner import runner

    for age, epoch in enumerate((10, 9, 2)):
        path = tmp_path / f"epoch_{epoch}.pth"
        save(path, epoch)
        if path.name in cut_off:
            path.write_bytes(path.read_bytes()[:-100])
        os.utime(path, ns=(0, 10**18 - age))
    save(tmp_path / "best_AP_epoch_9.pth", 9)
    save(tmp_path / ".partial-epoch_12.pth", 12)
    if record is not None:
        (tmp_path / "last_checkpoint").write_text(record.replace("FOLDER", str(tmp_path)))
    found = runner.find_latest_checkpoint(str(tmp_path))
    is_local = expected is not None and "://" not in expected
    assert found == (str(tmp_path / str(expected)) if is_local else expected)


@pytest.mark.parametrize("repaired", [True, False])
def test_a_checkpoint_is_there_while_the_next_is_written(tmp_path: Path, repaired: bool) -> None:
    from mmengine.fileio import get_file_backend
    from mmengine.hooks import CheckpointHook

    hook: Any = CheckpointHook(max_keep_ckpts=1)
    hook.out_dir, hook.file_backend = str(tmp_path), get_file_backend(str(tmp_path))
    hook.keep_ckpt_ids = deque([1], 1)
    save(tmp_path / "epoch_1.pth", 1)
    during = []

    def save_checkpoint(out_dir: str, name: str, *args: Any, **kwargs: Any) -> None:
        during.extend(path.name for path in tmp_path.glob("*.pth"))
        save(tmp_path / name, 2)

    hub = SimpleNamespace(update_info=lambda *args: None)
    runner = SimpleNamespace(
        save_checkpoint=save_checkpoint, work_dir=str(tmp_path), message_hub=hub
    )
    method = CheckpointHook._save_checkpoint_with_step
    (method if repaired else method.__wrapped__)(hook, runner, 2, {})
    assert during == (["epoch_1.pth"] if repaired else [])
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_2.pth"]


@pytest.mark.parametrize("name", ["epoch_1.pth", "config.py", "figures.json"])
def test_what_the_host_writes_is_whole_or_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mmengine import Config
    from mmengine.runner.checkpoint import save_checkpoint

    def write(value: int) -> None:
        content = Config({"value": value})
        if name.endswith(".pth"):
            save_checkpoint(content.to_dict(), str(path))
        else:
            content.dump(path)

    path = tmp_path / name
    write(1)
    before = path.read_bytes()

    def stop(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(OSError, match=name):
            write(2)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
    write(2)
    assert path.read_bytes() != before
