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
)

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered"), *HOST_WARNINGS]

REPEATS = 3


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads for one test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["second", "pointpillars"])
def test_a_training_step_of_a_fixed_batch_gives_the_same_loss_every_time(
    two_threads: None, generator: torch.Generator, name: str
) -> None:
    """Loss before a step and after it, to the bit, with two threads."""
    clouds = [random_cloud(generator, 3000), random_cloud(generator, 2000)]
    found = set()
    for _ in range(REPEATS):
        detector = build_detector(name)
        optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
        values = []
        for _ in range(2):
            loss = sum(
                value
                for key, value in losses_of(detector, build_batch(clouds)).items()
                if "loss" in key
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        found.add(tuple(values))
    assert len(found) == 1


@pytest.mark.parametrize("name", ["second", "pointpillars"])
def test_every_parameter_of_a_detector_gets_a_gradient(
    generator: torch.Generator, name: str
) -> None:
    """Nothing is built that is not used."""
    detector = build_detector(name)
    clouds = [random_cloud(generator, 3000)] * 2
    sum(losses_of(detector, build_batch(clouds)).values()).backward()
    idle = [key for key, value in detector.named_parameters() if value.grad is None]
    assert not idle
