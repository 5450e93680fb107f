"""Rows of a table of pairs in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

PAIRS_AT_ONCE = 1 << 18
"""Pairs of rotated boxes: 60 numbers each, 126 MB."""


def row_slices(num_rows: int, num_columns: int, num_pairs: int | None = None) -> Iterator[slice]:
    """Slices that cover all rows, each of at most ``num_pairs`` pairs (``PAIRS_AT_ONCE``)."""
    step = max((num_pairs or PAIRS_AT_ONCE) // max(num_columns, 1), 1)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
