"""One-dimensional regression: every training method on two known densities.

python tools/benchmarks/regression_1d --work-dir DIR [--methods NAME ...] [--models K]
    [--epochs E] [--samples M] [--json FILE] [--figure FILE] [--markdown FILE]

Divergences from the true density in nats, of K models trained at once; half a minute a model of a
method on one core, chains (ml_mcmc) ten times as long. Each method is kept in the work folder as
soon as it is trained, and not trained again. Published are 75 epochs and M = 1024.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from _report import parser_of, write_json

from ebm3d.datasets.atomic import replacing
from regression_1d.figure import density_picture, write_figure
from regression_1d.methods import NUM_EPOCHS, NUM_SAMPLES, make_methods, train
from regression_1d.problem import PROBLEMS, kl_divergence

PUBLISHED = {
    "nce": ("0.074 ± 0.033", "0.148 ± 0.086"),
    "nce_plus": ("0.088 ± 0.039", "0.209 ± 0.057"),
    "ml_is": ("0.129 ± 0.055", "0.123 ± 0.057"),
    "kld_is": ("0.087 ± 0.042", "0.252 ± 0.046"),
    "ml_mcmc": ("0.659", "0.810"),
    "sm": ("1.050 ± 0.740", "1.050 ± 0.320"),
    "dsm": ("0.400 ± 0.039", "0.426 ± 0.024"),
}
"""Five models (ML-MCMC: one) by the scripts published with BMVC 2020, on the same sets."""


def run(problem: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and measure the models of a method, or read them from the work folder."""
    names = ("models", "epochs", "samples", "points", "grid", "seed")
    settings = {name: getattr(options, name) for name in names}
    path = options.work_dir / f"{problem}_{name}.pt"
    if path.exists():
        result = torch.load(path)
        if result["settings"] != settings:
            message = f"{path} has {result['settings']}, but this run {settings}"
            raise SystemExit(f"{message}; choose another --work-dir.")
        return result
    truth, method = PROBLEMS[problem], make_methods(problem, options.samples)[name]
    started = time.process_time()
    x, y = truth.sample(options.points)
    models, _ = train(method, x, y, options.models, options.epochs, seed=options.seed)
    seconds = (time.process_time() - started) / options.models
    densities = {}
    for key, (title, density) in method.densities.items():
        bound = partial(density, models)
        kl = kl_divergence(truth, bound, options.grid).tolist()
        median = sorted(range(len(kl)), key=lambda index: kl[index])[(len(kl) - 1) // 2]
        picture = density_picture(bound)[median].half()
        densities[key] = {"title": title, "kl": kl, "median": kl[median], "picture": picture}
    result = {"settings": settings, "seconds": seconds, "densities": densities}
    with replacing(path) as file:  # a killed run's is not taken for a result
        torch.save(result, file)
    return result


def summarize(kl: list[float]) -> dict[str, Any]:
    """Mean, standard deviation (of K - 1) and mean of the five best of the finite divergences."""
    finite = sorted(value for value in kl if math.isfinite(value))
    return {
        "models": len(kl),
        "mean": statistics.mean(finite) if finite else None,
        "std": statistics.stdev(finite) if len(finite) > 1 else None,
        "best5": statistics.mean(finite[:5]) if finite else None,
        "diverged": len(kl) - len(finite),
        "kl": kl,
    }


def markdown_table(results: dict[str, dict[str, Any]]) -> str:
    """One row for each density; results by problem and density."""
    header = ["method", "models"]
    for problem in PROBLEMS:
        header += [problem, "best 5", "published code"]
    lines = [[*header, "core s / model"], ["---", *["---:"] * len(header)]]
    first, second = results.values()
    for name, row in first.items():
        cells = [row["title"], str(row["models"])]
        for index, entry in enumerate((row, second[name])):
            cells += [_spread(entry), _number(entry["best5"]), PUBLISHED.get(name, ("", ""))[index]]
        seconds = (row["seconds"] + second[name]["seconds"]) / 2
        lines.append([*cells, f"{seconds:.1f}"])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _spread(entry: dict[str, Any]) -> str:
    """Mean and standard deviation, and how many models diverged."""
    std = "" if entry["std"] is None else f" ± {entry['std']:.3f}"
    diverged = f" ({entry['diverged']} diverged)" if entry["diverged"] else ""
    return _number(entry["mean"]) + std + diverged


def _number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Arguments."""
    names = list(make_methods("set1"))
    sizes = {"models": 5, "epochs": NUM_EPOCHS, "samples": NUM_SAMPLES}
    parser = parser_of(__doc__, **sizes, points=2000, grid=2048, seed=0)
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--work-dir", type=Path, required=True, help="keeps what is trained")
    options = parser.parse_args(arguments)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, write, print."""
    options = parse(arguments)
    results: dict[str, dict[str, Any]] = {problem: {} for problem in PROBLEMS}
    panels: dict[str, list[Any]] = {problem: [] for problem in PROBLEMS}
    for name in options.methods:
        for problem in PROBLEMS:
            result = run(problem, name, options)
            for key, entry in result["densities"].items():
                row = {"title": entry["title"], **summarize(entry["kl"])}
                results[problem][key] = {**row, "seconds": round(result["seconds"], 2)}
                panels[problem].append((entry["title"], entry["picture"], entry["median"]))
                print(f"{problem} {key}: {_spread(row)}", flush=True)
    table = markdown_table(results)
    print(table)
    head = {"epochs": options.epochs, "samples": options.samples}
    write_json(options.json, {**head, "results": results})
    if options.markdown is not None:
        options.markdown.write_text(table, encoding="utf-8")
    if options.figure is not None:
        write_figure(options.figure, panels)


if __name__ == "__main__":
    main()
