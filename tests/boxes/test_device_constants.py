from __future__ import annotations

import torch

from ebm3d.devices import constant, constant_index


def test_constant_has_the_type_and_device_of_the_tensor():
    found = constant(((0.1, 2.0), (3.0, 4.0)), torch.ones(1, dtype=torch.float64))
    assert torch.equal(found, torch.tensor([[0.1, 2.0], [3.0, 4.0]], dtype=torch.float64))
    assert constant((0.1,), torch.ones(1, device="meta")).is_meta


def test_constant_is_copied_once():
    like = torch.ones(1)
    assert constant((0.5, 0.25), like) is constant((0.5, 0.25), torch.zeros(3))
    assert constant((0.5, 0.25), like) is not constant((0.5, 0.25), like.double())


def test_constant_of_inference_mode_takes_part_in_gradients():
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        constant((0.625, 3.5), weight)
    (weight * constant((0.625, 3.5), weight)).sum().backward()
    assert torch.equal(weight.grad, torch.tensor([0.625, 3.5]))


def test_constant_index_is_of_whole_numbers():
    found = constant_index((2, 0), torch.ones(1))
    assert torch.equal(found, torch.tensor([2, 0]))
