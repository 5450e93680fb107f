"""Prepare data sets for training: check every file, write infos, clouds, ground-truth database."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ebm3d.datasets import (
    DataError,
    PreparationReport,
    Problem,
    add_cloud_options,
    cloud_layout,
    prepare_kitti,
)
from ebm3d.datasets.atomic import new_folder
from ebm3d.datasets.label_table import ClassSummary
from ebm3d.datasets.lidar_labels import ORIGINS
from ebm3d.datasets.nuscenes import NuScenesPreparationReport, prepare_nuscenes
from ebm3d.simulation import SENSORS, write_dataset
from ebm3d.simulation.drives import VERSION, write_drives

_ERRORS = Console(stderr=True)
_MAX_SHOWN = 20  # defects of one kind
_COLUMNS = ("labels", "database", "points", "empty", "l w h", "rotation_y", "easy/mod/hard/none")
_CAPTION = "database: training objects; points, l w h (m): medians; empty: without points"


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 if all went well, 1 if the data is at fault."""
    options = _parse(arguments)
    report: PreparationReport | NuScenesPreparationReport
    try:
        if options.command == "simulated":
            report = _simulate(options)
        elif options.command == "nuscenes":
            report = prepare_nuscenes(
                options.root,
                version=options.version,
                out=options.out,
                splits=options.splits,
                max_sweeps=options.max_sweeps,
                workers=options.workers,
                progress=True,
            )
        else:
            report = prepare_kitti(
                options.root,
                out=options.out,
                workers=options.workers,
                progress=True,
                calibration=not options.no_calibration,
                box_origin=options.box_origin or "center",
                unchecked_labels=options.unchecked_labels,
                cloud_layout=cloud_layout(options),
            )
    except DataError as error:
        _show_problems(error)
        return 1
    except (OSError, ValueError) as error:
        _ERRORS.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True, highlight=False)
        return 1
    _show_report(report)
    return 0


def _simulate(options: argparse.Namespace) -> PreparationReport | NuScenesPreparationReport:
    """Write simulated data and prepare it; an interrupted run leaves nothing."""
    counts = {"num_train": options.train, "num_val": options.val, "seed": options.seed}
    workers = options.workers
    with new_folder(options.out) as folder:
        if options.layout == "nuscenes":
            write_drives(folder, **counts, workers=workers)
            report = prepare_nuscenes(folder, version=VERSION, workers=workers, progress=True)
        else:
            write_dataset(folder, **counts, workers=workers, sensor=options.sensor or "64-beam")
            report = prepare_kitti(folder, workers=workers, progress=True)
    return replace(report, out=options.out)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kitti = commands.add_parser("kitti", help="the KITTI object set, or any set in its layout")
    kitti.add_argument("--root", type=Path, required=True, help="folder with ImageSets/, training/")
    kitti.add_argument("--out", type=Path, help="folder of the outputs (default: the root)")
    kitti.add_argument(
        "--no-calibration",
        action="store_true",
        help="no cameras: labels in the LiDAR frame, lines 'x y z dx dy dz yaw class'",
    )
    kitti.add_argument(
        "--box-origin", choices=ORIGINS, help="of such labels, where z is (default: center)"
    )
    kitti.add_argument(
        "--unchecked-labels",
        action="store_true",
        help="take labels that do not fit the clouds: warnings in place of errors",
    )
    add_cloud_options(kitti)
    nuscenes = commands.add_parser("nuscenes", help="nuScenes, or any set in its layout")
    nuscenes.add_argument("--root", type=Path, required=True, help="folder with VERSION, samples/")
    nuscenes.add_argument("--version", required=True, help="folder of the tables: v1.0-mini, ...")
    nuscenes.add_argument("--out", type=Path, help="folder of the outputs (default: the root)")
    nuscenes.add_argument(
        "--splits", type=Path, help='JSON file of splits: {"my_train": ["scene-0001", ...], ...}'
    )
    nuscenes.add_argument(
        "--max-sweeps", type=int, default=10, help="before a key frame (default: %(default)s)"
    )
    simulated = commands.add_parser("simulated", help="make simulated LiDAR frames, prepare them")
    simulated.add_argument("--out", type=Path, required=True, help="folder to write to")
    simulated.add_argument("--train", type=int, default=400, help="number of training frames")
    simulated.add_argument("--val", type=int, default=200, help="number of validation frames")
    simulated.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    simulated.add_argument(
        "--layout",
        choices=("kitti", "nuscenes"),
        default="kitti",
        help="nuscenes: drives with sweeps, ten classes; frames are key frames, ten to a drive",
    )
    simulated.add_argument(
        "--sensor", choices=tuple(SENSORS), help="of the layout of KITTI (default: 64-beam)"
    )
    for command in (kitti, nuscenes, simulated):
        workers = len(os.sched_getaffinity(0))
        help_text = "number of processes (default: the cores there are, %(default)s)"
        command.add_argument("--workers", type=int, default=workers, help=help_text)
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, but got {options.workers}")
    if options.command == "simulated" and options.layout == "nuscenes" and options.sensor:
        parser.error("--sensor belongs to --layout kitti: nuScenes has 32 beams")
    if options.command == "kitti" and options.box_origin and not options.no_calibration:
        parser.error("--box-origin belongs to --no-calibration: KITTI's labels have their own")
    return options


def _show_problems(error: DataError) -> None:
    """List the first defects of each kind, count all, and say that nothing was written."""
    shown: Counter[tuple[Path, str]] = Counter()
    for problem in error.problems:
        kind = problem.file.parent, problem.expected
        shown[kind] += 1
        if shown[kind] <= _MAX_SHOWN:
            _show_problem(problem, "red")
    for (folder, expected), number in shown.items():
        if number > _MAX_SHOWN:
            more = f"{number - _MAX_SHOWN:,} more in {folder}: expected {expected}"
            _ERRORS.print(escape(more), soft_wrap=True, highlight=False)
    files = len({problem.file for problem in error.problems})
    _ERRORS.print(
        f"[red]{len(error.problems):,} defects in {files:,} files; no output was written.[/red]"
    )


def _show_problem(problem: Problem, color: str) -> None:
    """Print one defect."""
    _ERRORS.print(
        f"[bold]{escape(problem.place)}[/bold]\n"
        f"  expected  {escape(problem.expected)}\n"
        f"  got       [{color}]{escape(problem.got)}[/{color}]\n"
        f"  remedy    {escape(problem.remedy)}",
        soft_wrap=True,
        highlight=False,
    )


def _show_report(report: PreparationReport | NuScenesPreparationReport) -> None:
    """Print what there is now."""
    console = Console(width=max(Console().width, 110))  # no figure is cut off
    if isinstance(report, NuScenesPreparationReport):
        console.print(report.table())
        console.print(report.summary(), highlight=False)
    else:
        _show_kitti(console, report)
    for problem in report.warnings:
        _show_problem(problem, "yellow")


def _show_kitti(console: Console, report: PreparationReport) -> None:
    """Print figures by class, and numbers of frames."""
    table = Table("class", title=f"{report.out}", title_justify="left", caption=_CAPTION)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for name, count in report.num_objects.items():
        figures = [f"{count:,}", f"{report.num_database_objects.get(name, 0):,}"]
        if name in report.classes:
            figures += _figures(report.classes[name])
        table.add_row(name, *figures)
    console.print(table)
    frames = report.num_frames
    clouds = "full scans, cut to the camera's view" if report.reduced else "camera view already"
    images = f"{report.num_default_sizes:,} without an image (size 1242 x 375 assumed)"
    if report.lidar_only:
        clouds, images = "all points", "no cameras: labels in the LiDAR frame"
    console.print(
        f"{frames['train']:,} training and {frames['val']:,} validation frames, "
        f"{report.num_empty_frames:,} of them without objects; clouds: {clouds}; {images}\n"
        f"{report.seconds:.1f} s, {sum(frames.values()) / report.seconds:,.0f} frames/s",
        highlight=False,
    )


def _figures(summary: ClassSummary) -> list[str]:
    """Cells of a class from the third column on."""
    length, width, height = summary.size
    return [
        f"{summary.num_points:,.0f}",
        f"{summary.num_empty / summary.number:.0%}",
        f"{length:.2f} {width:.2f} {height:.2f}",
        f"{summary.angles[0]:.2f} to {summary.angles[1]:.2f}",
        "/".join(map(str, summary.difficulties)),
    ]


if __name__ == "__main__":
    sys.exit(main())
