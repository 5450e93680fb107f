"""Compare ways to infer boxes from one energy: ascents, starts, means, scores and suppression.

python tools/benchmarks/compare_inference.py [--heads DIR] [--seeds 0 1 2] [--work-dir DIR]
    [--json FILE] [--markdown FILE]

Trained heads of ``tools/benchmarks/compare_regressions.py`` (``DIR/seed<N>/ebm.pth``) refine the
boxes of one detector under every setting. Weights of fused scores are fitted on frames of another
simulation (``--selection-data``), and so is the best setting chosen; figures are given of these
frames and of the validation split. Refined boxes are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ebm3d.adapters.engine.inference_report import compare_inference, markdown_of, rows_of
from ebm3d.datasets.atomic import check_writable

CONFIG = "ebm_second_simulated_cpu.py"
THRESHOLDS = (0.5, 0.7, 0.75, 0.8, 0.85)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default=CONFIG, help="of the heads; default: %(default)s")
    parser.add_argument(
        "--heads",
        type=Path,
        default=Path("work_dirs/compare"),
        help="folder of seed<N>/ebm.pth; default: %(default)s",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--selection-data",
        default="data/simulated_design/",
        help="folder of tools/create_data.py; default: %(default)s",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/inference"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def main() -> None:
    """Refine what is missing, evaluate, print and write."""
    args = parse_args()
    files = {seed: args.heads / f"seed{seed}" / "ebm.pth" for seed in args.seeds}
    selection = Path(args.selection_data) / "kitti_infos_val.pkl"
    for file in (*files.values(), selection):
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}: see --help")
    for name, file in (("--json", args.json), ("--markdown", args.markdown)):
        if file is not None:
            check_writable(name, file)
            file.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    result = compare_inference(
        args.config, files, args.work_dir, f"{args.selection_data.rstrip('/')}/", THRESHOLDS
    )
    for split in ("selection", "validation"):
        rows = rows_of(result, split, THRESHOLDS)
        table = Table(*rows[0], title=split)
        for row in rows[1:]:
            table.add_row(*row)
        Console(width=240).print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown is not None:
        args.markdown.write_text(markdown_of(result, THRESHOLDS))


if __name__ == "__main__":
    main()
