"""A pytest plugin: tests marked ``gpu`` run on CUDA, and are skipped, visibly, where there is none.

A test gets the marker from its author, from the fixture ``cuda``, or from the CUDA case of the
fixture ``device``.
"""

from __future__ import annotations

import pytest
import torch

from tests.skip_bound import NO_CUDA


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the users of ``cuda``, and skip what is marked where CUDA is absent.

    First of all such hooks: ``-m "not gpu"`` must see the markers that are added here.
    """
    for item in items:
        if "cuda" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_CUDA))


@pytest.fixture
def cuda() -> torch.device:
    """The GPU; its user is marked ``gpu``, and skipped where there is none."""
    return torch.device("cuda")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and then the GPU, for a law of both."""
    return torch.device(request.param)
