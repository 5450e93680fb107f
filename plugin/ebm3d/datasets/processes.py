"""Map a function over jobs, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from threading import Thread
from typing import TypeVar

import numba

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def map_in_order(
    function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int, preload: str
) -> Iterator[_Result]:
    """Yield ``function(job)`` for all jobs, in their order.

    ``workers`` processes have one thread each; 1 stays in this process, more need the usual
    ``if __name__ == "__main__"``. The module ``preload`` is imported once for all of them.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    # Not forked from here: the threads of torch and of progress bars forbid it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    chunk = max(1, min(32, len(jobs) // (4 * workers)))
    with ProcessPoolExecutor(workers, context, _start_worker) as executor:
        try:
            yield from executor.map(function, jobs, chunksize=chunk)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    """One thread; and an end when the parent is killed, which closes no pipe that workers share."""
    numba.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's end, then end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
