"""The figures of runs as plain data, and as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ebm3d.benchmarks.regression_1d.methods import make_methods
from ebm3d.benchmarks.regression_1d.problem import PROBLEMS
from ebm3d.benchmarks.regression_1d.runs import Run

NUM_BEST = 5

PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "nce": {"set1": (0.074, 0.033), "set2": (0.148, 0.086)},
    "nce_plus": {"set1": (0.088, 0.039), "set2": (0.209, 0.057)},
    "ml_is": {"set1": (0.129, 0.055), "set2": (0.123, 0.057)},
    "kld_is": {"set1": (0.087, 0.042), "set2": (0.252, 0.046)},
    "ml_mcmc": {"set1": (0.659, None), "set2": (0.810, None)},
    "sm": {"set1": (1.05, 0.74), "set2": (1.05, 0.32)},
    "dsm": {"set1": (0.400, 0.039), "set2": (0.426, 0.024)},
}
"""Mean and standard deviation of the divergence of five models (one of ML-MCMC), nats: the training
and evaluation scripts published with BMVC 2020, run on the same training sets."""

COLUMNS = (
    "method", "models", "set 1", "best 5", "published code", "set 2", "best 5", "published code",
    "core s / model",
)  # fmt: skip

Runs = Mapping[tuple[str, str], Run]
"""Runs by the names of problem and method."""


def density_titles() -> dict[str, str]:
    """Return the titles of all densities by name, in the order of the table."""
    methods = make_methods(next(iter(PROBLEMS))).values()
    return {name: title for method in methods for name, title in method.densities.items()}


def summarize(kl: Sequence[float]) -> dict[str, float | None]:
    """Return mean, standard deviation (of K - 1) and the mean of the five best of divergences.

    ``diverged`` counts models that are not finite; what is left out of them is None.
    """
    finite = [value for value in kl if math.isfinite(value)]
    return {
        "mean": statistics.mean(finite) if finite else None,
        "std": statistics.stdev(finite) if len(finite) > 1 else None,
        "best5": statistics.mean(sorted(finite)[:NUM_BEST]) if finite else None,
        "diverged": len(kl) - len(finite),
    }


def figures_of(runs: Runs) -> dict[str, Any]:
    """Return the figures of runs by problem and density: title, divergences, summary, seconds."""
    found: dict[str, Any] = {problem: {} for problem in PROBLEMS}
    for problem, name, title, run in _densities(runs):
        kl = [float(value) for value in run.kl[name]]
        found[problem][name] = {
            "title": title,
            "models": len(kl),
            **summarize(kl),
            "kl": [value if math.isfinite(value) else None for value in kl],
            "seconds_per_model": run.seconds / len(kl),
        }
    return found


def table_rows(figures: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the rows of the table of :func:`figures_of`, cells as in ``COLUMNS``."""
    rows = []
    for name, title in density_titles().items():
        entries = [figures[problem].get(name) for problem in PROBLEMS]
        known = [entry for entry in entries if entry is not None]
        if not known:
            continue
        cells = []
        for problem, entry in zip(PROBLEMS, entries, strict=True):
            published = PUBLISHED.get(name, {}).get(problem)
            cells += ["", ""] if entry is None else [_spread(entry), _number(entry["best5"])]
            cells.append("" if published is None else _with_spread(*published))
        numbers = sorted({entry["models"] for entry in known})
        seconds = statistics.mean(entry["seconds_per_model"] for entry in known)
        rows.append([title, " / ".join(map(str, numbers)), *cells, f"{seconds:.1f}"])
    return rows


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of :func:`table_rows` as a table in markdown."""
    lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _densities(runs: Runs) -> Iterator[tuple[str, str, str, Run]]:
    """Problem, name, title and run of every density, in the order of the table."""
    for problem in PROBLEMS:
        for key, method in make_methods(problem).items():
            run = runs.get((problem, key))
            if run is not None:
                for name, title in method.densities.items():
                    yield problem, name, title, run


def _spread(entry: Mapping[str, float | None]) -> str:
    """Mean and standard deviation, and how many diverged."""
    diverged = f" ({entry['diverged']} diverged)" if entry["diverged"] else ""
    return _with_spread(entry["mean"], entry["std"]) + diverged


def _with_spread(mean: float | None, std: float | None) -> str:
    """A number and its spread."""
    return _number(mean) + ("" if std is None else f" \N{PLUS-MINUS SIGN} {std:.3f}")


def _number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3f}"
