"""Velocities of annotated objects, as nuScenes defines them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_TIME = 1.5  # seconds between two annotations that a velocity is taken from


def velocities(
    translations: NDArray[np.float64],
    times: NDArray[np.float64],
    previous: NDArray[np.int64],
    next: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Difference of positions by difference of times, ``(A, 3)``, m/s; NaN where unknown.

    From the annotation before to the one after, at most 3 s apart; without one of them, from or to
    the annotation itself, at most 1.5 s apart; NaN without both.

    Args:
        translations: ``(A, 3)``, meters.
        times: seconds, ``(A,)``.
        previous: row of the same object's annotation before, -1 for none, ``(A,)``.
        next: row of the one after, ``(A,)``.
    """
    rows = np.arange(len(times))
    first, last = np.where(previous < 0, rows, previous), np.where(next < 0, rows, next)
    seconds = times[last] - times[first]
    is_central = (previous >= 0) & (next >= 0)
    is_known = (first != last) & (seconds <= np.where(is_central, 2 * MAX_TIME, MAX_TIME))
    result = np.full((len(times), 3), np.nan)
    moved = translations[last[is_known]] - translations[first[is_known]]
    result[is_known] = moved / seconds[is_known, None]
    return result
