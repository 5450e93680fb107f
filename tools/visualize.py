"""Draw one frame before and after refinement: ``python tools/visualize.py CONFIG CHECKPOINT ...``.

Writes, into the folder given by ``--out``, the frame from above (``FRAME_bev.png``), in perspective
(``FRAME_3d.png``), f around the box that refinement moved most (``FRAME_energy.png``), and points
and boxes for a 3D viewer (``FRAME.ply``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine import DictAction
from rich.console import Console

from ebm3d.adapters.inference import FrameInference
from ebm3d.adapters.pictures import write_pictures
from ebm3d.datasets import DataError, add_cloud_options, cloud_layout
from ebm3d.visualization import RenderingError, scene_of_frame, show_scene


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", help="config file, or the name of one that ebm3d ships")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--frame", required=True, metavar="ID|FILE", help="frame of the test data, or a cloud"
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/pictures"), help="%(default)s")
    parser.add_argument(
        "--min-score", type=float, default=0.3, help="detections below are left out"
    )
    parser.add_argument("--interactive", action="store_true", help="open a window too")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    add_cloud_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the model, draw, say what was written; 0 if all went well."""
    args = parse_args(arguments)
    console = Console(highlight=False)
    try:
        inference = FrameInference(
            args.config,
            args.checkpoint,
            cfg_options=args.cfg_options,
            cloud_layout=cloud_layout(args),
        )
        inferred = inference(args.frame)
    except (DataError, FileNotFoundError, ValueError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    pictures = write_pictures(inferred, args.out, min_score=args.min_score)
    for path in pictures.files:
        console.print(str(path), soft_wrap=True)
    for problem in pictures.problems:
        console.print(problem, style="yellow", soft_wrap=True)
    if args.interactive:
        try:
            scene = scene_of_frame(inferred.frame, min_score=args.min_score)
            show_scene(scene, f"Frame {inferred.frame.frame_id}")
        except RenderingError as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
