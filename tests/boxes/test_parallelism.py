"""Short work runs on one thread, long work on all, and numba's setting is put back."""

from __future__ import annotations

import numba
import pytest

from ebm3d.boxes.kernels import WORTH_SHARING, threads_for


def test_short_work_has_one_thread() -> None:
    with threads_for(WORTH_SHARING / 2):
        assert numba.get_num_threads() == 1


def test_long_work_has_the_threads_that_were_set() -> None:
    before = numba.get_num_threads()
    with threads_for(WORTH_SHARING):
        assert numba.get_num_threads() == before


def test_the_number_of_threads_is_put_back_after_an_error() -> None:
    before = numba.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), threads_for(0.0):
        raise RuntimeError("inside")
    assert numba.get_num_threads() == before
