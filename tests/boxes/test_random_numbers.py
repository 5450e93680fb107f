from __future__ import annotations

import pytest
import torch

from ebm3d.devices import standard_normal, uniform, whole_numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_those_of_torch_in_the_type_of_the_tensor(dtype: torch.dtype):
    like = torch.ones(1, dtype=dtype)
    for draw, expected in ((standard_normal, torch.randn), (uniform, torch.rand)):
        one, other = (torch.Generator().manual_seed(5) for _ in range(2))
        numbers = expected(3, 4, generator=other, dtype=dtype)
        assert torch.equal(draw((3, 4), like, one), numbers)
    drawn = whole_numbers(5, (1000,), like, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.unique(), torch.arange(5))


@pytest.mark.parametrize("draw", [standard_normal, uniform, lambda *a: whole_numbers(3, *a)])
def test_generator_of_another_device_is_named(draw):
    message = r"generator must be on meta, as the tensors, but got one on cpu; make it by"
    with pytest.raises(ValueError, match=message):
        draw((2,), torch.ones(1, device="meta"), torch.Generator())
    assert draw((2,), torch.ones(1, device="meta"), None).is_meta


def test_generators_of_cuda_serve_its_tensors(cuda: torch.device):
    like = torch.ones(1, device=cuda)
    for device in ("cuda", like.device):
        assert standard_normal((2,), like, torch.Generator(device)).device == like.device
    with pytest.raises(ValueError, match="generator must be on cuda:0"):
        standard_normal((2,), like, torch.Generator())
