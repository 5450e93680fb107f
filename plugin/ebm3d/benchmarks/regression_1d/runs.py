"""Trained and measured models of a method, kept in files to which more models can be added.

K models; W x H points of a picture.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from ebm3d.benchmarks.regression_1d.evaluation import GRID_SIZE, grid, kl_divergence
from ebm3d.benchmarks.regression_1d.method import Method
from ebm3d.benchmarks.regression_1d.pictures import picture_points, shown_part
from ebm3d.benchmarks.regression_1d.problem import NUM_POINTS, Problem
from ebm3d.benchmarks.regression_1d.training import Budget, train
from ebm3d.errors import input_error

_UNREADABLE = (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError, zlib.error)


@dataclass(frozen=True)
class Run:
    """K models of a method on a problem.

    Attributes:
        settings: epochs, batch size and points: what models of one table have in common.
        seeds: of the models.
        seconds: processor seconds of their training, summed over the threads.
        kl: divergences ``(K,)`` of each density of the method, by name, nats.
        pictures: the densities themselves on
            :func:`~ebm3d.benchmarks.regression_1d.pictures.picture_points`, float16 ``(K, W, H)``.
    """

    settings: dict[str, int]
    seeds: tuple[int, ...]
    seconds: float
    kl: dict[str, NDArray[np.float64]]
    pictures: dict[str, NDArray[np.float16]]

    def joined(self, other: Run) -> Run:
        """Return these models and others of the same settings.

        Raises:
            ValueError: for other settings, or a seed that occurs twice.
        """
        if other.settings != self.settings:
            raise input_error("settings", str(self.settings), other.settings)
        if set(other.seeds) & set(self.seeds):
            raise input_error("seeds", f"other than {self.seeds}", other.seeds)
        kl = {n: np.concatenate((self.kl[n], other.kl[n])) for n in self.kl}
        pictures = {n: np.concatenate((self.pictures[n], other.pictures[n])) for n in self.kl}
        seeds, seconds = self.seeds + other.seeds, self.seconds + other.seconds
        return Run(self.settings, seeds, seconds, kl, pictures)

    def first(self, num_models: int) -> Run:
        """Return the first models, with their share of the time."""
        kept = self.seeds[:num_models]
        kl = {name: values[:num_models] for name, values in self.kl.items()}
        pictures = {name: values[:num_models] for name, values in self.pictures.items()}
        seconds = self.seconds * len(kept) / max(len(self.seeds), 1)
        return Run(self.settings, kept, seconds, kl, pictures)

    def save(self, path: Path) -> None:
        """Write the run, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("partial_" + path.name)
        arrays: dict[str, Any] = {f"kl_{name}": values for name, values in self.kl.items()}
        arrays |= {f"picture_{name}": values for name, values in self.pictures.items()}
        arrays |= {f"setting_{name}": np.array(value) for name, value in self.settings.items()}
        with partial.open("wb") as file:
            np.savez_compressed(file, seeds=self.seeds, seconds=self.seconds, **arrays)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Run:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: naming the file, if it holds no run.
        """
        try:
            with path.open("rb") as stream, np.load(stream) as file:
                parts = {
                    prefix: {
                        key.removeprefix(prefix): file[key]
                        for key in file
                        if key.startswith(prefix)
                    }
                    for prefix in ("kl_", "picture_", "setting_")
                }
                settings = {name: int(value) for name, value in parts["setting_"].items()}
                seeds = tuple(int(seed) for seed in file["seeds"])
                run = Run(settings, seeds, float(file["seconds"]), parts["kl_"], parts["picture_"])
        except _UNREADABLE as error:
            got = f"what cannot be read ({type(error).__name__}: {error})"
            raise _file_error(path, got) from error
        shapes = {values.shape[:1] for part in (run.kl, run.pictures) for values in part.values()}
        if not seeds or shapes != {(len(seeds),)} or set(run.kl) != set(run.pictures):
            raise _file_error(path, f"{len(seeds)} models, figures of other numbers")
        return run


def _file_error(path: Path, got: str) -> ValueError:
    """The error for a file that holds no run."""
    remedy = "remove it, and its models are trained again"
    return input_error(f"file {path}", "one that this benchmark wrote", got, remedy)


def run_method(
    problem: Problem,
    method: Method,
    seeds: Sequence[int],
    budget: Budget | None = None,
    after_epoch: Callable[[], None] | None = None,
    num_points: int = NUM_POINTS,
    grid_size: int = GRID_SIZE,
) -> Run:
    """Train models on the given set of a problem, all at once, and measure their densities.

    Args:
        problem: gives the training set (seed 0 of its recipe) and the true density.
        method: what to train.
        seeds: of the models.
        budget: how long; as published, if not given.
        after_epoch: called after each epoch.
        num_points: of the training set.
        grid_size: of the comparison with the true density.

    Returns:
        The run.
    """
    budget = Budget() if budget is None else budget
    x, y = problem.sample(num_points)
    started = time.process_time()
    models = train(method, x, y, seeds, budget, after_epoch).models
    seconds = time.process_time() - started
    kl, pictures = {}, {}
    points, (shown_x, shown_y) = grid(grid_size), picture_points()
    for name in method.densities:

        def log_densities(rows: torch.Tensor, name: str = name) -> torch.Tensor:
            return method.log_density(models, name, rows, points)

        kl[name] = kl_divergence(problem, log_densities, grid_size).numpy()
        with torch.no_grad():
            masses = torch.softmax(method.log_density(models, name, shown_x, shown_y), dim=-1)
        density = shown_part(masses / (shown_y[1] - shown_y[0]))
        pictures[name] = density.numpy().astype(np.float16)
    return Run({**vars(budget), "num_points": num_points}, tuple(seeds), seconds, kl, pictures)
