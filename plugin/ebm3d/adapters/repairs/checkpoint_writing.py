"""Checkpoints of mmengine that are whole whenever a training ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import mmengine.runner.runner as host
from mmengine import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from ebm3d.adapters.checkpoints import newest_checkpoint
from ebm3d.datasets.atomic import write_atomically


@cache
def repair_checkpoint_writing() -> bool:
    """Keep a whole checkpoint at every moment, and resume from it.

    Upstream defects of mmengine 0.10: a checkpoint and the resolved config are written under their
    final names, an earlier checkpoint is removed before the next is written, and resuming takes the
    file that ``last_checkpoint`` names, which may be empty, cut off or gone.
    """
    dump = Config.dump

    def put(self: LocalBackend, obj: bytes, filepath: str | Path) -> None:
        os.makedirs(os.path.dirname(filepath) or ".", exist_ok=True)
        write_atomically(filepath, obj)

    def put_text(
        self: LocalBackend, obj: str, filepath: str | Path, encoding: str = "utf-8"
    ) -> None:
        put(self, obj.encode(encoding), filepath)

    def dump_whole(self: Config, file: str | Path | None = None) -> str | None:
        if file is None or not str(file).endswith(".py"):
            return dump(self, file)  # others through put_text
        write_atomically(file, self.pretty_text.encode())
        return None

    LocalBackend.put, LocalBackend.put_text, Config.dump = put, put_text, dump_whole
    for name in ("_save_checkpoint_with_step", "_save_best_checkpoint"):
        setattr(CheckpointHook, name, _removing_last(getattr(CheckpointHook, name)))
    host.find_latest_checkpoint = newest_checkpoint
    return True


def _removing_last(save: Callable[..., None]) -> Callable[..., None]:
    """``save`` with the checkpoints that it removes removed after the new one is written."""

    @wraps(save)
    def save_then_remove(self: CheckpointHook, *args: Any, **kwargs: Any) -> None:
        backend = self.file_backend
        self.file_backend = later = _RemovesLater(backend)
        try:
            save(self, *args, **kwargs)
        finally:
            self.file_backend = backend
        best = getattr(self, "best_ckpt_path_dict", {})
        written = {self.last_ckpt, getattr(self, "best_ckpt_path", None), *best.values()}
        for remove, path in later.removals:
            if path not in written:
                remove(path)

    return save_then_remove


class _RemovesLater:
    """A file backend that notes what to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: list[tuple[Callable[[str], None], str]] = []

    def remove(self, path: str) -> None:
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self.backend.rmtree, path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
