"""Tabulate runs of ``tools/test.py --json``: before and after refinement, spread over seeds.

python tools/benchmarks/before_after.py NAME=FILE[,FILE...] ... [--class Car]
    [--markdown FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

THRESHOLDS = ("0.50", "0.70", "0.75", "0.80")
ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw_mod_pi")


def rows_of(tree: dict[str, Any], name: str) -> dict[str, float]:
    """Return the figures of one stage of one run by their row's title."""
    figures = tree[name]
    rows = {
        f"{title} AP R40 at {threshold}, {level}": figures[metric][threshold][level]["ap_r40"]
        for metric, title in (("3d", "3D"), ("bev", "BEV"))
        for threshold in THRESHOLDS
        for level in ("easy", "moderate", "hard")
    }
    pairs = figures["localization_same_pairs"]["hard"]
    rows["mean 3D IoU of matched boxes"] = pairs["mean_iou_3d"]
    rows["mean BEV IoU of matched boxes"] = pairs["mean_iou_bev"]
    for error in ERRORS:
        unit = "deg" if error.startswith("yaw") else "m"
        factor = 57.29577951308232 if unit == "deg" else 1.0
        value = pairs["errors"][error]["mean_abs"] * factor
        rows[f"mean absolute error {error.replace('_', ' ')} ({unit})"] = value
    return rows


def read_runs(files: list[Path], name: str) -> dict[str, dict[str, list[float]]]:
    """Return the figures of each row, before and after, one value per file."""
    runs = [json.loads(file.read_text()) for file in files]
    stages = {stage: [rows_of(run[stage], name) for run in runs] for stage in ("before", "after")}
    return {
        title: {stage: [run[title] for run in found] for stage, found in stages.items()}
        for title in stages["before"][0]
    }


def summarize(rows: dict[str, dict[str, list[float]]]) -> list[tuple[str, ...]]:
    """Return title, before, after and change of each row: the median and range over the runs."""
    table = []
    for title, values in rows.items():
        first, second = values["before"], values["after"]
        change = [b - a for a, b in zip(first, second, strict=True)]
        table.append((title, _spread(first), _spread(second), _spread(change, signed=True)))
    return table


def _spread(values: list[float], signed: bool = False) -> str:
    """Median, and the range where there is more than one value."""
    digits = 2 if max(map(abs, values)) > 1.5 else 3
    form = f"{{:{'+' if signed else ''}.{digits}f}}"
    text = form.format(statistics.median(values))
    if len(values) > 1:
        text += f" ({form.format(min(values))} to {form.format(max(values))})"
    return text


def main() -> None:
    """Parse, tabulate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE[,FILE...]")
    parser.add_argument("--class", dest="name", default="Car")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    parser.add_argument("--json", type=Path, help="write the figures of every run here")
    args = parser.parse_args()
    console, text, figures = Console(), [], {}
    for run in args.runs:
        title, _, files = run.partition("=")
        paths = [Path(file) for file in files.split(",")]
        heading = f"{title} ({len(paths)} run{'s' if len(paths) > 1 else ''})"
        table = Table(title=heading)
        text += [f"### {heading}", "", "| figure | before | after | change |", "|---|---|---|---|"]
        for column in ("figure", "before", "after", "change"):
            table.add_column(column)
        figures[title] = read_runs(paths, args.name)
        for row in summarize(figures[title]):
            table.add_row(*row)
            text.append("| " + " | ".join(row) + " |")
        text.append("")
        console.print(table)
    if args.markdown is not None:
        args.markdown.write_text("\n".join(text))
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
