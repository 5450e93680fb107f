from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.random_order import shuffled


def test_random_order_keeps_the_tests_of_a_file_together_and_depends_on_the_seed() -> None:
    items = [SimpleNamespace(path=Path(f"{n // 5}"), number=n) for n in range(25)]
    first, again, other = shuffled(items, 1), shuffled(items, 1), shuffled(items, 2)
    assert first == again
    assert first != other
    assert sorted(item.number for item in first) == list(range(25))
    assert all(len({item.path for item in first[n : n + 5]}) == 1 for n in range(0, 25, 5))
