"""The whole job in one go: simulate, train a detector, train the EBM head, evaluate, draw.

Each stage calls what the tools call. A stage that finished is not repeated by the next run, and a
training that was stopped goes on from its last epoch, as long as code, configs and settings are the
same; otherwise the folder is emptied and everything starts anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.runner import find_latest_checkpoint

from ebm3d.adapters.engine import evaluate, train
from ebm3d.adapters.inference import FrameInference
from ebm3d.adapters.pictures import write_pictures
from ebm3d.datasets import prepare_kitti, read_labels
from ebm3d.errors import input_error
from ebm3d.paths import config_path
from ebm3d.simulation import write_dataset

DETECTOR_CONFIG, EBM_CONFIG = "second_demo.py", "ebm_second_demo.py"
_STATE = "stages.json"
# Made by a demonstration, and removed when it starts anew; nothing else in its folder is touched.
_CONTENTS = (
    "data",
    "detector",
    "ebm",
    "test",
    "pictures",
    "evaluation.json",
    "summary.json",
    _STATE,
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoSettings:
    """What is asked of a demonstration.

    Attributes:
        num_train: simulated frames to train on.
        num_val: simulated frames to evaluate on.
        seed: of the simulation and of both trainings.
        num_pictures: frames drawn, those of the validation split with the most cars in full view.
        detector: checkpoint from which the training of the detector starts, or None for random
            weights.
        cfg_options: values by dotted key that are laid over both configs.
    """

    num_train: int = 128
    num_val: int = 80
    seed: int = 0
    num_pictures: int = 3
    detector: str | None = None
    cfg_options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the demonstration.

    Attributes:
        name: key of its seconds in the summary.
        title: what it does, for the reader.
        run: does it; is given a function that tells the reader something.
        has_log: whether what it prints belongs into a log file, because it shows its progress
            by itself.
    """

    name: str
    title: str
    run: Callable[[Say], None]
    has_log: bool = True


def stages(out: Path, settings: DemoSettings) -> tuple[Stage, ...]:
    """Return the steps of a demonstration, in order.

    Args:
        out: its folder.
        settings: sizes, seed, checkpoint.

    Returns:
        The steps; each relies on the files of those before it.
    """
    data, workers = out / "data", len(os.sched_getaffinity(0))
    options = {"data_root": str(data), **dict(settings.cfg_options)}

    def simulate(_: Say) -> None:
        shutil.rmtree(data, ignore_errors=True)
        write_dataset(
            data,
            num_train=settings.num_train,
            num_val=settings.num_val,
            seed=settings.seed,
            workers=workers,
        )

    def prepare(_: Say) -> None:
        prepare_kitti(data, workers=workers, progress=True)

    def train_detector(_: Say) -> None:
        _train(DETECTOR_CONFIG, out / "detector", settings, options, settings.detector)

    def train_head(_: Say) -> None:
        _train(EBM_CONFIG, out / "ebm", settings, options, _checkpoint(out / "detector"))

    def test(_: Say) -> None:
        evaluate(
            EBM_CONFIG,
            _checkpoint(out / "ebm"),
            work_dir=out / "test",
            json_file=out / "evaluation.json",
            cfg_options=options,
        )

    def draw(say: Say) -> None:
        inference = FrameInference(EBM_CONFIG, _checkpoint(out / "ebm"), cfg_options=options)
        for frame_id in fullest_frames(data, settings.num_pictures):
            written = write_pictures(inference(frame_id), out / "pictures")
            for line in (*map(str, written.files), *written.problems):
                say(line)

    frames = f"{settings.num_train} + {settings.num_val} frames"
    return (
        Stage("simulate", f"Simulating {frames} of a 64-beam LiDAR", simulate, has_log=False),
        Stage("prepare", "Checking the data, collecting cars to paste", prepare, has_log=False),
        Stage("train_detector", "Training the detector (SECOND)", train_detector),
        Stage("train_ebm", "Training the EBM head on the frozen detector", train_head),
        Stage("evaluate", "Evaluating before and after refinement", test),
        Stage("pictures", "Drawing the fullest frames", draw),
    )


def open_folder(out: Path, settings: DemoSettings, *, fresh: bool = False) -> dict[str, float]:
    """Make the folder ready, and tell which stages need not be repeated.

    Args:
        out: folder of the demonstration, made if absent. Other files in it are left alone.
        settings: what is asked of it.
        fresh: start anew in any case.

    Returns:
        Seconds of each finished stage, by name; empty if everything starts anew.

    Raises:
        ValueError: if the folder holds files that no demonstration made and that would be removed.
    """
    fingerprint = _fingerprint(settings)
    state = _read(out / _STATE)
    if fresh or state.get("fingerprint") != fingerprint:
        strangers = [name for name in _CONTENTS if (out / name).exists()]
        if strangers and not (out / _STATE).is_file():
            raise input_error(
                "out",
                "a new or empty folder, or one of an earlier demonstration",
                f"{out}, which holds {', '.join(strangers)} of something else",
                "give another folder",
            )
        for name in _CONTENTS:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        state = {"fingerprint": fingerprint, "seconds": {}}
        out.mkdir(parents=True, exist_ok=True)
        (out / _STATE).write_text(json.dumps(state))
    seconds: dict[str, float] = state["seconds"]
    return seconds


def record_stage(out: Path, seconds: dict[str, float]) -> None:
    """Write down the seconds of the stages finished so far."""
    state = {**_read(out / _STATE), "seconds": seconds}
    partial = out / f".{_STATE}.partial"
    partial.write_text(json.dumps(state))
    partial.replace(out / _STATE)


def write_summary(out: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """Write ``summary.json``: all figures before and after, and seconds per stage.

    Args:
        out: folder of the demonstration.
        seconds: of each stage, by name.

    Returns:
        ``{"before": {...}, "after": {...}, "seconds": {...}}``, the first two in the layout of
        ``tools/test.py --json``.
    """
    figures = _read(out / "evaluation.json")
    summary = {
        "before": figures["before"],
        "after": figures["after"],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def fullest_frames(data: Path, count: int) -> list[str]:
    """Return the frames of the validation split with the most cars in full view.

    Args:
        data: folder of a data set in the KITTI layout.
        count: how many frames at most.

    Returns:
        Frame ids, the fullest first; of frames with as many cars the earlier one comes first.
    """
    ids = (data / "ImageSets" / "val.txt").read_text().split()
    objects = [read_labels(data / "training" / "label_2" / f"{frame}.txt") for frame in ids]
    cars = [((o.names == "Car") & (o.occluded == 0) & (o.truncated == 0)).sum() for o in objects]
    order = np.argsort(-np.array(cars), kind="stable")
    return [ids[i] for i in order[:count]]


def _train(
    config: str,
    work_dir: Path,
    settings: DemoSettings,
    options: dict[str, Any],
    start: str | None,
) -> None:
    """Train, going on from the newest checkpoint of ``work_dir`` if there is one."""
    stopped = find_latest_checkpoint(str(work_dir)) if work_dir.is_dir() else None
    train(
        config,
        work_dir=work_dir,
        resume=stopped,
        seed=settings.seed,
        cfg_options={**options, "load_from": start},
    )


def _checkpoint(work_dir: Path) -> str:
    """The newest checkpoint of a finished training."""
    return str(find_latest_checkpoint(str(work_dir)))


def _fingerprint(settings: DemoSettings) -> str:
    """Changes whenever a file of the package, a config, the checkpoint or a setting does."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True, default=str).encode())
    package, configs = Path(__file__).parents[1], Path(config_path(EBM_CONFIG)).parent
    files = [*package.rglob("*.py"), *configs.rglob("*.py"), *package.rglob("*.json")]
    if settings.detector is not None:
        files.append(Path(settings.detector))
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, empty if absent or cut off."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return content
