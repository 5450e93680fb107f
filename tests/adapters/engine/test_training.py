"""Training around a toy model: resume, accumulation, two processes, mixed precision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.mmdet3d

_ROOT = Path(__file__).resolve().parents[3]
_CONFIG = Path(__file__).with_name("toy_config.py")
_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "OMP_NUM_THREADS": "1",
}
_PLAIN = {  # the same batches in one process and in two
    "train_dataloader.sampler.shuffle": False,
    "train_dataloader.dataset.augment": False,
    "model.dropout": 0.0,
}


def trained(
    folder: Path, options: dict[str, object] | None = None, **arguments: Any
) -> dict[str, Tensor]:
    """Train in this process; the parameters after the last epoch."""
    from ebm3d.adapters.engine import train

    runner = train(_CONFIG, work_dir=folder, cfg_options=options, **arguments)
    return {name: value.cpu().clone() for name, value in runner.model.state_dict().items()}


def launched(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Train from the command line, the arguments of Python first."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=_ROOT,
        env={**_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
    )


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor], atol: float = 0.0) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=atol)


def test_a_killed_and_resumed_training_ends_with_the_same_parameters(tmp_path: Path) -> None:
    """SIGKILL in the middle of the third epoch, then --resume, against an uninterrupted run."""
    killed = launched(
        *("tools/train.py", str(_CONFIG), "--work-dir", str(tmp_path / "killed")),
        *("--cfg-options", "custom_hooks.3.epoch=2"),
    )
    assert killed.returncode == -9, killed.stderr[-3000:]
    assert (tmp_path / "killed" / "last_checkpoint").read_text().endswith("epoch_2.pth")
    whole = trained(tmp_path / "whole")
    assert_equal(trained(tmp_path / "killed", resume="auto"), whole)
    named = str(tmp_path / "whole" / "epoch_2.pth")  # --resume CKPT
    assert_equal(trained(tmp_path / "named", resume=named), whole)


@pytest.mark.parametrize("before", [{}, {"train_dataloader.batch_size": 8}])
def test_a_training_resumed_with_other_epochs_has_the_rates_of_an_uninterrupted_one(
    tmp_path: Path, before: dict[str, object]
) -> None:
    from ebm3d.adapters.engine import train

    whole = train(_CONFIG, work_dir=tmp_path / "whole")
    trained(tmp_path / "part", {"train_cfg.max_epochs": 2, **before})
    resumed = train(_CONFIG, work_dir=tmp_path / "part", resume="auto")
    assert resumed.iter == whole.iter
    for first, second in zip(whole.param_schedulers, resumed.param_schedulers, strict=True):
        assert first.state_dict() == second.state_dict()


def test_another_seed_gives_other_parameters(tmp_path: Path) -> None:
    """What the seed decides: shuffling, augmentation, dropout."""
    first = trained(tmp_path / "first", {"train_cfg.max_epochs": 1})
    second = trained(tmp_path / "second", {"train_cfg.max_epochs": 1, "randomness.seed": 1})
    assert not torch.equal(first["layer.weight"], second["layer.weight"])


def test_accumulated_gradients_equal_the_larger_batch(tmp_path: Path) -> None:
    """Two batches of 2 accumulated, against one of 4; no batch norm in the model."""
    accumulated = {
        **_PLAIN,
        "train_dataloader.batch_size": 2,
        "optim_wrapper.accumulative_counts": 2,
        # Twice the iterations an epoch: a constant learning rate makes the two comparable.
        "param_scheduler": None,
    }
    large = trained(tmp_path / "large", {**_PLAIN, "param_scheduler": None})
    assert_equal(trained(tmp_path / "small", accumulated), large, atol=1e-6)


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    """Two gloo processes of batch 2, started by torch's launcher, against one of batch 4."""
    process = launched(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("tools/train.py", str(_CONFIG), "--launcher", "pytorch"),
        *("--work-dir", str(tmp_path / "two"), "--cfg-options", "train_dataloader.batch_size=2"),
        *(f"{key}={value}" for key, value in _PLAIN.items()),
        CUDA_VISIBLE_DEVICES="",  # NCCL wants a GPU for each process
    )
    assert process.returncode == 0, process.stderr[-3000:]
    newest = (tmp_path / "two" / "last_checkpoint").read_text()
    two = torch.load(newest, map_location="cpu")["state_dict"]
    one = trained(tmp_path / "one", {**_PLAIN, "train_dataloader.batch_size": 4})
    assert_equal(two, one, atol=1e-6)


def test_tensorboard_files_are_written_where_asked_for(tmp_path: Path) -> None:
    """The visualization backend of the configs."""
    backend = {"visualizer.vis_backends": [{"type": "TensorboardVisBackend"}]}
    trained(tmp_path, {"train_cfg.max_epochs": 1, **backend})
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_mixed_precision_trains_from_the_command_line(tmp_path: Path) -> None:
    """--amp, by the wrapper of this machine; bfloat16 has eight bits of mantissa."""
    options = {**_PLAIN, "train_cfg.max_epochs": 1, "train_dataloader.num_workers": 0}
    half, full = trained(tmp_path / "half", options, amp=True), trained(tmp_path / "full", options)
    assert_equal(half, full, atol=0.02)
    assert not torch.equal(half["layer.weight"], full["layer.weight"])


def test_training_is_where_the_runner_puts_models(tmp_path: Path, cuda: torch.device) -> None:
    """The GPU by itself, and a resumed training goes on there."""
    from ebm3d.adapters.engine import train

    for epochs in (1, 2):
        options = {"train_cfg.max_epochs": epochs}
        runner = train(_CONFIG, work_dir=tmp_path, resume="auto", amp=True, cfg_options=options)
        assert next(runner.model.parameters()).device.type == cuda.type
    assert runner.epoch == 2
