"""Random numbers and time, device by device."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from ebm3d.devices import clock, device_of, seeded, seeded_generator


def test_a_module_is_where_its_parameters_are(device: torch.device):
    assert device_of(nn.Linear(2, 2).to(device)).type == device.type


def test_a_module_without_parameters_is_on_the_cpu():
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_generators_of_one_seed_draw_the_same_numbers(device: torch.device):
    first, second = (
        torch.randn(5, generator=seeded_generator(device, 3), device=device) for _ in "ab"
    )
    other = torch.randn(5, generator=seeded_generator(device, 4), device=device)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_seeded_draws_are_those_after_manual_seed_and_the_state_is_put_back(device: torch.device):
    torch.manual_seed(11)
    expected = torch.rand(3, device=device), torch.rand(3)
    torch.manual_seed(5)
    untouched = torch.rand(3, device=device), torch.rand(3)
    torch.manual_seed(5)
    with seeded(11, device):
        found = torch.rand(3, device=device), torch.rand(3)
    after = torch.rand(3, device=device), torch.rand(3)
    for pair in (*zip(found, expected, strict=True), *zip(after, untouched, strict=True)):
        assert torch.equal(*pair)


def test_a_block_seeded_for_the_cpu_leaves_the_gpu_alone(cuda: torch.device):
    torch.manual_seed(5)
    expected = torch.rand(3, device=cuda)
    torch.manual_seed(5)
    with seeded(11, "cpu"):
        torch.rand(3)
    assert torch.equal(torch.rand(3, device=cuda), expected)


def test_the_clock_of_a_cpu_counts_work_and_not_sleep():
    start = clock("cpu")
    time.sleep(0.2)
    asleep = clock("cpu") - start
    while time.process_time() - start < asleep + 0.05:
        pass
    assert asleep < 0.1
    assert clock("cpu") - start >= asleep + 0.05


def test_the_clock_of_a_gpu_waits_for_the_work_given_to_it(cuda: torch.device):
    matrix = torch.randn(4096, 4096, device=cuda)
    matrix @ matrix  # loads the library
    done = torch.cuda.Event()
    for _ in range(20):
        matrix @ matrix
    done.record()
    clock(cuda)
    assert done.query()


def test_the_clock_of_a_gpu_is_steady(monkeypatch: pytest.MonkeyPatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    start = clock("cuda:1")
    time.sleep(0.05)
    assert clock("cuda:1") - start >= 0.05
    assert waited == [torch.device("cuda:1")] * 2
