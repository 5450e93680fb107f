from __future__ import annotations

import pytest
import torch

from ebm3d.boxes.kernels import forced_torch, kernels_serve


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_serve_floating_point_tensors_in_main_memory(dtype):
    assert kernels_serve(torch.ones(2, dtype=dtype), torch.ones(3, dtype=dtype))


def test_kernels_serve_no_other_device_and_no_other_type():
    assert not kernels_serve(torch.ones(2, device="meta"))
    assert not kernels_serve(torch.ones(2), torch.ones(2, device="meta"))
    assert not kernels_serve(torch.ones(2, dtype=torch.float16))
    assert not kernels_serve(torch.ones(2).float(), torch.ones(2).double())


def test_torch_can_be_forced_also_inside_itself_and_after_an_error():
    with forced_torch():
        with forced_torch():
            assert not kernels_serve(torch.ones(1))
        assert not kernels_serve(torch.ones(1))
    assert kernels_serve(torch.ones(1))
    with pytest.raises(RuntimeError), forced_torch():
        raise RuntimeError
    assert kernels_serve(torch.ones(1))
