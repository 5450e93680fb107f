"""Train a detector or a head: ``python tools/train.py CONFIG [--head HEAD] [options]``."""

from __future__ import annotations

import argparse
import os

from rich.console import Console
from rich.table import Table

from ebm3d.adapters.engine import STAGES, OptionAction, train, variants


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", help="config file, or the name of a shipped one")
    parser.add_argument("--head", help="put a head on the config's detector (see --list)")
    parser.add_argument(
        "--stage", choices=STAGES, help="in place of the dense head, or behind the frozen detector"
    )
    parser.add_argument("--loss", help="training method of an energy (see --list)")
    parser.add_argument("--list", action="store_true", help="show configs, heads and losses")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|CKPT",
        help="go on from a checkpoint; alone or 'auto': from the newest one of the work folder",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 on a CPU)")
    parser.add_argument("--seed", type=int, help="seed in place of the config's")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="config overrides",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.config is None and not args.list:
        parser.error("the following arguments are required: config (or --list)")
    return args


def main() -> None:
    """Train, or list what can be trained."""
    args = parse_args()
    if args.list:
        for kind in ("config", "head", "loss"):
            table = Table(title=kind, title_justify="left")
            for column in ("name", "stages", "what it is"):
                table.add_column(column, overflow="fold", no_wrap=column == "name")
            for name, stages, summary in variants(kind):
                table.add_row(name, ", ".join(stages), summary)
            Console().print(table)
        return
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    train(
        args.config,
        head=args.head,
        stage=args.stage,
        loss=args.loss,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        seed=args.seed,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
    )


if __name__ == "__main__":
    main()
