"""Draw frames before and after refinement: ``python tools/visualize.py CONFIG CHECKPOINT ...``.

Writes, into the folder given by ``--out``, each frame from above (``FRAME_bev.png``), in
perspective with two boxes before and after (``FRAME_3d.png``), f around the box that refinement
moved most (``FRAME_energy.png``), and points and boxes for a 3D viewer (``FRAME.ply``).
``--interactive`` opens a window in which keys go from frame to frame.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from rich.console import Console

from ebm3d.adapters.engine import OptionAction
from ebm3d.adapters.inference import FrameInference
from ebm3d.adapters.pictures import make_folder, write_pictures
from ebm3d.datasets import DataError, add_cloud_options, cloud_layout
from ebm3d.datasets.point_clouds import cloud_suffix
from ebm3d.errors import input_error
from ebm3d.visualization import (
    MIN_SCORE,
    FrameBrowser,
    RefinedFrame,
    fitting_min_score,
    show_frames,
)

_TRIED = 20  # frames of a split, for one with boxes
_KEPT_FRAMES = 8  # in memory while the window is open


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", help="config file, or the name of one that ebm3d ships")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--frame",
        nargs="+",
        metavar="ID|FILE",
        help="frames of the test data, or clouds; left out: the first frame with detections, "
        "and all frames in the window",
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/pictures"), help="%(default)s")
    parser.add_argument(
        "--min-score",
        type=_score,
        help=f"detections below are left out ({MIN_SCORE:g}, lowered where no frame reaches it)",
    )
    parser.add_argument("--interactive", action="store_true", help="open a window too")
    parser.add_argument("--cfg-options", nargs="+", action=OptionAction, metavar="KEY=VALUE")
    add_cloud_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the model, draw, say what was written; 0 if all went well."""
    args = parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        make_folder(args.out)
        inference = FrameInference(
            args.config,
            args.checkpoint,
            cfg_options=args.cfg_options,
            cloud_layout=cloud_layout(args),
        )
        load = lru_cache(_KEPT_FRAMES)(lambda source: inference(source).frame)
        _check_names(args.frame or [])
        drawn = args.frame or _first_with_boxes(inference.frame_ids(), load, args.min_score)
        min_score = args.min_score
        if min_score is None:
            scores = [load(source).scores for source in drawn]
            reached = any((values >= MIN_SCORE).any() for values in scores)
            min_score = MIN_SCORE if reached else fitting_min_score(scores)
            if min_score < MIN_SCORE:
                console.print(
                    f"No detection has a score of {MIN_SCORE:g} or more: those from "
                    f"{min_score:g} are shown (--min-score).",
                    style="yellow",
                )
        for source in drawn:
            pictures = write_pictures(inference(source), args.out, min_score=min_score)
            for path in pictures.files:
                console.print(str(path), markup=False)
            for problem in pictures.problems:
                console.print(problem, style="yellow", markup=False)
        if args.interactive:
            sources = args.frame or inference.frame_ids()
            show_frames(FrameBrowser(sources, load, min_score, sources.index(drawn[0])))
    except (DataError, FileNotFoundError, ValueError, RuntimeError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    return 0


def _first_with_boxes(
    ids: list[str], load: Callable[[str], RefinedFrame], min_score: float | None
) -> list[str]:
    """The first frame, of a few, with a detection of the score; else the first of all."""
    if not ids:
        remedy = "give --frame a cloud, or a data set with frames"
        raise input_error("test data of the config", "at least one frame", "none", remedy)
    least = MIN_SCORE if min_score is None else min_score
    return [next((i for i in ids[:_TRIED] if (load(i).scores >= least).any()), ids[0])]


def _check_names(sources: list[str]) -> None:
    """Raise a ``ValueError`` if pictures of two sources would have one name."""
    names = [Path(s).name.removesuffix(cloud_suffix(s) or "") for s in sources]
    if twice := [name for name, num in Counter(names).items() if num > 1]:
        remedy = "draw them one by one, each into another --out"
        raise input_error("--frame", "frames of different names", f"{twice[0]!r} twice", remedy)


def _score(text: str) -> float:
    """A score of the command line."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"expected a score from 0 to 1, but got {text}")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
