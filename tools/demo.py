"""The main job from nothing: simulate, train, refine, evaluate, draw. ``make demo`` runs this.

Run again after an interruption, it goes on with the unfinished stage; after a change of code or
config, or with ``--fresh``, it starts anew.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from rich.console import Console
from rich.markup import escape

_OUT = Path("work_dirs/demo")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder of the results (%(default)s)"
    )
    parser.add_argument("--train", type=int, default=128, help="training frames (%(default)s)")
    parser.add_argument("--val", type=int, default=80, help="validation frames (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of simulation and training")
    parser.add_argument("--pictures", type=int, default=3, help="frames to draw (%(default)s)")
    parser.add_argument(
        "--detector", metavar="CKPT", help="start the detector from a checkpoint, not from nothing"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat finished stages too")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run all stages; 0 if all went well."""
    args = parse_args(arguments)
    console = Console(file=sys.__stdout__, highlight=False)
    console.print(f"[bold]ebm3d demo[/bold], everything goes to {escape(str(args.out))}")
    console.print("Loading MMDetection3D ...", style="dim")
    # Threads that wait by spinning bring each other to a halt beside any other busy process: a
    # step of 0.8 s then takes 10. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "demo.log").open("a") as log:
        with _into(log):
            import ebm3d.register  # noqa: F401
            from ebm3d.adapters import demo
            from ebm3d.adapters.engine import comparison_table
        settings = demo.DemoSettings(
            args.train,
            args.val,
            args.seed,
            args.pictures,
            args.detector,
            _options(args.cfg_options),
        )
        try:
            seconds = demo.open_folder(args.out, settings, fresh=args.fresh)
        except ValueError as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
        steps = demo.stages(args.out, settings)
        for number, stage in enumerate(steps, 1):
            console.rule(f"{number}/{len(steps)}  {stage.title}", align="left")
            if stage.name in seconds:
                console.print(f"done before, in {seconds[stage.name]:.0f} s", style="dim")
                continue
            started = time.monotonic()
            try:
                with _into(log if stage.has_log else None):
                    stage.run(lambda line: console.print(escape(line), soft_wrap=True))
            except KeyboardInterrupt:
                console.print("\nStopped; run the same command again to go on from here.")
                return 130
            except Exception:
                traceback.print_exc(file=log)
                console.print(traceback.format_exc(limit=-1), style="red", markup=False)
                console.print(f"All that was said before it is in {escape(log.name)}.")
                return 1
            seconds[stage.name] = time.monotonic() - started
            demo.record_stage(args.out, seconds)
            console.print(f"{seconds[stage.name]:.0f} s", style="dim")
        summary = demo.write_summary(args.out, seconds)
    console.rule("Result", align="left")
    console.print(comparison_table({k: summary[k] for k in ("before", "after")}))
    console.print(f"All stages took {sum(seconds.values()):.0f} s.")
    console.print(f"All figures: {escape(str(args.out / 'summary.json'))}", soft_wrap=True)
    console.print(f"Pictures: {escape(str(args.out / 'pictures'))}", soft_wrap=True)
    return 0


@contextmanager
def _into(log: object | None) -> Iterator[None]:
    """Send what is printed into the log, if there is one."""
    if log is None:
        yield
        return
    with redirect_stdout(log), redirect_stderr(log):  # type: ignore[type-var]
        yield


def _options(pairs: list[str]) -> tuple[tuple[str, object], ...]:
    """Parse ``KEY=VALUE`` as the other tools do."""
    from mmengine import DictAction

    split = (pair.split("=", maxsplit=1) for pair in pairs)
    return tuple((key, DictAction._parse_iterable(value)) for key, value in split)


if __name__ == "__main__":
    sys.exit(main())
