"""Map a function over jobs, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
    with ProcessPoolExecutor(workers, context, numba.set_num_threads, (1,)) as executor:
        try:
            yield from executor.map(function, jobs, chunksize=chunk)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
