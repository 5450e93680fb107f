"""What the tools that evaluate result files share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from ebm3d.datasets.atomic import check_writable, write_atomically
from ebm3d.evaluation.localization import DISTANCE_BANDS

ERRORS = Console(stderr=True)
COMPILING = "Evaluating (the first run compiles, which takes half a minute)"


def run(evaluate: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Evaluate; return 0 if all went well, 1 after saying what is wrong with the input."""
    try:
        if options.json is not None:
            check_writable("--json", options.json)
        evaluate(options)
    except (OSError, ValueError) as error:
        ERRORS.print(f"[red]{escape(str(error))}[/]", soft_wrap=True, highlight=False)
        if not isinstance(error, OSError):
            ERRORS.print("Nothing was evaluated.")
        return 1
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, ``--replicates`` and ``--distance-bands``."""
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="file for all figures")
    add("--replicates", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    text = "borders in meters, 'inf' for none (default: 0 20 40 inf)"
    bands = DISTANCE_BANDS
    add("--distance-bands", type=float, nargs="+", default=bands, metavar="M", help=text)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line that has the options of :func:`add_options`, and check these."""
    options = parser.parse_args(arguments)
    if options.replicates < 1:
        parser.error(f"--replicates must be at least 1, but got {options.replicates}")
    if np.isnan(options.distance_bands).any():
        parser.error("--distance-bands must be numbers")
    return options


def progress_bar(description: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Return a progress bar on the terminal; none where errors go to a file."""
    disable = not sys.stderr.isatty()
    return lambda items: track(
        list(items), description, console=ERRORS, transient=True, disable=disable
    )


def write_figures(path: Path | None, tree: Mapping[str, Any], console: Console) -> None:
    """Write all figures as JSON, where asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(tree, indent=1) + "\n").encode())
        console.print(f"All figures: {path}", highlight=False)
