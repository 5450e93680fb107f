"""Fixtures and guards of every test: real data if present, fixed seeds, untouched torch state."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Threads that wait actively make tests with two threads many times slower beside another busy
# process; OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

pytest_plugins = ["tests.skip_bound", "tests.cuda", "tests.random_order"]

# The same examples in every run, and no deadline: a kernel compiles in the first of them.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

# Numba's OpenMP layer would otherwise raise torch's number of threads to that of the cores.
os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

_SEED = 20201208
_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test is skipped where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("real data is absent (the folder ../shared beside the project)")
    return _SHARED


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Start every test from the same state of all random generators."""
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.manual_seed(_SEED)


@pytest.fixture(autouse=True)
def _torch_state_is_untouched(_seed: None) -> Iterator[None]:
    """Fail a test that leaves torch's global state changed, and put the state back."""
    before = _torch_state()
    yield
    after = _torch_state()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if changed:
        torch.set_default_dtype(before["default dtype"])
        torch.set_num_threads(before["threads"])
        torch.set_grad_enabled(before["gradients enabled"])
        torch.use_deterministic_algorithms(before["deterministic algorithms"])
        torch.autograd.set_detect_anomaly(before["anomaly detection"])
    assert not changed, f"the test changed torch's global state (before, after): {changed}"


def _torch_state() -> dict[str, Any]:
    """The settings of torch that outlive a test."""
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
    }


@pytest.fixture
def float64() -> Iterator[None]:
    """Float64 as torch's default for one test: ``@pytest.mark.usefixtures("float64")``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded numpy generator."""
    return np.random.default_rng(_SEED)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded torch generator."""
    return torch.Generator().manual_seed(_SEED)


@pytest.fixture
def random_boxes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Sixty-four boxes ``(x, y, z, dx, dy, dz, yaw)`` of road users in front of the sensor."""
    low = np.array([2.0, -25.0, -2.2, 0.5, 0.4, 1.0, -np.pi])
    high = np.array([50.0, 25.0, -0.8, 5.0, 2.2, 2.4, np.pi])
    return rng.uniform(low, high, size=(64, 7))
