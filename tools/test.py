"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

from __future__ import annotations

import argparse
import os

from rich.console import Console

from ebm3d.adapters.engine import OptionAction, comparison_table, evaluate


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, or the name of one that ebm3d ships")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--work-dir", help="folder of the logs")
    parser.add_argument("--no-refine", action="store_true", help="evaluate the detector's boxes")
    parser.add_argument("--out", metavar="RESULTS_DIR", help="folder for result files")
    parser.add_argument("--json", metavar="FILE", help="file for all figures")
    parser.add_argument(
        "--calibration-figures", metavar="DIR", help="folder for pictures of predicted densities"
    )
    temperature = parser.add_mutually_exclusive_group()
    temperature.add_argument(
        "--fit-temperature",
        metavar="FILE",
        help="fit factors of the densities' spread on the tested split and write them",
    )
    temperature.add_argument(
        "--temperature", metavar="FILE", help="widen the densities by such factors first"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="config overrides",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Evaluate and print."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    calibration = {
        "figures": args.calibration_figures,
        "fit_temperature": args.fit_temperature,
        "temperature": args.temperature,
    }
    figures = evaluate(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        refine=not args.no_refine,
        results_dir=args.out,
        json_file=args.json,
        calibration={key: value for key, value in calibration.items() if value is not None},
        cfg_options=args.cfg_options,
        launcher=args.launcher,
    )
    if int(os.environ.get("RANK", "0")) == 0:
        Console().print(comparison_table(figures))


if __name__ == "__main__":
    main()
