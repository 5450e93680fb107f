"""Train a detector or a refinement head: ``python tools/train.py CONFIG [options]``."""

from __future__ import annotations

import argparse
import os

from mmengine import DictAction

from ebm3d.adapters.engine import train


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, or the name of one that ebm3d ships")
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
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="config overrides"
    )
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    train(
        args.config,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        seed=args.seed,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
    )


if __name__ == "__main__":
    main()
