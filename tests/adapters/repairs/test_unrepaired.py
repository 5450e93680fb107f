"""What the repairs are for: defects of the host in a process without them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.oracles.subprocesses import run_python

pytestmark = pytest.mark.mmdet3d


@pytest.fixture(scope="module")
def defects() -> dict[str, Any]:
    """One process for all of them: the host's import takes seconds."""
    printed = run_python("from tests.adapters.repairs import unrepaired; print(unrepaired.main())")
    shown: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return shown


def test_a_wall_is_smeared(defects):
    """R^T t is added where t belongs: the sensor was at (3, 1, 0)."""
    assert defects["sweep_from_the_side"] == [1, -3, 0]


def test_an_absent_class_is_an_error(defects):
    assert defects["absent_classes"] == ["ZeroDivisionError", "KeyError"]


def test_an_empty_cloud_is_an_error(defects):
    """The batch size is read off the last voxel."""
    assert defects["empty_cloud"] == "IndexError"


def test_small_defects_show(defects):
    """No long (numpy 2 has the name again), no kept kernel, a process group that needs CUDA."""
    small = defects["small_defects"]
    assert (small["long"], small["kernels"]) == ("long" in vars(np), None)
    assert torch.cuda.is_available() or "cuda" in small["process group"].lower()
