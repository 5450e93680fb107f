from __future__ import annotations

import numba
import pytest
import torch

from ebm3d.boxes.kernels import WORTH_SHARING, forced_torch, kernels_serve, threads_for


def test_kernels_serve_one_floating_point_type_in_main_memory():
    for dtype in (torch.float32, torch.float64):
        assert kernels_serve(torch.ones(2, dtype=dtype), torch.ones(3, dtype=dtype))
    assert not kernels_serve(torch.ones(2), torch.ones(2, device="meta"))
    assert not kernels_serve(torch.ones(2).half())
    assert not kernels_serve(torch.ones(2).float(), torch.ones(2).double())


def test_torch_can_be_forced_also_inside_itself_and_after_an_error():
    with forced_torch():
        with forced_torch():
            assert not kernels_serve(torch.ones(1))
        assert not kernels_serve(torch.ones(1))
    with pytest.raises(RuntimeError), forced_torch():
        raise RuntimeError
    assert kernels_serve(torch.ones(1))


def test_short_work_has_one_thread_long_work_all_and_the_number_is_restored():
    before = numba.get_num_threads()
    with threads_for(WORTH_SHARING):
        assert numba.get_num_threads() == before
    with threads_for(WORTH_SHARING / 2):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with pytest.raises(RuntimeError), threads_for(0.0):
        raise RuntimeError
    assert numba.get_num_threads() == before
