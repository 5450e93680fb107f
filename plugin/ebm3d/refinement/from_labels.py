"""An energy for the classes of a labelled data set.

N labels of a frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.datasets.results import FrameResults
from ebm3d.errors import input_error
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy, Row
from ebm3d.refinement.training import TrainingFrame, train_energy

# Standard deviations of the noise: shares of length, width and height, at least so many meters;
# then log ratios, and radians.
_SHARES, _LEAST = (0.065, 0.065, 0.08), (0.10, 0.10, 0.08)
_SIZE_STD, _YAW_STD = (0.10, 0.07, 0.08), 0.08
_LEAST_LABELS = 20


def frequent_classes(frames: Iterable[FrameResults]) -> tuple[str, ...]:
    """Classes with labels enough to train on, the most frequent first."""
    counts = Counter(name for frame in frames for name in frame.names.tolist())
    return tuple(name for name, number in counts.most_common() if number >= _LEAST_LABELS)


def training_frames(
    frames: Iterable[tuple[FrameResults, NDArray[np.float32]]],
    class_names: Sequence[str],
    min_points: int = 5,
) -> list[TrainingFrame]:
    """Return frames with the labels of these classes that hold enough points."""
    names, result = list(class_names), []
    for frame, points in frames:
        boxes = frame.boxes[:, :7]
        kept = np.isin(frame.names, names)
        kept &= points_in_boxes(points, boxes).sum(axis=0) >= min_points
        labels = [names.index(name) for name in frame.names[kept].tolist()]
        result.append(
            TrainingFrame(
                torch.from_numpy(points),
                torch.from_numpy(boxes[kept]).float(),
                torch.tensor(labels, dtype=torch.int64),
            )
        )
    return result


def new_energy(
    frames: Sequence[TrainingFrame], class_names: Sequence[str], seed: int = 0
) -> PointsEnergy:
    """Return an untrained energy, with sizes and noise of the labels.

    Raises:
        ValueError: if a class has no label.
    """
    boxes = torch.cat([frame.boxes for frame in frames])
    labels = torch.cat([frame.labels for frame in frames])
    sizes: list[Row] = []
    for number, name in enumerate(class_names):
        of_class = boxes[labels == number, 3:6]
        if not len(of_class):
            raise input_error("class_names", "of classes with labels to train on", name)
        sizes.append(tuple(of_class.mean(dim=0).tolist()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PointsEnergy(EnergySettings(tuple(class_names), tuple(sizes), _noise_stds(sizes)))


def energy_without(
    frames: Sequence[tuple[FrameResults, NDArray[np.float32]]],
    folds: NDArray[np.int64],
    num_steps: int,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int, float], None] | None = None,
) -> Callable[[int], PointsEnergy]:
    """Return a function of a fold that trains an energy on the frames of all others.

    Args:
        frames: labels with their points.
        folds: of the frames.
        num_steps: of each training.
        seed: of weights, order and noise.
        device: to train on.
        progress: told the fold, the step and its loss.
    """

    def train(fold: int) -> PointsEnergy:
        """An energy that has not seen the fold."""
        others = [frames[row] for row in np.flatnonzero(folds != fold).tolist()]
        names = frequent_classes(frame for frame, _ in others)
        known = training_frames(others, names)
        energy = new_energy(known, names, seed).to(device)

        def report(step: int, loss: float) -> None:
            if progress is not None:
                progress(fold, step, loss)

        train_energy(energy, known, [], num_steps, seed=seed, progress=report)
        return energy.eval()

    return train


def _noise_stds(sizes: Sequence[Row]) -> tuple[Row, ...]:
    """Standard deviations of the noise for classes of these mean sizes."""
    return tuple(
        (*np.maximum(np.multiply(_SHARES, size), _LEAST).tolist(), *_SIZE_STD, _YAW_STD)
        for size in sizes
    )
