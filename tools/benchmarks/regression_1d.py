"""One-dimensional regression: every training method on two known densities, all models at once.

python tools/benchmarks/regression_1d.py --work-dir DIR [--methods NAME ...] [--models N]
    [--epochs E] [--seed S] [--json FILE] [--figure FILE] [--markdown FILE] [--threads T] [--speed]

Figures are Kullback-Leibler divergences from the true density, in nats. Each method is kept in the
work folder, and the table is written anew, as soon as it is trained. Models that are in the work
folder are not trained again, and more can be added to them: the models of a method are independent
of each other, however many are trained at once. ``--models 0`` draws up what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

# Threads that wait actively slow each other down where torch's and numba's take turns.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ebm3d.benchmarks.regression_1d import PROBLEMS, Budget, make_methods, model_seeds
from ebm3d.benchmarks.regression_1d.method import Method
from ebm3d.benchmarks.regression_1d.pictures import Panel, true_panel, write_densities_picture
from ebm3d.benchmarks.regression_1d.report import COLUMNS, figures_of, markdown_table, table_rows
from ebm3d.benchmarks.regression_1d.runs import Run, run_method
from ebm3d.benchmarks.regression_1d.speed import measure_speed
from ebm3d.datasets.atomic import check_writable

Runs = dict[tuple[str, str], Run]


def run_path(options: argparse.Namespace, problem: str, method: str) -> Path:
    """Where the models of a method are kept."""
    return options.work_dir / f"{problem}_{method}.npz"


def read_runs(options: argparse.Namespace) -> Runs:
    """What is in the work folder."""
    settings = {**vars(Budget(options.epochs)), "num_points": options.points}
    runs = {}
    for problem in PROBLEMS:
        for name, method in make_methods(problem).items():
            path = run_path(options, problem, name)
            if path.exists():
                run = runs[problem, name] = Run.load(path)
                if run.settings != settings:
                    raise SystemExit(
                        f"{path} has {run.settings}, but this run {settings}; "
                        "choose another --work-dir."
                    )
                if set(run.kl) != set(method.densities):
                    raise SystemExit(
                        f"{path} has densities {sorted(run.kl)}, but {name} "
                        f"{sorted(method.densities)}; remove it, and they are trained again."
                    )
    return runs


def complete(
    options: argparse.Namespace, problem: str, name: str, method: Method, runs: Runs, bar: Progress
) -> bool:
    """Train the models that are missing; whether there were any."""
    done = runs.get((problem, name))
    trained = () if done is None else done.seeds
    missing = [s for s in model_seeds(options.seed, options.models) if s not in trained]
    if not missing:
        return False
    title = f"{problem}, {name}, {len(missing)} models"
    task = bar.add_task(title, total=options.epochs)
    run = run_method(
        PROBLEMS[problem],
        method,
        missing,
        Budget(options.epochs),
        lambda: bar.advance(task),
        options.points,
    )
    runs[problem, name] = run if done is None else done.joined(run)
    runs[problem, name].save(run_path(options, problem, name))
    bar.remove_task(task)
    return True


def panels_of(runs: Runs) -> list[tuple[str, list[Panel]]]:
    """Of each density the model with the median divergence."""
    groups = []
    for problem, truth in PROBLEMS.items():
        panels = [true_panel(truth)]
        for key, method in make_methods(problem).items():
            if (problem, key) in runs:
                run = runs[problem, key]
                for name, title in method.densities.items():
                    kl = run.kl[name]
                    middle = int(np.argsort(kl)[(len(kl) - 1) // 2])
                    panels.append(Panel(title, run.pictures[name][middle], f"{kl[middle]:.3f}"))
        groups.append((f"{truth.name}: {truth.title}", panels))
    return groups


def read_speed(path: Path) -> list[dict[str, Any]] | None:
    """What ``--speed`` has written to a file before, if anything."""
    if not path.exists():
        return None
    try:
        speed: list[dict[str, Any]] | None = json.loads(path.read_bytes())["speed"]
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(
            f"--json must be a new file or one of this benchmark, but got {path} "
            f"({type(error).__name__}: {error}); choose another."
        ) from error
    return speed


def write_figures(
    options: argparse.Namespace, runs: Runs, speed: list[dict[str, Any]] | None = None
) -> None:
    """Write the figures and the table, if they were asked for."""
    figures = figures_of(runs)
    if options.json is not None:
        speed = read_speed(options.json) if speed is None else speed
        threads = torch.get_num_threads()
        found = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads used",
            "epochs": options.epochs,
            "results": figures,
            "speed": speed,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(markdown_table(table_rows(figures)), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Arguments."""
    names = list(make_methods("set1"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--models", type=int, default=5, help="of each method (%(default)s)")
    parser.add_argument("--epochs", type=int, default=Budget().num_epochs, help="(%(default)s)")
    parser.add_argument("--points", type=int, default=2000, help="to train on (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the models (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--work-dir", type=Path, required=True, help="keeps what is trained")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--speed", action="store_true", help="time models alone and together, too")
    options = parser.parse_args()
    for name, least in (("models", 0), ("epochs", 1), ("points", 1), ("threads", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}, but got {getattr(options, name)}")
    for name in ("json", "figure", "markdown"):
        if getattr(options, name) is not None:
            check_writable(f"--{name}", getattr(options, name))
            getattr(options, name).parent.mkdir(parents=True, exist_ok=True)
    if options.json is not None:
        read_speed(options.json)
    check_writable("files of --work-dir", options.work_dir / "set1.npz")
    return options


def main() -> None:
    """Parse, train what is missing, write, print."""
    options, console = parse(), Console()
    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))
    runs = read_runs(options)
    with Progress(console=console) as bar:
        for name in options.methods:
            for problem in PROBLEMS:
                method = make_methods(problem)[name]
                if complete(options, problem, name, method, runs, bar):
                    write_figures(options, runs)
    speed = measure_speed() if options.speed else None
    write_figures(options, runs, speed)
    if options.figure is not None:
        title = "p(y | x), the square root of the density; at the right the divergence, nats"
        write_densities_picture(options.figure, panels_of(runs), title)
    table = Table(title="Divergence from the true density, nats")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in table_rows(figures_of(runs)):
        table.add_row(*row)
    console.print(table)
    for entry in speed or ():
        wall, cpu = entry["seconds_per_model"], entry["core_seconds_per_model"]
        console.print(
            f"{entry['way']:>24}, {entry['models']:2d}: {wall:6.1f} s a model, {cpu:6.1f} core s"
        )


if __name__ == "__main__":
    main()
