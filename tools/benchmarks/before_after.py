"""Tabulate runs of ``tools/test.py --json``: before and after refinement, spread over seeds.

python tools/benchmarks/before_after.py NAME=FILE[,FILE...] ... [--class Car]
    [--markdown FILE] [--json FILE]
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from _report import parser_of, print_table, write_json

THRESHOLDS = ("0.50", "0.70", "0.75", "0.80")
ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw_mod_pi")
COLUMNS = ("figure", "before", "after", "change")


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
        unit, factor = ("deg", 180 / math.pi) if error.startswith("yaw") else ("m", 1.0)
        title = f"mean absolute error {error.replace('_', ' ')} ({unit})"
        rows[title] = pairs["errors"][error]["mean_abs"] * factor
    return rows


def read_runs(files: list[Path], name: str) -> dict[str, dict[str, list[float]]]:
    """Return the figures of each row, before and after, one value per file."""
    runs = [json.loads(file.read_text()) for file in files]
    stages = {stage: [rows_of(run[stage], name) for run in runs] for stage in ("before", "after")}
    return {
        title: {stage: [rows[title] for rows in stages[stage]] for stage in stages}
        for title in stages["before"][0]
    }


def cells(values: dict[str, list[float]]) -> list[str]:
    """Before, after and change: the median and, of more than one run, the range."""
    change = [b - a for a, b in zip(values["before"], values["after"], strict=True)]
    texts = []
    for column, sign in ((values["before"], ""), (values["after"], ""), (change, "+")):
        form = f"{{:{sign}.{2 if max(map(abs, column)) > 1.5 else 3}f}}"
        ends = f" ({form.format(min(column))} to {form.format(max(column))})"
        texts.append(form.format(statistics.median(column)) + (ends if len(column) > 1 else ""))
    return texts


def main() -> None:
    """Tabulate, print, write."""
    parser = parser_of(__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE[,FILE...]")
    parser.add_argument("--class", dest="name", default="Car")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    args = parser.parse_args()
    text, figures = [], {}
    for run in args.runs:
        title, _, files = run.partition("=")
        figures[title] = read_runs([Path(file) for file in files.split(",")], args.name)
        rows = [[name, *cells(values)] for name, values in figures[title].items()]
        print_table(title, COLUMNS, rows)
        lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
        text += [f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""]
    if args.markdown is not None:
        args.markdown.write_text("\n".join(text), encoding="utf-8")
    write_json(args.json, figures)


if __name__ == "__main__":
    main()
