"""What is killed: commands on a set of six simulated frames and a detector of three epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import start

from ebm3d.datasets.atomic import new_folder
from ebm3d.simulation import write_dataset

EPOCHS = 3
_CONFIG = "ebm_second_simulated_cpu.py"
_OPTIONS = [
    *("--cfg-options", "data_root=data", "model.bbox_head.detector=joint"),
    *("point_cloud_range=[0,-6.4,-3,12.8,6.4,1]", "model.middle_encoder.sparse_shape=[21,128,128]"),
    *("train_dataloader.num_workers=0", "val_dataloader.num_workers=0"),
    *("test_dataloader.num_workers=0", "model.test_cfg.score_thr=0.0"),
]
_SCHEDULE = [f"train_cfg.max_epochs={EPOCHS}", f"param_scheduler.0.total_steps={EPOCHS}"]
_TRAIN = ["train.py", _CONFIG, "--work-dir", "out", "--resume", *_OPTIONS, *_SCHEDULE]
_MODEL = [_CONFIG, f"trained/epoch_{EPOCHS}.pth"]
_TEST = ["test.py", *_MODEL, "--work-dir", "logs"]
_SIMULATE = ["create_data.py", "simulated", "--out", "out", "--train", "3", "--val", "1"]
_PREPARE = ["create_data.py", "kitti", "--out", "out", "--workers", "1", "--root"]
_EVALUATE = ["evaluate_kitti.py", "data/training/label_2", "detections", "--iou", "0.5"]
_INFOS = [f"out/kitti_infos_{split}.pkl" for split in ("train", "val", "trainval")]
_DATABASE = ["out/kitti_dbinfos_train.pkl", "out/kitti_gt_database"]


@dataclass(frozen=True)
class Case:
    """A command, run in a folder beside ``data``, ``scans``, ``other_scans`` and ``trained``.

    Args:
        kind: preparation, training, evaluation or results.
        command: a script of ``tools/`` and its arguments.
        units: outputs that must be of one run, each a list of files and folders.
        before: run first; leaves other outputs of the same names.
        may_lack: whether outputs may be absent after a kill, so that nothing reads a mixture.
        weight: share of the kills of its kind.
    """

    kind: str
    command: Sequence[str]
    units: Sequence[Sequence[str]] = ()
    before: Sequence[str] = ()
    may_lack: bool = False
    weight: int = 1


CASES = {
    "simulated set": Case("preparation", [*_SIMULATE, "--workers", "1"], [["out"]], weight=3),
    "simulated set, 2 processes": Case("preparation", [*_SIMULATE, "--workers", "2"], [["out"]]),
    "KITTI layout, again": Case(
        "preparation",
        [*_PREPARE, "scans"],
        [[*_INFOS, *_DATABASE, "out/training/velodyne_reduced"]],
        before=[*_PREPARE, "other_scans"],
        may_lack=True,
        weight=4,
    ),
    "3 checkpoints": Case("training", _TRAIN),
    "1 checkpoint": Case("training", [*_TRAIN, "default_hooks.checkpoint.max_keep_ckpts=1"]),
    "figures": Case(
        "evaluation", [*_TEST, "--json", "out/figures.json", *_OPTIONS], [["out/figures.json"]]
    ),
    "figures of result files": Case(
        "evaluation",
        [*_EVALUATE, "--json", "out/figures.json", "--plots", "out"],
        [["out/figures.json"], ["out/precision_recall_car.png"]],
        before=[*_EVALUATE, "--json", "out/figures.json", "--classes", "Pedestrian"],
    ),
    "new result files": Case("results", [*_TEST, "--out", "out", *_OPTIONS], [["out"]]),
    "result files, again": Case(
        "results",
        [*_TEST, "--out", "out", *_OPTIONS],
        [["out"]],
        before=[*_TEST, "--out", "out", *_OPTIONS, "model.test_cfg.max_num=20"],
        weight=2,
    ),
    "fitted noise": Case(
        "results",
        ["fit_noise.py", *_MODEL, "--min-iou", "0.01", "--json", "out/noise.json", *_OPTIONS],
        [["out/noise.json"]],
    ),
}


class Failure(Exception):
    """A command that should have run well did not."""


def run_well(command: Sequence[str], folder: Path) -> tuple[float, int]:
    """Run a command that must end with 0; its seconds and writes."""
    done = start(command, folder)
    if done.status:
        raise Failure(f"{' '.join(command)} ended with {done.status}: {done.said}")
    return done.seconds, done.writes


def make_inputs(out: Path) -> Path:
    """Data and a trained detector in ``out / "inputs"``, once."""
    inputs = out / "inputs"
    if inputs.is_dir():
        return inputs
    with new_folder(inputs) as folder:
        run_well([*_SIMULATE[:2], "--out", "data", "--train", "4", "--val", "2"], folder)
        for seed, name in enumerate(("scans", "other_scans")):
            sizes = {"num_train": 3, "num_val": 1, "seed": seed, "workers": 1}
            write_dataset(folder / name, **sizes, field_of_view="full", progress=False)
        run_well(_TRAIN, folder)
        (folder / "out").rename(folder / "trained")
        (folder / "detections").mkdir()
        for file in (folder / "data" / "training" / "label_2").iterdir():
            lines = [line for line in file.read_text().splitlines() if "DontCare" not in line]
            text = "".join(f"{line} 0.{index % 10}5\n" for index, line in enumerate(lines))
            (folder / "detections" / file.name).write_text(text)
    return inputs
