"""Pictures of f around a box: contours over x and y, and one slice per dimension of the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebm3d.boxes import add_local_offsets, local_offsets
from ebm3d.boxes.frames import rotate_about_z
from ebm3d.datasets.atomic import replacing
from ebm3d.errors import check_boxes, input_error
from ebm3d.visualization.bev import signed
from ebm3d.visualization.frame import (
    GROUND_TRUTH,
    INITIAL,
    REFINED,
    BoxStyle,
    FloatArray,
    RefinedFrame,
)

SLICE_NAMES = (
    *("along the heading", "across, to the left", "up", "length", "width", "height", "yaw"),
    *("velocity along", "velocity across"),
)
# How far slices reach on each side (m, rad, m/s): about three times the errors of a detector.
SLICE_REACH = (0.6, 0.4, 0.3, 0.6, 0.3, 0.3, 0.3, 1.5, 1.5)
_UNITS = (*6 * ("m",), "degrees", "m/s", "m/s")
# Panels (row, column) of the dimensions; the last place is the legend's.
_PANELS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3), (0, 4))
_SHOWN_DEPTH = 20.0  # nats below the peak: what is less likely by e^-20 is drawn as the floor
_MAX_TRUTH_DISTANCE = 3.0  # meters
_CHUNK = 256  # boxes evaluated at a time, which bounds the memory of point features

VelocityPlane = tuple[FloatArray, FloatArray, FloatArray]
MarkedBoxes = list[tuple[FloatArray, BoxStyle]]


@dataclass(frozen=True)
class EnergyLandscape:
    """f around one box, float64.

    Args:
        box: ``(D,)`` the box in the middle, D = 7, or 9 with a velocity.
        x: ``(Q,)`` x of the plane's nodes, meters, LiDAR frame.
        y: ``(Q,)`` y of the plane's nodes, meters.
        plane: ``(Q, Q)`` f with the box moved to ``(x, y)``; rows are y, columns x.
        offsets: ``(D, S)`` offsets of the slices in the axes of the box: m, rad for yaw, m/s.
        slices: ``(D, S)`` f along them, one dimension changed at a time.
        velocity_plane: ``(Q,)`` nodes along the heading and ``(Q,)`` across it, m/s, and
            ``(Q, Q)`` f there; rows are across, columns along. None if D = 7.
    """

    box: FloatArray
    x: FloatArray
    y: FloatArray
    plane: FloatArray
    offsets: FloatArray
    slices: FloatArray
    velocity_plane: VelocityPlane | None = field(default=None, kw_only=True)


def energy_landscape(
    f: Callable[[Tensor], Tensor],
    box: Tensor,
    *,
    reach: float = 0.6,
    num_nodes: int = 49,
    slice_reach: Sequence[float] | None = None,
    num_slice_nodes: int = 61,
) -> EnergyLandscape:
    """Evaluate f around a box.

    Args:
        f: unnormalized log density of boxes near ``box``, from ``(S, D)`` to ``(S,)``.
        box: ``(D,)`` the box in the middle, D = 7, or 9 with a velocity.
        reach: of the plane on each side in x and y, meters.
        num_nodes: Q, nodes of the plane per axis.
        slice_reach: of each slice on each side, m, rad and m/s, ``SLICE_REACH`` if left out; sizes
            stay above a tenth of the box's. That of the velocities is their plane's too.
        num_slice_nodes: nodes of a slice.

    Raises:
        ValueError: for a wrong shape, fewer than two nodes or a reach that is not positive.
    """
    check_boxes(box[None], "box[None]", (7, 9))
    if min(num_nodes, num_slice_nodes) < 2:
        raise input_error("num_nodes, num_slice_nodes", "at least 2", (num_nodes, num_slice_nodes))
    num = len(box)
    slice_reach = SLICE_REACH[:num] if slice_reach is None else slice_reach
    if len(slice_reach) != num or min(*slice_reach, reach) <= 0:
        raise input_error("reach, slice_reach", f"one and {num} positive numbers", slice_reach)
    middle = box.detach()
    shift = torch.linspace(-reach, reach, num_nodes).to(middle)
    moved = middle.repeat(num_nodes, num_nodes, 1)
    moved[..., 0] += shift[None, :]
    moved[..., 1] += shift[:, None]
    plane = _evaluate(f, moved.reshape(-1, num)).reshape(num_nodes, num_nodes)
    shares = torch.linspace(-1, 1, num_slice_nodes).to(middle)
    offsets = shares * middle.new_tensor(slice_reach)[:, None]
    offsets[3:6] = torch.maximum(offsets[3:6], -0.9 * middle[3:6, None])
    steps = torch.diag_embed(offsets.T).transpose(0, 1)  # (D, S, D): row d changes dimension d
    variants = add_local_offsets(middle.expand_as(steps), steps)
    slices = _evaluate(f, variants.reshape(-1, num)).reshape(num, num_slice_nodes)
    values = (middle, middle[0] + shift, middle[1] + shift, plane, offsets, slices)
    landscape = EnergyLandscape(*(value.double().cpu().numpy() for value in values))
    if num == 7:
        return landscape
    shifts = [shift * (bound / reach) for bound in slice_reach[7:]]
    return replace(landscape, velocity_plane=_velocity_plane(f, middle, *shifts))


def _velocity_plane(
    f: Callable[[Tensor], Tensor], box: Tensor, along: Tensor, across: Tensor
) -> VelocityPlane:
    """Nodes shifted from a box's velocity, and f of each pair; see :class:`EnergyLandscape`."""
    steps = box.new_zeros(len(across), len(along), 9)
    steps[..., 7], steps[..., 8] = along[None, :], across[:, None]
    plane = _evaluate(f, add_local_offsets(box.expand_as(steps), steps).reshape(-1, 9))
    u, v = rotate_about_z(box[7:], -box[6])
    values = (u + along, v + across, plane.reshape(steps.shape[:2]))
    nodes_along, nodes_across, f_values = (value.double().cpu().numpy() for value in values)
    return nodes_along, nodes_across, f_values


def write_energy_picture(
    path: str | Path, landscape: EnergyLandscape, frame: RefinedFrame, row: int
) -> None:
    """Write a PNG of f around box ``row`` of a frame, with the box before and after refinement."""
    with replacing(path) as partial:
        energy_figure(landscape, frame, row).savefig(partial, dpi=130)


def energy_figure(landscape: EnergyLandscape, frame: RefinedFrame, row: int) -> Any:
    """Return the matplotlib figure of :func:`write_energy_picture`."""
    from matplotlib.figure import Figure

    num = len(landscape.box)
    marked = [(frame.initial[row, :num], INITIAL), (frame.refined[row, :num], REFINED)]
    if frame.ground_truth is not None and len(frame.ground_truth):
        distance = np.linalg.norm(frame.ground_truth[:, :2] - frame.refined[row, :2], axis=1)
        if distance.min() < _MAX_TRUTH_DISTANCE:
            marked.insert(0, (frame.ground_truth[distance.argmin(), :num], GROUND_TRUTH))
    if landscape.velocity_plane is None:
        figure = Figure(figsize=(15, 6.0), layout="constrained")
        grid = figure.add_gridspec(1, 2, width_ratios=(1, 2.1))
    else:
        figure = Figure(figsize=(22, 6.0), layout="constrained")
        grid = figure.add_gridspec(1, 3, width_ratios=(1, 1, 2.5))
        _draw_velocity_plane(
            figure.add_subfigure(grid[0, 1]), landscape.velocity_plane, landscape.box[6], marked
        )
    _draw_plane(figure.add_subfigure(grid[0, 0]), landscape, marked)
    _draw_slices(figure.add_subfigure(grid[0, -1]), landscape, marked)
    x, y = (signed(v, 1) for v in frame.refined[row, :2])
    before, after = signed(frame.f_initial[row], 2), signed(frame.f_refined[row], 2)
    figure.suptitle(
        f"Frame {frame.frame_id}, {frame.names[row]} at ({x}, {y}) m: f {before} → {after} "
        "(unnormalized log density, higher is more likely)"
    )
    return figure


def _draw_plane(figure: Any, landscape: EnergyLandscape, marked: MarkedBoxes) -> None:
    """Contours of f over the position of the center."""
    places = [(box[:2], style) for box, style in marked]
    axes = _draw_contours(figure, landscape.x, landscape.y, landscape.plane, places)
    axes.set(xlabel="x of the center (m)", ylabel="y of the center (m)")
    axes.set_title("over the position", fontsize=10)


def _draw_velocity_plane(
    figure: Any, plane: VelocityPlane, yaw: float, marked: MarkedBoxes
) -> None:
    """Contours of f over the velocity in the axes of the box in the middle."""
    turn = torch.tensor(-yaw)
    places = [(rotate_about_z(torch.as_tensor(box[7:]), turn).numpy(), s) for box, s in marked]
    axes = _draw_contours(figure, *plane, places)
    axes.texts[0].arrow_patch.set_clip_path(axes.patch)  # from a velocity beyond the plane
    axes.set(xlabel="along the heading (m/s)", ylabel="across, to the left (m/s)")
    axes.set_title("over the velocity", fontsize=10)


def _draw_contours(
    figure: Any, x: FloatArray, y: FloatArray, plane: FloatArray, marked: MarkedBoxes
) -> Any:
    """Contours of f over a plane, and places ``(2,)`` of the boxes on it; return the axes."""
    axes = figure.add_subplot()
    value = plane - plane.max()
    floor = max(float(value.min()), -_SHOWN_DEPTH)
    levels = np.linspace(floor, 0.0, 17) if floor < 0 else np.array([-1.0, 0.0])
    extend = "min" if value.min() < floor else "neither"
    grid = (x, y, value, levels)
    filled = axes.contourf(*grid, cmap="cividis", extend=extend)
    axes.contour(*grid, colors="white", linewidths=0.4, linestyles="-")
    label = "f below its maximum (nats)"
    figure.colorbar(filled, ax=axes, location="bottom", label=label, format="%.1f")
    (start, _), (end, _) = marked[-2:]
    arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 6, "shrinkB": 6}
    axes.annotate("", end, start, arrowprops=arrow, annotation_clip=False)
    for place, style in marked:
        look = {"color": style.color, "markeredgecolor": "white", "markersize": 12}
        axes.plot(*place, style.marker, **look)
    axes.set(xlim=x[[0, -1]], ylim=y[[0, -1]], aspect="equal")
    return axes


def _draw_slices(figure: Any, landscape: EnergyLandscape, marked: MarkedBoxes) -> None:
    """One panel per dimension, and the legend in the last place."""
    num_columns = 4 if landscape.velocity_plane is None else 5
    panels = figure.subplots(2, num_columns, sharey=True)
    middle = torch.as_tensor(landscape.box)
    top, bottom = landscape.slices.max(), landscape.slices.min()
    bottom = max(bottom, top - _SHOWN_DEPTH)
    for index, offsets in enumerate(landscape.offsets):
        axes = panels[_PANELS[index]]
        unit = np.degrees(1.0) if index == 6 else 1.0
        axes.plot(offsets * unit, landscape.slices[index], color="black", lw=1.8)
        for box, style in marked:
            offset = local_offsets(middle, torch.as_tensor(box, dtype=torch.float64))[index]
            line = {"color": style.color, "linestyle": style.dashes, "lw": 1.6}
            axes.axvline(float(offset) * unit, **line)
        axes.set_xlim(offsets[0] * unit, offsets[-1] * unit)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.08 * (top - bottom) + 1e-9)
        axes.set_title(SLICE_NAMES[index], fontsize=10)
        axes.set_xlabel(f"offset ({_UNITS[index]})", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        if _PANELS[index][1] == 0:
            axes.set_ylabel("f (nats)", fontsize=9)
    panels[1, -1].axis("off")
    marker = {"markeredgecolor": "white", "markersize": 11}
    handles = [style.legend_line(marker=style.marker, **marker) for _, style in marked]
    panels[1, -1].legend(handles=handles, loc="center", frameon=False, fontsize=11, handlelength=4)


def _evaluate(f: Callable[[Tensor], Tensor], boxes: Tensor) -> Tensor:
    """f ``(S,)`` of ``(S, 7)`` boxes, some at a time."""
    with torch.no_grad():
        return torch.cat([f(part) for part in boxes.split(_CHUNK)])
