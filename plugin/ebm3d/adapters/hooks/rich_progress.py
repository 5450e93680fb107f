"""One progress bar for a training or a test in place of pages of log lines."""

from __future__ import annotations

import sys
import time
from typing import Any

from mmdet3d.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 15.0


@HOOKS.register_module()
class RichProgressHook(Hook):
    """Show epoch, step, loss and remaining time in one line that is written over.

    The line goes to the process's own standard output, even while ``sys.stdout`` is redirected
    into a log file. Where that is no terminal (a pipe, a log), a line is printed every 15 seconds
    instead. Only the main process shows anything.

    Args:
        title: in front of the bar of a training.
        test_title: in front of the bar of a test.
    """

    priority = "VERY_LOW"

    def __init__(self, title: str = "Training", test_title: str = "Testing") -> None:
        self.title, self.test_title = title, test_title
        self._bar: _Bar | None = None

    def before_train(self, runner: Any) -> None:
        """Start the bar, at the step a resumed training goes on from."""
        self._start(self.title, runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance, and show the loss averaged as in the log."""
        if self._bar is not None:
            loss = runner.message_hub.get_scalar("train/loss").mean(20)
            note = f"epoch {runner.epoch + 1}/{runner.max_epochs}  loss {loss:.3f}"
            self._bar.update(runner.iter + 1, note)

    def after_train(self, runner: Any) -> None:
        """End the bar."""
        self._stop()

    def before_test(self, runner: Any) -> None:
        """Start the bar."""
        self._start(self.test_title, len(runner.test_dataloader), 0)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advance."""
        if self._bar is not None:
            self._bar.update(batch_idx + 1, "")

    def after_test(self, runner: Any) -> None:
        """End the bar."""
        self._stop()

    def _start(self, title: str, total: int, done: int) -> None:
        if is_main_process():
            self._bar = _Bar(title, total, done)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Bar:
    """A bar on a terminal, lines elsewhere."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self._console = Console(file=sys.__stdout__)
        self._title, self._total = title, total
        self._first, self._started = done, time.monotonic()
        self._spoke = self._started
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"), console=self._console,
            )  # fmt: skip
            self._task = self._progress.add_task(title, total=total, completed=done, note="")
            self._progress.start()

    def update(self, done: int, note: str) -> None:
        """Show that ``done`` steps are done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._spoke >= _SECONDS_BETWEEN_LINES or done == self._total:
            self._spoke = now
            left = (now - self._started) / max(done - self._first, 1) * (self._total - done)
            line = f"{self._title}: {done}/{self._total}, {left:.0f} s left  {note}"
            self._console.print(line.rstrip(), highlight=False)

    def stop(self) -> None:
        """Leave the line as it is."""
        if self._progress is not None:
            self._progress.stop()
