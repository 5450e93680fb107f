"""The CPU-sized detectors: a fixed batch, one step, the same loss every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.adapters.tiny import (
    HOST_WARNINGS,
    build_batch,
    build_detector,
    losses_of,
    random_cloud,
    sum_losses,
)

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

detectors = pytest.mark.parametrize("name", ["second", "pointpillars"])


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads for one test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@detectors
def test_a_training_step_of_a_fixed_batch_gives_the_same_loss_every_time(
    two_threads: None, generator: torch.Generator, name: str
) -> None:
    """Loss before a step and after it, to the bit, with two threads."""
    clouds = [random_cloud(generator, 3000), random_cloud(generator, 2000)]
    runs = set()
    for _ in range(3):
        detector = build_detector(name)
        optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
        values = []
        for _ in range(2):
            loss = sum_losses(losses_of(detector, build_batch(clouds)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        runs.add(tuple(values))
    assert len(runs) == 1


@detectors
def test_every_parameter_of_a_detector_gets_a_gradient(
    generator: torch.Generator, name: str
) -> None:
    detector = build_detector(name)
    clouds = [random_cloud(generator, 3000)] * 2
    sum_losses(losses_of(detector, build_batch(clouds))).backward()
    assert not [key for key, value in detector.named_parameters() if value.grad is None]
