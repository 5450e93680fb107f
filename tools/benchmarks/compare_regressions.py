"""Compare box regressions and energies as second stages of one frozen detector.

python tools/benchmarks/compare_regressions.py --detector CHECKPOINT [--seeds 0 1 2]
    [--heads ebm gaussian ...] [--work-dir DIR] [--json FILE] [--markdown FILE] [--figure FILE]

Every head is trained on the same frames, noise and budget, one training a seed; those that are
already in the work folder are taken as they are. Settings of inference and temperatures are chosen
on frames of another simulation (``--selection-data``), figures are those of the validation split.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmengine import Config
from mmengine.runner import CheckpointLoader, Runner
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ebm3d.adapters.engine import load_settings
from ebm3d.adapters.engine.head_comparison import group_settings, train_heads
from ebm3d.adapters.engine.head_evaluation import (
    HeadRun,
    calibration_pairs,
    detect_frames,
    fit_run_temperature,
    kitti_figures,
    number_of_parameters,
    run_head,
)
from ebm3d.boxes.iou import iou_3d
from ebm3d.errors import input_error
from ebm3d.evaluation.calibration import report_calibration

HEADS = (
    "ebm", "confidence", "direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned",
)  # fmt: skip
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85)
ERRORS = ("along", "across", "vertical", "length", "width", "height", "yaw_mod_pi")
ITERATIONS = tuple({"num_iterations": n} for n in (1, 2, 3))
CHOICES: dict[str, tuple[dict[str, Any], ...]] = {
    "ebm": tuple({"refiner.step_size": s} for s in (0.05, 0.1, 0.2)),
    "confidence": tuple({"refiner.step_size": s} for s in (0.5, 2.0, 8.0)),
    "propel": tuple(
        {**iterations, "regression.point_estimate": point}
        for iterations in ITERATIONS
        for point in ("mean", "mode")
    ),
}
"""Settings of inference that are chosen among; of the others, the number of iterations."""
CURVES = ("reliability", "pit_histogram", "coverage")  # left out of the file: long
Key = tuple[str, int]


def config_of(head: str, detector: str, data: str) -> str:
    """Name of the config that trains a head alone."""
    if head == "ebm":
        return f"ebm_{detector}_{data}_cpu.py"
    return f"second_stage/{head}_{detector}_{data}_cpu.py"


def load_heads(args: argparse.Namespace, files: Mapping[Key, Path]) -> dict[Key, Any]:
    """Heads of every name and seed, with their trained parameters."""
    prefix, heads = "bbox_head.refinement_head.", {}
    for (name, seed), file in files.items():
        cfg = load_settings(config_of(name, args.detector_name, args.data))
        head = MODELS.build(cfg.model.bbox_head.refinement_head)
        state = CheckpointLoader.load_checkpoint(str(file), map_location="cpu")["state_dict"]
        own = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        head.load_state_dict(own)
        heads[name, seed] = head.eval()
    return heads


def build_runner(cfg: Config, checkpoint: Path, data_root: str | None) -> tuple[Any, Any, Config]:
    """Detector, test loader and settings of a data set."""
    options = {"data_root": data_root} if data_root else None
    settings = load_settings(cfg.filename, work_dir=cfg.work_dir, cfg_options=options)
    settings.load_from, settings.log_level = str(checkpoint), "WARNING"
    runner = Runner.from_cfg(settings)
    runner.load_or_resume()
    return runner.model.eval(), runner.build_dataloader(settings.test_dataloader), settings


def apply(head: Any, settings: Mapping[str, Any]) -> None:
    """Set dotted attributes of a head."""
    for name, value in settings.items():
        *owners, last = name.split(".")
        owner = head
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, value)


def mean_iou(run: HeadRun) -> float:
    """Mean 3D IoU of the pairs."""
    boxes, truths = (torch.cat(part).double().numpy() for part in (run.boxes, run.truths))
    return float(np.mean(iou_3d(boxes, truths, aligned=True)))


def choose(model: Any, loader: Any, heads: dict[Key, Any]) -> dict[str, Any]:
    """Best settings of each head by the mean IoU over all seeds, and what was tried."""
    runs: dict[tuple[str, int, int], HeadRun] = {}
    for frame in track(detect_frames(model, loader), "selection", total=len(loader)):
        for (name, seed), head in heads.items():
            for index, settings in enumerate(CHOICES.get(name, ITERATIONS)):
                apply(head, settings)
                run = runs.setdefault((name, seed, index), HeadRun())
                run_head(head, frame, run, with_density=False)
    chosen: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in heads):
        candidates = CHOICES.get(name, ITERATIONS)
        seeds = [seed for other, seed in heads if other == name]
        ious = [
            statistics.mean(mean_iou(runs[name, seed, index]) for seed in seeds)
            for index in range(len(candidates))
        ]
        best = candidates[ious.index(max(ious))]
        tried = [{**c, "mean_iou_3d": iou} for c, iou in zip(candidates, ious, strict=True)]
        chosen[name] = {"settings": best, "tried": tried, "temperature": {}}
        for seed in seeds:
            apply(heads[name, seed], best)
    again = {key: HeadRun() for key in heads}
    for frame in track(detect_frames(model, loader), "temperatures", total=len(loader)):
        for key, head in heads.items():
            run_head(head, frame, again[key])
    for (name, seed), run in again.items():
        chosen[name]["temperature"][seed] = fit_run_temperature(run)
    return chosen


def read_choice(path: Path, heads: dict[Key, Any]) -> dict[str, Any]:
    """Settings that another comparison chose; its temperatures belong to its heads."""
    entries = json.loads(path.read_text())["heads"]
    chosen = {}
    for name, seed in heads:
        settings = entries[name]["chosen"]["settings"]
        chosen[name] = {"settings": settings, "tried": [], "temperature": {}}
        apply(heads[name, seed], settings)
    return chosen


def figures_of(
    run: HeadRun, head: Any, temperature: list[float] | None, cfg: Config, meta: Any
) -> dict[str, Any]:
    """All figures of one head and seed."""
    tree = kitti_figures(run, cfg.test_evaluator, meta, THRESHOLDS)
    after, before = tree["after"]["Car"], tree["before"]["Car"]
    pairs = after["localization_same_pairs"]["hard"]
    figures: dict[str, Any] = {
        "ap_3d": {t: v["moderate"]["ap_r40"] for t, v in after["3d"].items()},
        "ap_bev": {t: v["moderate"]["ap_r40"] for t, v in after["bev"].items()},
        "ap_3d_before": {t: v["moderate"]["ap_r40"] for t, v in before["3d"].items()},
        "mean_iou_3d": pairs["mean_iou_3d"],
        "mean_iou_3d_before": before["localization_same_pairs"]["hard"]["mean_iou_3d"],
        "errors": {e: pairs["errors"][e]["mean_abs"] for e in ERRORS},
        "parameters": number_of_parameters(head),
        "seconds": statistics.median(run.seconds),
    }
    for name, factors in (("raw", None), ("scaled", temperature)):
        measured = None if name == "scaled" and factors is None else calibration_pairs(run, factors)
        if measured is not None:
            report = report_calibration(measured).as_dict()
            figures[name] = {k: v for k, v in report.items() if k not in CURVES}
    return figures


def evaluate(args: argparse.Namespace, files: Mapping[Key, Path]) -> dict[str, Any]:
    """Choose on one set of frames, measure on the other."""
    first = next(iter(files))
    cfg = load_settings(config_of(first[0], args.detector_name, args.data), work_dir=args.work_dir)
    heads = load_heads(args, files)
    if args.settings is None:
        model, loader, _ = build_runner(cfg, files[first], args.selection_data)
        chosen = choose(model, loader, heads)
    else:
        chosen = read_choice(args.settings, heads)
    model, loader, cfg = build_runner(cfg, files[first], None)
    runs: dict[Key, HeadRun] = {key: HeadRun() for key in heads}
    detector = []
    for frame in track(detect_frames(model, loader), "validation", total=len(loader)):
        detector.append(frame.seconds)
        for key, head in heads.items():
            run_head(head, frame, runs[key])
    meta = loader.dataset.metainfo
    result: dict[str, Any] = {"detector_seconds": statistics.median(detector), "heads": {}}
    for (name, seed), run in runs.items():
        entry = result["heads"].setdefault(name, {"chosen": chosen[name], "seeds": {}})
        factors = chosen[name]["temperature"].get(seed)
        entry["seeds"][seed] = figures_of(run, heads[name, seed], factors, cfg, meta)
    return result


def rows_of(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head of the table and one row a head: medians over the seeds, and their ranges."""
    head = ["head", *(f"AP {t:.2f}" for t in THRESHOLDS), "mean IoU", *ERRORS]
    head += ["NLL", "NLL scaled", "ECE", "ECE scaled", "energy score", "parameters", "ms a frame"]
    rows = []
    for name, entry in result["heads"].items():
        seeds = list(entry["seeds"].values())

        def cell(get: Any, digits: int, seeds: list[Any] = seeds) -> str:
            try:
                values = [get(s) for s in seeds]
            except KeyError:
                return "-"
            middle = f"{statistics.median(values):.{digits}f}"
            low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
            return middle if len(values) == 1 or low == high else f"{middle} ({low} to {high})"

        row = [name]
        row += [cell(lambda s, t=t: s["ap_3d"][f"{t:.2f}"], 1) for t in THRESHOLDS]
        row.append(cell(lambda s: s["mean_iou_3d"], 3))
        for error in ERRORS:
            unit = 57.29577951308232 if error.startswith("yaw") else 1.0
            row.append(cell(lambda s, e=error, u=unit: s["errors"][e] * u, 2 if unit > 1 else 3))
        row.append(cell(lambda s: s["raw"]["nll"]["mean"], 2))
        row.append(cell(lambda s: s["scaled"]["nll"]["mean"], 2))
        row.append(cell(lambda s: s["raw"]["ece"]["mean"], 3))
        row.append(cell(lambda s: s["scaled"]["ece"]["mean"], 3))
        row.append(cell(lambda s: s["raw"]["energy_score"], 3))
        row.append(f"{seeds[0]['parameters']:,}")
        row.append(cell(lambda s: s["seconds"] * 1e3, 0))
        rows.append(row)
    return head, rows


def markdown_of(head: list[str], rows: list[list[str]]) -> str:
    """Three tables narrow enough to read: accuracy, errors, densities and cost."""
    last_ap, last_error = 1 + len(THRESHOLDS), 2 + len(THRESHOLDS) + len(ERRORS)
    tables = []
    for part in (slice(1, last_ap + 1), slice(last_ap + 1, last_error), slice(last_error, None)):
        cells = [[row[0], *row[part]] for row in (head, *rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        tables.append("\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]))
    return "\n\n".join(tables) + "\n"


def draw(result: dict[str, Any], path: Path) -> None:
    """AP by threshold, and NLL and ECE after temperature scaling, as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    colors = plt.get_cmap("tab10")
    for index, (name, entry) in enumerate(result["heads"].items()):
        seeds = list(entry["seeds"].values())
        curve = [statistics.median(s["ap_3d"][f"{t:.2f}"] for s in seeds) for t in THRESHOLDS]
        left.plot(THRESHOLDS, curve, marker="o", ms=4, color=colors(index), label=name)
        known = [s["scaled"] for s in seeds if "scaled" in s]
        for s in known:
            right.scatter(s["nll"]["mean"], s["ece"]["mean"], color=colors(index), s=18)
        if known:
            middle = (
                statistics.median(s["nll"]["mean"] for s in known),
                statistics.median(s["ece"]["mean"] for s in known),
            )
            right.annotate(name, middle, xytext=(5, 4), textcoords="offset points", fontsize=9)
    before = next(iter(next(iter(result["heads"].values()))["seeds"].values()))["ap_3d_before"]
    left.plot(
        THRESHOLDS, [before[f"{t:.2f}"] for t in THRESHOLDS], "k--", lw=1, label="detector alone"
    )
    left.set(xlabel="3D IoU threshold", ylabel="3D AP R40, moderate (%)")
    left.legend(fontsize=8, frameon=False)
    right.set(xlabel="NLL after scaling (nats)", ylabel="ECE after scaling")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--detector", type=Path, required=True, help="checkpoint of the detector")
    parser.add_argument("--detector-name", choices=("second", "pointpillars"), default="second")
    parser.add_argument("--data", choices=("simulated", "kitti"), default="simulated")
    parser.add_argument(
        "--selection-data",
        default="data/simulated_design/",
        help="folder of tools/create_data.py on whose validation split settings of inference and "
        "temperatures are chosen; default: %(default)s",
    )
    parser.add_argument("--settings", type=Path, help="take those a comparison's --json chose")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/compare"),
        help="trained heads, seed<N>/<head>.pth; a folder each for other detectors and data; "
        "default: %(default)s",
    )
    parser.add_argument("--train-only", action="store_true", help="several processes may share")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--figure", type=Path)
    return parser.parse_args()


def check_args(args: argparse.Namespace) -> None:
    """Raise where a comparison would fail after hours, or compare what does not belong together.

    Args:
        args: of :func:`parse_args`.

    Raises:
        FileNotFoundError: if the detector's checkpoint, the selection data or the settings are
            missing.
        ValueError: if the work folder holds heads of another detector or data set, or a training
            of other heads that cannot be gone on with.
    """
    selection = Path(args.selection_data) / "kitti_infos_val.pkl"
    wanted = {"detector (a checkpoint of tools/train.py)": args.detector}
    if args.settings is not None:
        wanted["settings (a comparison's --json)"] = args.settings
    if not args.train_only:
        wanted["selection-data (a folder of tools/create_data.py)"] = selection
    for name, file in wanted.items():
        if not file.is_file():
            raise FileNotFoundError(f"{name}: there is no {file}")
    suffix = f"_{args.detector_name}_{args.data}_cpu.py"
    for seed in args.seeds:
        folder = args.work_dir / f"seed{seed}"
        # The host leaves the config of every training beside its checkpoints.
        configs = sorted(folder.glob("*.py"), key=lambda file: file.stat().st_mtime)
        for file in configs:
            if not file.name.endswith(suffix):
                expected = f"a folder of heads trained with configs *{suffix}"
                raise input_error("work-dir", expected, f"one with {file}", "give another")
        missing = [name for name in args.heads if not (folder / f"{name}.pth").is_file()]
        if missing and configs and (folder / "last_checkpoint").is_file():
            cfg = Config.fromfile(configs[-1], import_custom_modules=False)
            trained = list(cfg.model.bbox_head.refinement_head.heads)
            if trained != args.heads:
                expected = f"{' '.join(trained)}, whose training {folder} holds"
                remedy = f"train {' '.join(missing)} with another --work-dir"
                raise input_error("heads", expected, " ".join(args.heads), remedy)
    for file in (args.json, args.markdown, args.figure):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Train what is missing, evaluate, print and write."""
    args = parse_args()
    check_args(args)
    torch.set_num_threads(1)
    files: dict[Key, Path] = {}
    for seed in args.seeds:
        folder = args.work_dir / f"seed{seed}"
        found = {name: folder / f"{name}.pth" for name in args.heads}
        if not all(file.is_file() for file in found.values()):
            configs = {n: config_of(n, args.detector_name, args.data) for n in args.heads}
            cfg = group_settings(
                configs, folder, seed=seed, cfg_options={"load_from": str(args.detector)}
            )
            found = train_heads(cfg)
        files.update({(name, seed): file for name, file in found.items()})
    if args.train_only:
        return
    result = evaluate(args, dict(sorted(files.items(), key=lambda i: HEADS.index(i[0][0]))))
    head, rows = rows_of(result)
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console(width=320).print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.markdown is not None:
        args.markdown.write_text(markdown_of(head, rows))
    if args.figure is not None:
        draw(result, args.figure)


if __name__ == "__main__":
    main()
