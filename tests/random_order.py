"""A pytest plugin: ``--random-order SEED`` runs files, and tests within a file, in random order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option."""
    parser.addoption("--random-order", type=int, metavar="SEED", help="shuffle files and tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle in place; the same seed gives every worker the same order."""
    seed = config.getoption("--random-order")
    if seed is not None:
        items[:] = shuffled(items, seed)


def shuffled(items: Sequence[Any], seed: int) -> list[Any]:
    """The items by ``path`` in random order, those of a path together, as fixtures are shared."""
    rng = random.Random(seed)
    by_file: dict[Path, list[Any]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    files = list(by_file.values())
    for file in (files, *files):
        rng.shuffle(file)
    return [item for file in files for item in file]
