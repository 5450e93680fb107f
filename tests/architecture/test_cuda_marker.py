"""Where the marker ``gpu`` comes from, and what it does to a test."""

from __future__ import annotations

import pytest
import torch

from tests.skip_bound import NO_CUDA


def test_the_user_of_the_fixture_cuda_runs_on_the_gpu(cuda: torch.device):
    assert torch.ones(2, device=cuda).sum() == 2


def test_the_user_of_the_fixture_device_runs_on_both(device: torch.device):
    assert torch.ones(2, device=device).sum() == 2


def test_users_of_cuda_are_marked_and_skipped_without_a_gpu(request: pytest.FixtureRequest):
    items = {item.name: item for item in request.session.items if item.path == request.path}
    marked = {name for name, item in items.items() if item.get_closest_marker("gpu")}
    skipped = {
        name
        for name, item in items.items()
        for mark in item.iter_markers("skip")
        if mark.kwargs["reason"] == NO_CUDA
    }
    expected = {
        "test_the_user_of_the_fixture_cuda_runs_on_the_gpu",
        "test_the_user_of_the_fixture_device_runs_on_both[cuda]",
    }
    assert marked == expected
    assert skipped == (set() if torch.cuda.is_available() else expected)
