"""Run a command in a forked process, and kill it at a chosen moment."""

from __future__ import annotations

import os
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_TOOLS = Path(__file__).resolve().parents[1]
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moment(NamedTuple):
    """When to kill: ``seconds`` after the start, or after the beginning of the write ``write``.

    With ``holds`` the process does not go on with that write.
    """

    seconds: float
    write: int | None = None
    holds: bool = False

    def __str__(self) -> str:
        """As in ``2.10 s`` or ``write 7``."""
        if self.write is None:
            return f"{self.seconds:.2f} s"
        return f"write {self.write}" + ("" if self.holds else f" + {1e3 * self.seconds:.2f} ms")


class Run(NamedTuple):
    """Exit status (negative: the signal), end of the output, seconds, number of writes."""

    status: int
    said: str
    seconds: float
    writes: int


def start(command: Sequence[str], folder: Path, moment: Moment | None = None) -> Run:
    """Run a script of ``tools/`` with its arguments in a folder.

    Writes are what changes a file below the folder: opening it for writing, renaming, removing.
    """
    log = folder.with_suffix(".log")
    reader, writer = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(command, folder, log, writer, moment)
    os.close(writer)
    with suppress(OSError):  # here and there, as either may come first
        os.setpgid(pid, pid)
    writes, is_over = 0, False
    while not is_over:
        wait = None
        if moment is not None and moment.write is None:
            wait = max(0.0, began + moment.seconds - time.monotonic())
        if not select.select([reader], [], [], wait)[0]:
            break
        seen = len(os.read(reader, 1 << 16))
        writes, is_over = writes + seen, not seen
        if moment is not None and moment.write is not None and writes >= moment.write:
            time.sleep(moment.seconds)
            break
    if not is_over:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    os.close(reader)
    _end_group(pid)
    said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
    log.unlink(missing_ok=True)
    return Run(os.waitstatus_to_exitcode(status), said, seconds, writes)


def mount(folder: Path, options: str) -> None:
    """Mount a file system in memory, or change one; CalledProcessError if that is not allowed."""
    kind = [] if "remount" in options else ["-t", "tmpfs", "tmpfs"]
    command = ["mount", "-o", options, *kind, str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _run(command: Sequence[str], folder: Path, log: Path, pipe: int, moment: Moment | None) -> None:
    """The forked process: report every write to the pipe; never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        output = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        root, count = f"{folder}/", 0

        def note(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event == "open":
                is_write = isinstance(args[2], int) and args[2] & _WRITES
            else:
                is_write = event in _CHANGES
            if not is_write or not isinstance(args[0], str | os.PathLike):
                return
            if not os.path.abspath(args[0]).startswith(root):
                return
            count += 1
            os.write(pipe, b"w")
            if moment is not None and moment.holds and count == moment.write:
                time.sleep(600)

        sys.addaudithook(note)
        script = _TOOLS / command[0]
        sys.argv = [str(script), *command[1:]]
        runpy.run_path(str(script), run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_group(pid: int) -> None:
    """End what is left of a command's processes."""
    for _ in range(100):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.02)
