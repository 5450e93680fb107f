"""Fit the noise of a refinement head to the errors of a trained detector."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from ebm3d.adapters.engine import OptionAction
from ebm3d.adapters.engine.noise_fitting import fit_noise
from ebm3d.datasets.atomic import check_writable, write_atomically


def main() -> None:
    """Parse, call, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config of the detector")
    parser.add_argument("checkpoint", help="its checkpoint")
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--min-iou", type=float, default=0.3, help="of matched boxes, from above")
    parser.add_argument("--json", type=Path, help="write the standard deviations here")
    parser.add_argument("--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE")
    args = parser.parse_args()
    if args.json is not None:
        check_writable("--json", args.json)
    stds = fit_noise(
        args.config,
        args.checkpoint,
        split=args.split,
        min_iou=args.min_iou,
        cfg_options=args.cfg_options,
    )
    console = Console()
    columns = "along, across, up (m); length, width, height (log); yaw (rad)"
    if any(len(row) == 9 for row in stds.values()):
        columns += "; velocity along, across (m/s)"
    console.print(f"noise.stds: {columns}")
    for name, row in stds.items():
        console.print(f"{name}: {row}")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.json, (json.dumps(stds, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
