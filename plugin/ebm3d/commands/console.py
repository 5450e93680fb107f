"""What all sub-commands print with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.text import Text

MIN_WIDTH = 120
ERRORS = Console(stderr=True)


def console(min_width: int = MIN_WIDTH) -> Console:
    """Return a console for tables, which are not broken in narrow windows."""
    return Console(width=max(min_width, Console().width))


def show(text: str, where: Console, style: str = "") -> None:
    """Print text as it is."""
    where.print(Text(text, style), soft_wrap=True)


def progress_bar(description: str) -> Callable[..., Iterable[Any]]:
    """Return a function that shows the progress of an iterable; none where errors go to a file."""

    def bar(items: Iterable[Any], total: float | None = None) -> Iterable[Any]:
        disable = not sys.stderr.isatty()
        return track(
            items, description, total=total, console=ERRORS, transient=True, disable=disable
        )

    return bar
