"""Precision-recall pictures; matplotlib is imported where it is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebm3d.datasets.atomic import replacing
from ebm3d.evaluation.kitti_evaluation import KittiEvaluation, format_threshold
from ebm3d.evaluation.kitti_protocol import DIFFICULTIES, NUM_SAMPLES

_TITLES = {"bbox": "2D box", "bev": "BEV", "3d": "3D"}


def save_precision_recall(evaluation: KittiEvaluation, folder: str | Path) -> list[Path]:
    """Draw the precision at the 41 recall samples: a picture per class.

    Rows are difficulties, columns metrics, lines overlap thresholds. Files are
    ``precision_recall_<class>.png`` in ``folder``, which is made if absent.
    """
    from matplotlib.figure import Figure

    Path(folder).mkdir(parents=True, exist_ok=True)
    recall = np.arange(NUM_SAMPLES) / (NUM_SAMPLES - 1)
    legend = {"title": "IoU: AP R40", "fontsize": "small", "frameon": False}
    metrics = evaluation.metrics
    written = []
    for class_name in evaluation.num_detections:
        figure = Figure(figsize=(15, 11), layout="constrained")
        grid = figure.subplots(len(DIFFICULTIES), len(metrics), sharex=True, sharey=True)
        for row, difficulty in zip(grid, DIFFICULTIES, strict=True):
            for axes, metric in zip(row, metrics, strict=True):
                for threshold in evaluation.thresholds(class_name):
                    curve = evaluation.curves[class_name, metric, threshold, difficulty.name]
                    average = curve.average_precision("ap_r40")
                    label = f"{format_threshold(threshold)}: {average:.1f}"
                    axes.plot(recall, curve.precision, drawstyle="steps-pre", label=label)
                num = evaluation.num_labels[class_name, difficulty.name]
                axes.set_title(f"{class_name}, {_TITLES[metric]}, {difficulty.name} ({num} labels)")
                axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **legend)
                axes.grid(alpha=0.3)
        for axes in grid[-1]:
            axes.set_xlabel("recall")
        for axes in grid[:, 0]:
            axes.set_ylabel("precision")
        grid[0, 0].set(xlim=(0.0, 1.0), ylim=(0.0, 1.02))
        written.append(Path(folder) / f"precision_recall_{class_name.lower()}.png")
        with replacing(written[-1]) as partial:
            figure.savefig(partial, dpi=110)
    return written
