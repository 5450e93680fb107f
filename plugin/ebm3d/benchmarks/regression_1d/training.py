"""Training of K models of a method at once.

K models; N points of the training set; B points in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebm3d.benchmarks.regression_1d.method import Method, Schedule
from ebm3d.benchmarks.regression_1d.randomness import ModelGenerators
from ebm3d.errors import input_error, shape_error


@dataclass(frozen=True)
class Budget:
    """How long models are trained.

    Attributes:
        num_epochs: passes over the training set, 75 as published.
        batch_size: B, 32 as published; the last batch of an epoch may be smaller.
    """

    num_epochs: int = 75
    batch_size: int = 32


@dataclass(frozen=True)
class Training:
    """Trained models.

    Attributes:
        models: K of them.
        losses: mean loss of each epoch, ``(num_epochs, K)``.
    """

    models: nn.Module
    losses: Tensor


def model_seeds(seed: int, num_models: int) -> list[int]:
    """Return seeds of K models, the first of which do not depend on K."""
    return [1000 * seed + index for index in range(num_models)]


def train(
    method: Method,
    x: Tensor,
    y: Tensor,
    seeds: Sequence[int],
    budget: Budget | None = None,
    after_epoch: Callable[[], None] | None = None,
) -> Training:
    """Train one model for each seed, all at once.

    Every model has its own initialization, order of the points and samples, from a generator of
    its own, and a loss of its own: the models know nothing of each other.

    Args:
        method: what to train.
        x: ``(N,)`` float32.
        y: ``(N,)`` float32.
        seeds: of the models.
        budget: 75 epochs in batches of 32, if not given.
        after_epoch: called after each epoch, for a progress bar.

    Returns:
        The models and their losses.

    Raises:
        ValueError: if x and y do not match, or there is nothing to train.
    """
    budget = Budget() if budget is None else budget
    if x.ndim != 1 or y.shape != x.shape:
        raise shape_error("y", f"{tuple(x.shape)} like x, and x (N,)", y)
    for name, number in (("seeds", len(seeds)), ("x", len(x)), *vars(budget).items()):
        if number < 1:
            raise input_error(name, "at least 1", number)
    random = ModelGenerators(seeds)
    models = method.build(random)
    num_steps = budget.num_epochs * math.ceil(len(x) / budget.batch_size)
    optimizer = _Optimizer(models, method.schedule, num_steps)
    losses = torch.zeros(budget.num_epochs, len(seeds))
    for epoch in range(budget.num_epochs):
        for rows in random.permutations(len(x)).split(budget.batch_size, dim=1):
            loss = method.loss(models, x[rows], y[rows], random)
            optimizer.step(loss)
            losses[epoch] += loss.detach() * rows.shape[1] / len(x)
        if after_epoch is not None:
            after_epoch()
    optimizer.finish()
    return Training(models, losses)


class _Optimizer:
    """Adam by a schedule, with the moving average that replaces the parameters in the end."""

    def __init__(self, models: nn.Module, schedule: Schedule, num_steps: int) -> None:
        self.parameters = list(models.parameters())
        self.schedule = schedule
        self.num_steps = num_steps
        self.taken = 0
        self.adam = torch.optim.AdamW(
            self.parameters,
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self.averages = [parameter.detach().clone() for parameter in self.parameters]

    def step(self, losses: Tensor) -> None:
        """Descend the losses ``(K,)``."""
        if self.schedule.cosine:
            share = 0.5 * (1 + math.cos(math.pi * self.taken / self.num_steps))
            for group in self.adam.param_groups:
                group["lr"] = self.schedule.learning_rate * share
        self.adam.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.adam.step()
        self.taken += 1
        if self.schedule.averaging > 0:
            # A shorter memory at first, so that the initial parameters are forgotten.
            decay = min(self.schedule.averaging, (1 + self.taken) / (10 + self.taken))
            torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the average into the models, if there is one."""
        if self.schedule.averaging > 0:
            for parameter, average in zip(self.parameters, self.averages, strict=True):
                parameter.copy_(average)
