"""The command ``ebm3d``: a module per sub-command, imported when it is chosen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["COMMANDS", "main"]

# What each does, and the word for what a failed one has not done.
COMMANDS = {
    "train-energy": (
        "train an energy: clouds and labels (or none, simulated) -> a file",
        "trained",
    ),
    "fit-trust": ("fit how far to trust an energy beside your detector", "fitted"),
    "fit-coverage": ("fit boxes that hold the true ones with a promised probability", "fitted"),
    "refine": ("refine the boxes of any detector: result files and clouds -> the same", "refined"),
    "audit-labels": ("find labels that are wrong, and propose corrections", "audited"),
    "evaluate": ("evaluate result files in KITTI's format against labels", "evaluated"),
    "evaluate-nuscenes": ("evaluate a result file of nuScenes", "evaluated"),
}
_DESCRIPTION = "Refine 3D boxes of any detector by an energy on point clouds."
_EPILOG = """\
In the first minute, with the energy that comes with ebm3d:
  ebm3d refine RESULTS CLOUDS --out REFINED
With labelled frames of your own:
  ebm3d train-energy LABELS CLOUDS --out energy.pt
  ebm3d fit-trust RESULTS LABELS CLOUDS --energy energy.pt --out trusted.pt
  ebm3d refine RESULTS CLOUDS --energy trusted.pt --out REFINED
`ebm3d COMMAND --help` says what goes in and what comes out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; 0 if all went well, 1 if the input is at fault, 130 if interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="ebm3d", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=style
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, _) in COMMANDS.items():
        sub_parser = commands.add_parser(name, help=text, formatter_class=style)
        if arguments and arguments[0] == name:
            module = import_module(f"{__name__}.{name.replace('-', '_')}")
            module.add_options(sub_parser)
            sub_parser.set_defaults(run=module.run, usage_error=sub_parser.error)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        sys.stderr.write(f"\nStopped. Nothing was {COMMANDS[options.command][1]}.\n")
        return 130
    except (OSError, ValueError) as error:
        from ebm3d.commands.console import ERRORS, show

        show(str(error), ERRORS, "red")
        if not isinstance(error, OSError):
            show(f"Nothing was {COMMANDS[options.command][1]}.", ERRORS)
        return 1
