"""How long a model takes alone and beside others, compiled and in plain torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ebm3d.benchmarks.regression_1d.energy_methods import NCE, EnergyMethod
from ebm3d.benchmarks.regression_1d.problem import PROBLEMS
from ebm3d.benchmarks.regression_1d.training import Budget, model_seeds, train


def measure_speed(
    batches: Sequence[int] = (5, 20), num_epochs: int = 2, num_points: int | None = None
) -> list[dict[str, float | str]]:
    """Time the training by NCE of models one by one and all at once.

    One epoch to warm up, then ``num_epochs`` of them, scaled to the 75 of the benchmark.

    Args:
        batches: how many models are trained at once, the first of them in plain torch as well;
            one by one, two models stand for all.
        num_epochs: that are timed.
        num_points: of the training set; all, if not given.

    Returns:
        For each way of training ``way``, ``models`` trained at once, and for 75 epochs
        ``seconds_per_model`` and ``core_seconds_per_model``, the processor time over all threads,
        which other processes disturb less.
    """
    problem = next(iter(PROBLEMS.values()))
    x, y = problem.sample() if num_points is None else problem.sample(num_points)
    compiled = NCE(densities={"nce": "NCE"})
    ways: list[tuple[str, EnergyMethod, int]] = [
        ("one by one, plain torch", replace(compiled, compiled=False), 1),
        ("at once, plain torch", replace(compiled, compiled=False), batches[0]),
        ("one by one, compiled", compiled, 1),
        *(("at once, compiled", compiled, size) for size in batches),
    ]
    found: list[dict[str, float | str]] = []
    for way, method, size in ways:
        seeds = model_seeds(0, size)
        train(method, x, y, seeds, Budget(1))
        started, cpu_started = time.perf_counter(), time.process_time()
        for repeat in range(2 if size == 1 else 1):
            train(method, x, y, seeds if size > 1 else [repeat], Budget(num_epochs))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        scale = Budget().num_epochs / num_epochs / max(size, 2)
        found.append(
            {
                "way": way,
                "models": size,
                "seconds_per_model": seconds * scale,
                "core_seconds_per_model": cpu * scale,
            }
        )
    return found
