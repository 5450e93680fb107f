"""Constants, random numbers, seeds and time, device by device."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from ebm3d.devices import (
    clock,
    constant,
    constant_index,
    device_of,
    seeded,
    seeded_generator,
    standard_normal,
    uniform,
    whole_numbers,
)


def test_a_module_is_where_its_parameters_are(device: torch.device):
    assert device_of(nn.Linear(2, 2).to(device)).type == device.type
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_a_constant_has_the_type_and_device_of_the_tensor_and_is_copied_once():
    like, numbers = torch.ones(1, dtype=torch.float64), ((0.1, 2.0), (3.0, 4.0))
    assert torch.equal(constant(numbers, like), torch.tensor(numbers, dtype=torch.float64))
    assert constant((0.1,), torch.ones(1, device="meta")).is_meta
    assert constant(numbers, like) is constant(numbers, torch.zeros_like(like))
    assert constant(numbers, like) is not constant(numbers, like.float())
    assert torch.equal(constant_index((2, 0), like), torch.tensor([2, 0]))


def test_constant_of_inference_mode_takes_part_in_gradients():
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        constant((0.625, 3.5), weight)
    (weight * constant((0.625, 3.5), weight)).sum().backward()
    assert torch.equal(weight.grad, torch.tensor([0.625, 3.5]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_numbers_are_those_of_torch_in_the_type_of_the_tensor(dtype: torch.dtype):
    like = torch.ones(1, dtype=dtype)
    for draw, expected in ((standard_normal, torch.randn), (uniform, torch.rand)):
        one, other = (torch.Generator().manual_seed(5) for _ in range(2))
        numbers = expected(3, 4, generator=other, dtype=dtype)
        assert torch.equal(draw((3, 4), like, one), numbers)
    drawn = whole_numbers(5, (1000,), like, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.unique(), torch.arange(5))


@pytest.mark.parametrize("draw", [standard_normal, uniform, lambda *a: whole_numbers(3, *a)])
def test_generator_of_another_device_is_named(draw):
    with pytest.raises(ValueError, match="generator must be on meta"):
        draw((2,), torch.ones(1, device="meta"), torch.Generator())
    assert draw((2,), torch.ones(1, device="meta"), None).is_meta


def test_generators_of_cuda_serve_its_tensors(cuda: torch.device):
    like = torch.ones(1, device=cuda)
    for device in ("cuda", like.device):
        assert standard_normal((2,), like, torch.Generator(device)).device == like.device
    with pytest.raises(ValueError, match="generator must be on cuda:0"):
        standard_normal((2,), like, torch.Generator())


def test_generators_of_one_seed_draw_the_same_numbers(device: torch.device):
    first, second, other = (
        torch.randn(5, generator=seeded_generator(device, seed), device=device)
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_seeded_draws_are_those_after_manual_seed_and_the_state_is_restored(device: torch.device):
    def draw() -> torch.Tensor:
        return torch.cat((torch.rand(3, device=device).cpu(), torch.rand(3)))

    torch.manual_seed(11)
    expected = draw()
    torch.manual_seed(5)
    untouched = draw()
    torch.manual_seed(5)
    with seeded(11, device):
        assert torch.equal(draw(), expected)
    assert torch.equal(draw(), untouched)


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


def test_the_clock_of_a_gpu_waits_for_its_work(cuda: torch.device):
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
