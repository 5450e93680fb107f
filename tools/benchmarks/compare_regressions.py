"""Compare box regressions, energies and ways to train energies as second stages of one detector.

python tools/benchmarks/compare_regressions.py --detector CHECKPOINT [--seeds 0 1 2]
    [--heads regressions | trainings | NAME ...] [--work-dir DIR] [--json FILE] [--markdown FILE]
    [--figure FILE]

Every head is trained on the same frames, noise and budget, one training a seed; where the work
folder holds all of them, they are taken as they are. Settings of inference and temperatures are
chosen on frames of another simulation (``--selection-data``), figures are those of the validation
split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from rich.console import Console
from rich.table import Table

from ebm3d.adapters.engine.head_comparison import group_settings, train_heads
from ebm3d.adapters.engine.head_report import draw_comparison, markdown_of, rows_of
from ebm3d.adapters.engine.head_selection import Contestant, Key, compare_heads
from ebm3d.errors import input_error

REGRESSIONS = ("direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")
TRAININGS = (
    "conditional_nce", "nce_plus", "ml_is", "kld_is", "ml_mcmc", "score_matching", "dsm", "snl",
    "learned_proposal", "hard_negatives",
)  # fmt: skip
GROUPS = {
    "regressions": ("ebm", "confidence", *REGRESSIONS),
    "trainings": ("ebm", *TRAININGS),
}
HEADS = ("ebm", "confidence", *REGRESSIONS, *TRAININGS)
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85)
ITERATIONS = tuple({"num_iterations": n} for n in (1, 2, 3))
STEPS = tuple({"refiner.step_size": s} for s in (0.03, 0.1, 0.3))
CHOICES: dict[str, tuple[dict[str, Any], ...]] = {
    **dict.fromkeys(REGRESSIONS, ITERATIONS),
    **dict.fromkeys(("ebm", *TRAININGS), STEPS),
    "confidence": tuple({"refiner.step_size": s} for s in (0.5, 2.0, 8.0)),
    "propel": tuple(
        {**iterations, "regression.point_estimate": point}
        for iterations in ITERATIONS
        for point in ("mean", "mode")
    ),
}
"""Settings of inference that are chosen among."""


def contestant(head: str, detector: str, data: str) -> Contestant:
    """Config of a head, and what is chosen of it."""
    name = f"{head}_{detector}_{data}_cpu.py"
    folder = "" if head == "ebm" else "training/" if head in TRAININGS else "second_stage/"
    return Contestant(folder + name, CHOICES[head])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--detector", type=Path, required=True, help="checkpoint of the detector")
    parser.add_argument("--detector-name", choices=("second", "pointpillars"), default="second")
    parser.add_argument("--data", choices=("simulated", "kitti"), default="simulated")
    parser.add_argument(
        "--selection-data",
        default="data/simulated_design/",
        help="folder of tools/create_data.py on whose validation split settings of inference and "
        "temperatures are chosen; default: %(default)s",
    )
    parser.add_argument("--settings", type=Path, help="take those a comparison's --json chose")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--heads",
        nargs="+",
        choices=(*GROUPS, *HEADS),
        default=["regressions"],
        metavar="HEAD",
        help=f"{' or '.join(GROUPS)} (all of them), or names of {', '.join(HEADS)}; "
        "default: regressions",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/compare"),
        help="trained heads, seed<N>/<head>.pth; a folder each for other detectors and data; "
        "default: %(default)s",
    )
    parser.add_argument("--train-only", action="store_true", help="several processes may share")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    named = [name for head in args.heads for name in GROUPS.get(head, (head,))]
    args.heads = [name for name in HEADS if name in named]
    return args


def check_args(args: argparse.Namespace) -> None:
    """Raise where a comparison would fail after hours, or compare what does not belong together.

    Args:
        args: of :func:`parse_args`.

    Raises:
        FileNotFoundError: if the detector's checkpoint, the selection data or the settings are
            missing.
        ValueError: if the work folder holds heads of another detector or data set, or a training
            of other heads that cannot be gone on with.
    """
    selection = Path(args.selection_data) / "kitti_infos_val.pkl"
    wanted = {"detector (a checkpoint of tools/train.py)": args.detector}
    if args.settings is not None:
        wanted["settings (a comparison's --json)"] = args.settings
    if not args.train_only:
        wanted["selection-data (a folder of tools/create_data.py)"] = selection
    for name, file in wanted.items():
        if not file.is_file():
            raise FileNotFoundError(f"{name}: there is no {file}")
    suffix = f"_{args.detector_name}_{args.data}_cpu.py"
    for seed in args.seeds:
        folder = args.work_dir / f"seed{seed}"
        # The host leaves the config of every training beside its checkpoints.
        configs = sorted(folder.glob("*.py"), key=lambda file: file.stat().st_mtime)
        for file in configs:
            if not file.name.endswith(suffix):
                expected = f"a folder of heads trained with configs *{suffix}"
                raise input_error("work-dir", expected, f"one with {file}", "give another")
        missing = [name for name in args.heads if not (folder / f"{name}.pth").is_file()]
        if missing and configs and (folder / "last_checkpoint").is_file():
            cfg = Config.fromfile(configs[-1], import_custom_modules=False)
            # The host sorts the names where it writes them.
            trained = sorted(cfg.model.bbox_head.refinement_head.get("heads", ()))
            if trained != sorted(args.heads):
                expected = f"{' '.join(trained) or 'one alone'}, whose training {folder} holds"
                remedy = f"train {' '.join(missing)} with another --work-dir"
                raise input_error("heads", expected, " ".join(args.heads), remedy)
    for file in (args.json, args.markdown, args.figure):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Train what is missing, evaluate, print and write."""
    args = parse_args()
    check_args(args)
    torch.set_num_threads(1)
    contestants = {n: contestant(n, args.detector_name, args.data) for n in args.heads}
    files: dict[Key, Path] = {}
    for seed in args.seeds:
        folder = args.work_dir / f"seed{seed}"
        found = {name: folder / f"{name}.pth" for name in args.heads}
        if not all(file.is_file() for file in found.values()):
            configs = {name: c.config for name, c in contestants.items()}
            cfg = group_settings(
                configs, folder, seed=seed, cfg_options={"load_from": str(args.detector)}
            )
            found = train_heads(cfg)
        files.update({(name, seed): file for name, file in found.items()})
    if args.train_only:
        return
    files = dict(sorted(files.items(), key=lambda item: HEADS.index(item[0][0])))
    selection = args.selection_data if args.settings is None else args.settings
    result = compare_heads(contestants, files, args.work_dir, selection, THRESHOLDS)
    rows = rows_of(result, THRESHOLDS)
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=320).print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown is not None:
        args.markdown.write_text(markdown_of(rows, len(THRESHOLDS)))
    if args.figure is not None:
        draw_comparison(result, THRESHOLDS, args.figure)


if __name__ == "__main__":
    main()
