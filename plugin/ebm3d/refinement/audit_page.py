"""What is left of an audit: a table, corrected labels, and a page of pictures.

``labels.csv`` holds every label, the least likely first; ``corrected`` the labels in the format
they came in; ``index.html`` pictures of the least likely ones.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes.corners import corners_3d
from ebm3d.boxes.local import local_offsets
from ebm3d.datasets.atomic import new_folder, write_into_set
from ebm3d.datasets.results import FrameChanges, LabelledFrames
from ebm3d.errors import check_count
from ebm3d.refinement.audit import FloatArray, LabelAudit
from ebm3d.visualization.frame import INITIAL, REFINED, BoxStyle

TABLE, CORRECTED, PAGE = "labels.csv", "corrected", "index.html"
_PICTURES = "pictures"
_COLUMNS = ("x", "y", "z", "length", "width", "height", "yaw")
_AXES = ("along", "across", "up", "length", "width", "height", "yaw")
_STYLES = (replace(INITIAL, label="label"), replace(REFINED, label="proposal"))
_MARGIN = 0.9  # meters around both boxes
_MAX_POINTS = 4000
_BOTTOM = [0, 1, 2, 3, 0]  # corners around a box
_HEAD = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Label audit</title>
<style>
body { font: 15px/1.4 sans-serif; margin: 1.5em auto; max-width: 75em; color: #222 }
section { display: flex; gap: 1.5em; border-top: 1px solid #ccc; padding: .8em 0; flex-wrap: wrap }
table { border-collapse: collapse } td, th { padding: 0 .6em; text-align: right }
</style>
"""


def write_audit(
    out: str | Path,
    frames: LabelledFrames,
    audit: LabelAudit,
    threshold: float,
    num_pictures: int = 20,
) -> list[Path]:
    """Write table, corrected labels and page to a new folder, whole or not at all.

    Args:
        out: new or empty.
        frames: that were judged; their files are left as they are.
        audit: of all their labels.
        threshold: labels at least so unlikely are replaced by their proposals, in the copy.
        num_pictures: of the least likely labels.

    Returns:
        Table, page and the files of the corrected labels.

    Raises:
        ValueError: if ``out`` has files.
    """
    check_count("num_pictures", num_pictures, least=0)
    out = Path(out)
    corrected = corrected_labels(audit, threshold)
    order = audit.order()
    order = order[audit.is_judged[order]][:num_pictures]
    with new_folder(out) as folder:
        write_into_set(folder / TABLE, _table(audit, corrected).encode())
        files = frames.labels.write(folder / CORRECTED, _changes(frames, audit, corrected))
        _write_page(folder, frames, audit, order, corrected, threshold)
        names = [file.relative_to(folder) for file in files]
    return [out / TABLE, out / PAGE, *(out / name for name in names)]


def corrected_labels(audit: LabelAudit, threshold: float) -> NDArray[np.bool_]:
    """Which labels are at least so unlikely, ``(N,)``."""
    return np.asarray(np.nan_to_num(audit.unlikeliness, nan=-np.inf) >= threshold)


def differences(audit: LabelAudit) -> FloatArray:
    """By how much proposals differ from labels ``(N, 7)``: along, across, up, sizes (m), yaw."""
    labels, proposals = torch.from_numpy(audit.labels), torch.from_numpy(audit.proposals)
    return local_offsets(labels, proposals).numpy()


def _changes(
    frames: LabelledFrames, audit: LabelAudit, corrected: NDArray[np.bool_]
) -> dict[str, FrameChanges]:
    """Frames with corrected labels."""
    changes = {}
    for frame in frames.labels.frames:
        rows = np.flatnonzero(audit.frame_ids == frame.frame_id)
        if corrected[rows].any():
            boxes = frame.boxes.copy()
            boxes[:, :7] = audit.proposals[rows]
            changes[frame.frame_id] = FrameChanges(boxes, corrected[rows])
    return changes


def _table(audit: LabelAudit, corrected: NDArray[np.bool_]) -> str:
    """All labels as CSV, the least likely first."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    boxes = [f"{kind}_{name}" for kind in ("label", "proposal", "std") for name in _COLUMNS]
    moves = [f"difference_{name}" for name in _AXES]
    head = (
        "frame",
        "row",
        "class",
        "unlikeliness",
        "corrected",
        "points",
        "distance",
        "not_judged",
    )
    writer.writerow([*head, *boxes, *moves])
    distance = np.hypot(*audit.labels[:, :2].T)
    values = np.hstack((audit.labels, audit.proposals, audit.std, differences(audit)))
    for i in audit.order():
        start = [audit.frame_ids[i], audit.rows[i], audit.names[i], _number(audit.unlikeliness[i])]
        start += [int(corrected[i]), audit.num_points[i], f"{distance[i]:.1f}", audit.reason(i)]
        writer.writerow([*start, *map(_number, values[i])])
    return stream.getvalue()


def _number(value: float) -> str:
    """Four decimals; nothing where it is unknown."""
    return f"{value:.4f}" if np.isfinite(value) else ""


def _write_page(
    folder: Path,
    frames: LabelledFrames,
    audit: LabelAudit,
    shown: NDArray[np.int64],
    corrected: NDArray[np.bool_],
    threshold: float,
) -> None:
    """Pictures of some labels, and the page that holds them."""
    (folder / _PICTURES).mkdir()
    number = {frame.frame_id: i for i, frame in enumerate(frames.labels.frames)}
    moved, parts = differences(audit), [_HEAD, "<h1>Label audit</h1>\n<p>", _summary(audit)]
    parts.append(f" {corrected.sum()} of {threshold:g} or more are replaced by their proposals in ")
    parts.append(
        f'<a href="{CORRECTED}">{CORRECTED}</a>; all are in <a href="{TABLE}">{TABLE}</a>.'
    )
    parts.append(" Orange, dashed: label; blue: proposal; the stroke points ahead.</p>\n")
    for place, i in enumerate(shown.tolist(), start=1):
        picture = f"{_PICTURES}/{place:04d}.png"
        _, points = frames[number[audit.frame_ids[i]]]
        figure = label_figure(points, audit.labels[i], audit.proposals[i])
        figure.savefig(folder / picture, dpi=90)
        title = f"{place}. {audit.names[i]}, frame {audit.frame_ids[i]}, row {audit.rows[i]}"
        distance = np.hypot(*audit.labels[i, :2])
        facts = f"unlikeliness {audit.unlikeliness[i]:.1f}; {audit.num_points[i]} points; "
        facts += f"{distance:.0f} m away{'; replaced' if corrected[i] else ''}"
        parts.append(f'<section><img src="{picture}" alt="{html.escape(title)}">\n')
        parts.append(f"<div><b>{html.escape(title)}</b><br>{facts}\n")
        parts.append(_numbers(audit, i, moved[i]) + "</div></section>\n")
    write_into_set(folder / PAGE, "".join([*parts, "</html>\n"]).encode())


def _summary(audit: LabelAudit) -> str:
    """Numbers of labels, and what was systematic."""
    judged = int(audit.is_judged.sum())
    text = f"{len(audit)} labels, of which {len(audit) - judged} are not judged (fewer than "
    text += f"{audit.min_points} points, or of a class that the energy does not know)."
    for name, shift in audit.shifts.items():
        if shift.any():
            up = ", ".join(f"{axis} {value:+.3f}" for axis, value in zip(_AXES, shift, strict=True))
            text += f" Of all labels of {html.escape(name)} against the energy, subtracted: {up} "
            text += "(m; sizes as log ratios; rad)."
    return text


def _numbers(audit: LabelAudit, row: int, moved: FloatArray) -> str:
    """Table of label, proposal, its standard deviation, and the difference in the label's axes."""
    lines = ["<table><tr><th></th><th>label</th><th>proposal</th><th>std</th><th>move</th></tr>\n"]
    for k, (name, axis) in enumerate(zip(_COLUMNS, _AXES, strict=True)):
        values = (audit.labels[row, k], audit.proposals[row, k], audit.std[row, k])
        cells = "".join(f"<td>{value:.2f}</td>" for value in values)
        lines.append(f"<tr><th>{name}</th>{cells}<td>{moved[k]:+.2f} {axis}</td></tr>\n")
    return "".join([*lines, "</table>"])


def label_figure(points: NDArray[np.float32], label: FloatArray, proposal: FloatArray) -> Any:
    """Return a matplotlib figure: a label and its proposal from above and from the side.

    The label's heading is to the right; the side view is seen from its right.

    Args:
        points: ``(P, >= 3)``.
        label: ``(7,)``.
        proposal: ``(7,)``.
    """
    from matplotlib.figure import Figure

    boxes = torch.from_numpy(np.stack((label, proposal)))
    reference = boxes[:1]
    corners = corners_3d(local_offsets(reference, boxes) + _sizes_of(reference)).numpy()
    as_boxes = torch.zeros(len(points), 7, dtype=torch.float64)
    as_boxes[:, :3] = torch.from_numpy(points[:, :3].astype(np.float64))
    cloud = local_offsets(reference, as_boxes)[:, :3].numpy()
    low, high = corners.min(axis=(0, 1)) - _MARGIN, corners.max(axis=(0, 1)) + _MARGIN
    cloud = cloud[((cloud >= low) & (cloud <= high)).all(axis=1)]
    cloud = cloud[:: max(1, -(-len(cloud) // _MAX_POINTS))]
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    views: Sequence[Any] = figure.subplots(1, 2)
    for axes, up, title in zip(views, (1, 2), ("from above", "from the side"), strict=True):
        axes.scatter(cloud[:, 0], cloud[:, up], s=3, c="#555555", linewidths=0)
        for corner, style in zip(corners, _STYLES, strict=True):
            _draw_outline(axes, corner, up, style)
        axes.set_aspect("equal")
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[up], high[up])
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
    views[0].legend(handles=[style.legend_line() for style in _STYLES], fontsize=7, loc="best")
    return figure


def _sizes_of(reference: torch.Tensor) -> torch.Tensor:
    """Sizes ``(1, 7)`` alone."""
    sizes = torch.zeros_like(reference)
    sizes[:, 3:6] = reference[:, 3:6]
    return sizes


def _draw_outline(axes: Any, corners: FloatArray, up: int, style: BoxStyle) -> None:
    """A box of corners ``(8, 3)`` from above, or its silhouette from the side."""
    line = {"color": style.color, "linestyle": style.dashes, "linewidth": style.width}
    if up == 1:
        axes.plot(corners[_BOTTOM, 0], corners[_BOTTOM, 1], **line)
        center, front = corners[:4].mean(axis=0), corners[[0, 3]].mean(axis=0)
        axes.plot([center[0], front[0]], [center[1], front[1]], **line)
        return
    left, right = corners[:, 0].min(), corners[:, 0].max()
    bottom, top = corners[:, 2].min(), corners[:, 2].max()
    axes.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], **line)
