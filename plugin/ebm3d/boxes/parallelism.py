"""How many threads a compiled kernel may use: one where the work is too small to share.

Waking a second thread costs microseconds on an idle machine and tens of milliseconds on a busy
one, where the region waits until the last thread has had its turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba

WORTH_SHARING = 5e-3
"""Seconds of work of one thread from which on all threads are used."""


@contextmanager
def threads_for(seconds: float) -> Iterator[None]:
    """Give the kernels called inside one thread for short work, all threads for long work.

    The number of threads is numba's for the calling thread, and is put back afterwards. Results
    do not depend on it.

    Args:
        seconds: rough time that one thread would need.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(before if seconds >= WORTH_SHARING else 1)
    try:
        yield
    finally:
        numba.set_num_threads(before)
