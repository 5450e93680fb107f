"""Fit how score and energy become the probability that a refined box fits (docs/energies.md)."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from ebm3d.adapters.engine import OptionAction
from ebm3d.adapters.engine.fusion_fitting import fit_fusion


def main() -> None:
    """Parse, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config of a refined detector")
    parser.add_argument("checkpoint", help="its checkpoint")
    parser.add_argument("--out", required=True, metavar="CKPT", help="checkpoint with the fusion")
    parser.add_argument(
        "--features",
        nargs="+",
        default=["f_refined"],
        metavar="NAME",
        help="f_refined, log_density, uncertainty; default: f_refined",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="config overrides",
    )
    args = parser.parse_args()
    before, after = fit_fusion(
        args.config,
        args.checkpoint,
        args.out,
        features=args.features,
        cfg_options=args.cfg_options,
    )
    table = Table(title=f"Scores as probabilities, on the {before.num_boxes} boxes of the fit")
    for column in ("", "Brier", "ECE", "log loss"):
        table.add_column(column)
    for name, scores in (("before", before), ("after", after)):
        figures = (scores.brier, scores.ece, scores.log_loss)
        table.add_row(name, *(f"{value:.4f}" for value in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
