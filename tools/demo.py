"""The whole job from nothing: simulate, train, refine, evaluate, draw. ``make demo`` runs this.

Run again after an interruption, it goes on with the unfinished stage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.status import Status

# Threads that wait by spinning bring each other to a halt beside any other busy process. OpenMP
# reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_DETECTOR, _REFINED = "second_demo.py", "ebm_second_demo.py"
_CANDIDATES = 8  # frames tried for each that is drawn


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"), help="%(default)s")
    parser.add_argument("--train", type=int, default=128, help="training frames (%(default)s)")
    parser.add_argument("--val", type=int, default=80, help="validation frames (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of simulation and training")
    parser.add_argument("--pictures", type=int, default=3, help="frames to draw (%(default)s)")
    parser.add_argument("--detector", metavar="CKPT", help="start the detector from a checkpoint")
    parser.add_argument("--fresh", action="store_true", help="empty the folder first")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(arguments)
    for option in args.cfg_options:
        if "=" not in option:
            parser.error(f"--cfg-options must be KEY=VALUE, but got {option}")
    for name in ("train", "val"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, but got {getattr(args, name)}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run all stages; 0 if all went well."""
    args = parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    settings = {k: str(v) for k, v in vars(args).items() if k not in ("out", "fresh")}
    state_file = args.out / "stages.json"
    if args.fresh and state_file.is_file():
        shutil.rmtree(args.out)
    state = {"settings": settings, "seconds": {}}
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        before = _read_state(state_file)
        if before.get("settings") != settings:
            remedy = "--fresh to empty it, or another folder" if before else "another folder"
            console.print(
                f"--out: expected a new folder, or that of a demo with these settings, but got "
                f"{args.out}; give {remedy}.",
                style="red",
                markup=False,
            )
            return 1
        state = before
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        console.print(
            f"--out: expected a folder to write into, but got {args.out} ({error.strerror}); "
            "give another folder.",
            style="red",
            markup=False,
        )
        return 1
    _write_json(state_file, state)
    seconds: dict[str, float] = state["seconds"]
    console.print(f"ebm3d demo: everything goes to {args.out}, logs to demo.log there.")
    with (args.out / "demo.log").open("a") as log, console.status("Loading") as status:
        with redirect_stdout(log), redirect_stderr(log):
            steps = _stages(args)
        for number, (name, (title, output, run)) in enumerate(steps.items(), 1):
            status.update(f"{number}/{len(steps)} {title}")
            if name in seconds and (args.out / output).exists():
                console.print(f"{number}/{len(steps)} {title}: done before", markup=False)
            else:
                started = time.monotonic()
                sink: Any = _Log(log, status, f"{number}/{len(steps)} {title}")
                try:
                    with redirect_stdout(sink), redirect_stderr(sink):
                        run()
                except KeyboardInterrupt:
                    console.print("Stopped; run the same command again to go on from here.")
                    return 130
                except Exception as error:
                    traceback.print_exc(file=log)
                    console.print(f"{title}: {error}", style="red", markup=False)
                    console.print(f"The log has the details: {log.name}")
                    return 1
                seconds[name] = round(time.monotonic() - started, 1)
                _write_json(state_file, state)
                took = f"{seconds[name]:.0f} s"
                console.print(f"{number}/{len(steps)} {title}: {took}", markup=False)
    from ebm3d.adapters.engine import comparison_table

    figures = json.loads((args.out / "evaluation.json").read_text())
    summary = {"before": figures["before"], "after": figures["after"], "seconds": seconds}
    _write_json(args.out / "summary.json", summary)
    console.print(comparison_table(figures))
    console.print(f"All stages took {sum(seconds.values()):.0f} s.")
    for note in json.loads((args.out / "pictures.json").read_text()):
        console.print(note)
    console.print(f"Figures: {args.out / 'summary.json'}; pictures: {args.out / 'pictures'}")
    return 0


def _write_json(file: Path, tree: Any) -> None:
    """Write a JSON file, whole at any moment."""
    from ebm3d.datasets.atomic import write_atomically

    write_atomically(file, (json.dumps(tree, indent=2) + "\n").encode())


def _read_state(file: Path) -> dict[str, Any]:
    """Settings and finished stages of a demo; empty if the file is no such."""
    try:
        state: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return state


def _stages(args: argparse.Namespace) -> dict[str, tuple[str, str, Callable[[], Any]]]:
    """Title, output and function of the stages, in order; each calls what the tools call."""
    import numpy as np

    import ebm3d.register  # noqa: F401
    from ebm3d.adapters.checkpoints import newest_checkpoint
    from ebm3d.adapters.engine import evaluate, parse_value, train
    from ebm3d.adapters.inference import FrameInference
    from ebm3d.adapters.pictures import write_pictures
    from ebm3d.datasets import prepare_kitti, read_labels
    from ebm3d.simulation import write_dataset
    from ebm3d.visualization import most_convincing

    out, data, workers = args.out, args.out / "data", len(os.sched_getaffinity(0))
    pairs = (option.split("=", maxsplit=1) for option in args.cfg_options)
    options = {key: parse_value(value) for key, value in pairs}
    options = {"data_root": str(data), **options}

    def simulate() -> None:
        shutil.rmtree(data, ignore_errors=True)
        write_dataset(data, num_train=args.train, num_val=args.val, seed=args.seed, workers=workers)

    def train_from(config: str, folder: Path, start: str | None) -> None:
        train(
            config,
            work_dir=folder,
            resume="auto",
            seed=args.seed,
            cfg_options={**options, "load_from": start},
        )

    def latest(name: str) -> str:
        return str(newest_checkpoint(out / name))

    def draw() -> None:
        ids = (data / "ImageSets" / "val.txt").read_text().split()
        labels = [read_labels(data / "training" / "label_2" / f"{frame}.txt") for frame in ids]
        cars = [((o.names == "Car") & (o.occluded == 0) & (o.truncated == 0)).sum() for o in labels]
        inference = FrameInference(_REFINED, latest("ebm"), cfg_options=options)
        fullest = np.argsort(-np.array(cars), kind="stable")[: _CANDIDATES * args.pictures]
        frames = [inference(ids[row]).frame for row in fullest]
        rows, min_score = most_convincing(frames, args.pictures)
        for row in rows:
            written = write_pictures(
                inference(frames[row].frame_id), out / "pictures", min_score=min_score
            )
            print(*written.files, *written.problems, sep="\n")
        shown = [frames[row].above(min_score) for row in rows]
        notes = [frame.title for frame in shown]
        _write_json(out / "pictures.json", notes)

    def prepare() -> None:
        prepare_kitti(data, workers=workers)

    def train_detector() -> None:
        train_from(_DETECTOR, out / "detector", args.detector)

    def train_ebm() -> None:
        train_from(_REFINED, out / "ebm", latest("detector"))

    def evaluate_both() -> None:
        evaluate(
            _REFINED,
            latest("ebm"),
            work_dir=out / "test",
            json_file=out / "evaluation.json",
            cfg_options=options,
        )

    simulating = f"Simulating {args.train} + {args.val} frames of a 64-beam LiDAR"
    evaluating = "Evaluating before and after refinement"
    return {
        "simulate": (simulating, "data/ImageSets/val.txt", simulate),
        "prepare": (
            "Checking the data, collecting cars to paste",
            "data/kitti_infos_val.pkl",
            prepare,
        ),
        "train_detector": ("Training the detector (SECOND)", "detector", train_detector),
        "train_ebm": ("Training the EBM head on the frozen detector", "ebm", train_ebm),
        "evaluate": (evaluating, "evaluation.json", evaluate_both),
        "pictures": ("Drawing frames with several refined boxes", "pictures.json", draw),
    }


class _Log(TextIOBase):
    """Writes into the log, and shows how far a training is."""

    def __init__(self, file: TextIO, status: Status, title: str) -> None:
        self.file, self.status, self.title = file, status, title

    def write(self, text: str) -> int:
        if "Epoch(" in text:
            self.status.update(f"{self.title}: {text.rpartition('INFO - ')[2].strip()[:70]}")
        return self.file.write(text)

    def flush(self) -> None:
        self.file.flush()


if __name__ == "__main__":
    sys.exit(main())
