"""Checkpoints of mmengine under safe loading: what loads, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def load(path: Path) -> dict[str, Any]:
    """Load through the host."""
    from mmengine.runner.checkpoint import CheckpointLoader

    return CheckpointLoader.load_checkpoint(str(path))


@pytest.fixture
def stock_checkpoint(tmp_path: Path) -> Path:
    """What mmengine saves: history buffers, numpy scalars, a function of a schedule."""
    from mmengine.logging import HistoryBuffer, MessageHub
    from mmengine.optim import OneCycleLR

    hub = MessageHub("stock")
    hub._log_scalars["train/loss"] = HistoryBuffer([3.0, 1.0], [1, 1])
    hub._resumed_keys["train/loss"] = True
    hub.update_info("best", np.float64(0.5))
    hub.update_info("seed", np.int64(7))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=10, verbose=False)
    states = {"message_hub": hub.state_dict(), "param_schedulers": [scheduler.state_dict()]}
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": {}, **states}, tmp_path / "stock.pth")
    return tmp_path / "stock.pth"


def test_a_stock_checkpoint_loads_through_the_host_alone(stock_checkpoint):
    """Nothing is added to torch's list for the rest of the process."""
    before = torch.serialization.get_safe_globals()
    hub = load(stock_checkpoint)["message_hub"]
    assert hub["log_scalars"]["train/loss"].mean() == 2.0
    assert hub["runtime_info"] == {"best": 0.5, "seed": 7}
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(stock_checkpoint)


class _Attribute:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner: object, name: str) -> None:
        self.call = (getattr, (owner, name))

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("name", ["__init__", "__globals__", "register_statistics"])
def test_other_attributes_and_those_of_other_classes_are_refused(tmp_path, name):
    """Of the known classes the known methods alone, and no known name of another class."""
    from mmengine.logging import HistoryBuffer

    for attribute in (_Attribute(HistoryBuffer, name), _Attribute(np.ndarray, "mean")):
        torch.save({"attribute": attribute}, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match="safe loading"):
            load(tmp_path / "bad.pth")


def test_downloads_are_read_under_safe_loading():
    """The host's function has it off."""
    from mmengine.runner import checkpoint

    assert checkpoint.load_url.keywords == {"weights_only": True}
