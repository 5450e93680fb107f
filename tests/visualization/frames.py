"""A small made-up frame for the tests of this folder."""

from __future__ import annotations

import numpy as np

from ebm3d.visualization import RefinedFrame

INITIAL = np.array(
    [
        [10.0, 2.0, -1.7, 4.2, 1.8, 1.5, 0.3],
        [20.0, -4.0, -1.6, 3.9, 1.6, 1.6, -1.2],
        [30.0, 6.0, -1.8, 4.5, 1.7, 1.4, 2.8],
    ]
)
# Moved by 0.1 m, by 0.5 m, and not refined.
MOVES = np.array([[0.06, 0.08, 0.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.0]])


def made_up_frame(*, with_truth: bool = True) -> RefinedFrame:
    """Three detections, the last one not refined."""
    rng = np.random.default_rng(7)
    refined = INITIAL.copy()
    refined[:, :3] += MOVES
    return RefinedFrame(
        frame_id="000042",
        points=rng.uniform((0, -10, -2, 0), (40, 10, 1, 1), size=(500, 4)),
        initial=INITIAL,
        refined=refined,
        scores=np.array([0.9, 0.6, 0.2]),
        names=("Car", "Car", "Car"),
        f_initial=np.array([-2.0, -5.25, np.nan]),
        f_refined=np.array([1.0, -0.75, np.nan]),
        ground_truth=refined[:2] + 0.01 if with_truth else None,
    )


# Of the three boxes, m/s: moving, standing, not known to the truth.
VELOCITIES = np.array([[3.0, 1.0], [0.1, -0.1], [-8.0, 2.0]])


def frame_in_motion() -> RefinedFrame:
    """The same scene turned to y forward, with velocities, classes of nuScenes and three sweeps."""
    frame = made_up_frame()
    boxes = [turn_left(part) for part in (frame.initial, frame.refined, frame.ground_truth)]
    boxes = [np.hstack((part, VELOCITIES[: len(part)])) for part in boxes]
    boxes[0][:, 7:] += 0.5
    boxes[2][1, 7:] = np.nan
    return RefinedFrame(
        frame_id="a1b2",
        points=turn_left(frame.points),
        initial=boxes[0],
        refined=boxes[1],
        scores=frame.scores,
        names=("car", "pedestrian", "construction_vehicle"),
        f_initial=frame.f_initial,
        f_refined=frame.f_refined,
        ground_truth=boxes[2],
        lags=np.repeat((0.0, 0.1, 0.2), (200, 200, 100)),
        forward="y",
    )


def turn_left(rows: np.ndarray) -> np.ndarray:
    """Points or boxes turned by 90 degrees: what was at x is at y."""
    turned = rows.copy()
    turned[:, 0], turned[:, 1] = -rows[:, 1], rows[:, 0]
    if rows.shape[1] > 6:
        turned[:, 6] += np.pi / 2
    return turned
