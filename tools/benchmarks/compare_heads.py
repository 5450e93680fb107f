"""Train refinement heads on one frozen detector, evaluate each, and tabulate the medians.

python tools/benchmarks/compare_heads.py second_simulated_cpu.py --detector CHECKPOINT
    [--heads ebm ebm:dsm laplace ...] [--seeds 0 1 2] [--work-dir DIR] [--calibration-root DATA]
    [--uncertainty laplace] [--json FILE] [--markdown FILE] [--cfg-options KEY=VALUE ...]

A head is a name of ``configs/_base_/heads``, with a training method of ``configs/_base_/losses``
after a colon. Trainings and evaluations are those of tools/train.py and tools/test.py; what is in
the work folder is not done again. ``--cfg-options`` are of both. With ``--uncertainty`` energies
are evaluated with a density, too. ``--calibration-root`` is a data set like the config's, on whose
validation split temperatures are fitted first.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from _report import parser_of, print_table, write_json
from mmengine import DictAction

from ebm3d.adapters.checkpoints import newest_checkpoint
from ebm3d.adapters.engine import evaluate, train

HEADS = ("ebm", "confidence", "direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")
METHODS = (
    "conditional_nce", "nce_plus", "ml_is", "kld_is", "ml_mcmc", "score_matching", "dsm", "snl",
    "learned_proposal",
)  # fmt: skip
GROUPS = {"regressions": HEADS, "trainings": ("ebm", *(f"ebm:{loss}" for loss in METHODS))}
THRESHOLDS = ("0.50", "0.70", "0.75", "0.80")


def run(name: str, seed: int, args: Any) -> dict[str, Any]:
    """Train and evaluate a head, or read what was evaluated before."""
    head, _, loss = name.partition(":")
    options = dict(args.cfg_options or {})
    folder = args.work_dir / f"{name.replace(':', '_')}_seed{seed}"
    figures = folder / "figures.json"
    if figures.is_file():
        return json.loads(figures.read_text())
    train(
        args.config,
        head=head,
        stage="refinement",
        loss=loss or None,
        work_dir=folder,
        resume="auto",  # a killed training goes on, a finished one ends at once
        seed=seed,
        cfg_options={**options, "load_from": str(args.detector)},
    )
    config, checkpoint = next(folder.glob("*.py")), newest_checkpoint(folder)
    if head == "ebm" and args.uncertainty is not None:
        options["model.bbox_head.refinement_head.uncertainty"] = args.uncertainty
    has_density = head not in ("ebm", "confidence") or (head == "ebm" and args.uncertainty)
    calibration = {}
    if args.calibration_root is not None and has_density:
        calibration["temperature"] = folder / "temperature.json"
        evaluate(
            config,
            checkpoint,
            work_dir=folder,
            calibration={"fit_temperature": calibration["temperature"]},
            cfg_options={**options, "data_root": args.calibration_root},
        )
    return evaluate(
        config,
        checkpoint,
        work_dir=folder,
        json_file=figures,
        calibration=calibration,
        cfg_options=options,
    )


def row_of(tree: dict[str, Any], stage: str, name: str) -> dict[str, float | None]:
    """The figures of one run: AP R40 of moderate objects, pairs, densities where there are any."""
    figures = tree[stage][name]
    row = {
        f"AP {t}": figures["3d"].get(t, {}).get("moderate", {}).get("ap_r40") for t in THRESHOLDS
    }
    row["mean IoU"] = figures["localization_same_pairs"]["moderate"]["mean_iou_3d"]
    density = figures.get("calibration", {}).get("moderate", {})
    return {
        **row,
        "NLL": density.get("nll", {}).get("mean"),
        "ECE": density.get("ece", {}).get("mean"),
    }


def cell(values: list[float | None]) -> str:
    """Median, and range of more than one seed."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    digits = 1 if max(map(abs, known)) > 20 else 3
    ends = f" ({min(known):.{digits}f} to {max(known):.{digits}f})" if len(known) > 1 else ""
    return f"{median(known):.{digits}f}{ends}"


def main() -> None:
    """Train, evaluate, print, write."""
    parser = parser_of(__doc__)
    parser.add_argument("config", help="of the detector")
    parser.add_argument("--detector", type=Path, required=True, help="its checkpoint")
    parser.add_argument("--heads", nargs="+", default=["regressions"], metavar="HEAD[:LOSS]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--class", dest="name", default="Car")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/compare_heads"))
    parser.add_argument("--calibration-root", metavar="DATA")
    parser.add_argument("--uncertainty", choices=("laplace", "importance"), help="of energies")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    args = parser.parse_args()
    if not args.detector.is_file():
        parser.error(f"--detector must be a checkpoint, but there is no {args.detector}")
    rows: dict[str, list[dict[str, float | None]]] = {}
    for name in dict.fromkeys(h for head in args.heads for h in GROUPS.get(head, (head,))):
        trees = [run(name, seed, args) for seed in args.seeds]
        rows.setdefault("detector alone", [row_of(trees[0], "before", args.name)])
        rows[name] = [row_of(tree, "after", args.name) for tree in trees]
    columns = list(rows["detector alone"][0])
    cells = [(name, *(cell([r[c] for r in runs]) for c in columns)) for name, runs in rows.items()]
    print_table(f"{args.name}, 3D AP R40, moderate", ("head", *columns), cells)
    if args.markdown is not None:
        lines = [("head", *columns), ("---",) * (1 + len(columns)), *cells]
        args.markdown.write_text("".join("| " + " | ".join(line) + " |\n" for line in lines))
    write_json(args.json, rows)


if __name__ == "__main__":
    main()
