"""Checkpoints under safe loading: what is saved plain, what loads, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracles.subprocesses import run_python

pytestmark = pytest.mark.mmdet3d


@pytest.fixture(autouse=True)
def _repaired() -> None:
    from ebm3d.adapters.repairs import repair_checkpoint_loading, repair_checkpoint_saving

    repair_checkpoint_saving()
    repair_checkpoint_loading()


@pytest.fixture
def stock_checkpoint(tmp_path: Path) -> Path:
    """What an unrepaired mmengine training saves: a history buffer and a numpy scalar."""
    from mmengine.logging import HistoryBuffer

    path = tmp_path / "stock.pth"
    hub = {
        "log_scalars": {"train/loss": HistoryBuffer([3.0, 1.0], [1, 1])},
        "runtime_info": {"iter": 2, "best": np.float64(0.5), "seed": np.int64(7)},
        "resumed_keys": {"train/loss": True},
    }
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": {}, "message_hub": hub}, path)
    return path


def test_a_stock_checkpoint_loads_through_the_host(stock_checkpoint: Path) -> None:
    """Safe loading stays on; history and scalars come back as they were."""
    from mmengine.runner.checkpoint import CheckpointLoader

    hub = CheckpointLoader.load_checkpoint(str(stock_checkpoint))["message_hub"]
    assert hub["log_scalars"]["train/loss"].mean() == 2.0
    assert hub["runtime_info"] == {"iter": 2, "best": 0.5, "seed": 7}


def test_without_the_repair_a_stock_checkpoint_is_refused(stock_checkpoint: Path) -> None:
    """The defect, in a process without repairs."""
    script = """
    import sys
    from mmengine.runner.checkpoint import CheckpointLoader
    try:
        CheckpointLoader.load_checkpoint(sys.argv[1])
    except Exception as error:
        print(error)
    """
    assert "Weights only load failed" in run_python(script, str(stock_checkpoint))


def test_the_safe_globals_are_gone_after_loading(stock_checkpoint: Path) -> None:
    """Nothing is added to torch's list for the rest of the process."""
    from mmengine.runner.checkpoint import CheckpointLoader

    before = torch.serialization.get_safe_globals()
    CheckpointLoader.load_checkpoint(str(stock_checkpoint))
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
def test_other_attributes_are_refused(tmp_path: Path, name: str) -> None:
    """The stand-in for getattr hands out the known methods only."""
    from mmengine.logging import HistoryBuffer
    from mmengine.runner.checkpoint import CheckpointLoader

    torch.save({"attribute": _Attribute(HistoryBuffer, name)}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="safe loading"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "bad.pth"))


def test_the_attributes_of_other_classes_are_refused(tmp_path: Path) -> None:
    """Known names of unknown owners are refused too."""
    from mmengine.runner.checkpoint import CheckpointLoader

    torch.save({"attribute": _Attribute(np.ndarray, "mean")}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="safe loading"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "bad.pth"))


def test_a_message_hub_is_saved_plain_and_comes_back(tmp_path: Path) -> None:
    """What the repaired hub saves loads with torch alone and restores the hub."""
    from mmengine.logging import MessageHub

    hub = MessageHub("plain_source")
    for value in (3.0, 1.0):
        hub.update_scalar("train/loss", value)
    hub.update_info("best", np.float64(0.5))
    torch.save(hub.state_dict(), tmp_path / "hub.pth")
    other = MessageHub("plain_target")
    other.load_state_dict(torch.load(tmp_path / "hub.pth"))
    assert other.get_scalar("train/loss").data[0].tolist() == [3.0, 1.0]
    assert other.get_info("best") == 0.5


def test_without_the_repair_a_message_hub_is_not_plain(tmp_path: Path) -> None:
    """The defect: what the stock hub saves is refused by torch's default."""
    from mmengine.logging import MessageHub

    hub = MessageHub("not_plain")
    hub.update_scalar("train/loss", 3.0)
    torch.save(MessageHub.state_dict.__wrapped__(hub), tmp_path / "hub.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "hub.pth")


def test_a_one_cycle_schedule_is_saved_plain_and_goes_on(tmp_path: Path) -> None:
    """A schedule that is saved and loaded half way ends at the same rates."""
    from mmengine.optim import OneCycleLR

    def schedule() -> tuple[torch.optim.Optimizer, OneCycleLR]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        return optimizer, OneCycleLR(optimizer, eta_max=0.1, total_steps=10, verbose=False)

    def rates(optimizer: torch.optim.Optimizer, scheduler: OneCycleLR, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    optimizer, scheduler = schedule()
    rates(optimizer, scheduler, 4)
    torch.save({"s": scheduler.state_dict(), "o": optimizer.state_dict()}, tmp_path / "half.pth")
    state = torch.load(tmp_path / "half.pth")
    resumed_optimizer, resumed = schedule()
    resumed.load_state_dict(state["s"])
    resumed_optimizer.load_state_dict(state["o"])
    assert rates(resumed_optimizer, resumed, 5) == rates(optimizer, scheduler, 5)
