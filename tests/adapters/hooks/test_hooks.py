"""Seeds of an epoch, the frozen detector, the layout of weights, plain checkpoints."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def hook(name: str, **settings: Any) -> Any:
    """A hook from the registry."""
    from mmdet3d.registry import HOOKS

    return HOOKS.build({"type": name, **settings})


def draw() -> tuple[float, float, float]:
    """One number of each global generator."""
    return random.random(), float(np.random.random()), float(torch.rand(()))


class Pipeline:
    """A data set whose pipeline samples objects, as the host's does."""

    def __init__(self) -> None:
        sampler = SimpleNamespace(_sampled_list=list(range(20)), _indices=np.arange(20), _idx=7)
        self.sampler = sampler
        transform = SimpleNamespace(db_sampler=SimpleNamespace(sampler_dict={"Car": sampler}))
        self.pipeline = SimpleNamespace(transforms=[transform])


def start_epoch(seed: int, epoch: int, **loader: Any) -> Any:
    """The data loader after the hook has seen the start of an epoch."""
    settings = {"dataset": Pipeline(), "num_workers": 0, "persistent_workers": False, **loader}
    loader = SimpleNamespace(**settings)
    runner = SimpleNamespace(seed=seed, epoch=epoch, train_dataloader=loader)
    hook("EpochSeedHook").before_train_epoch(runner)
    return loader


def test_an_epoch_draws_the_same_numbers_whatever_came_before():
    """Another epoch or seed draws others."""
    drawn = {}
    for key in ((0, 3), (0, 4), (1, 3), (0, 3)):
        draw()
        start_epoch(*key)
        numbers = draw()
        assert drawn.setdefault(key, numbers) == numbers
    assert len({value for numbers in drawn.values() for value in numbers}) == 9


def test_workers_and_the_main_process_draw_different_numbers():
    threads = torch.get_num_threads()
    loader = start_epoch(0, 2, num_workers=2)
    drawn = [draw()]
    for worker in (0, 1, 0):
        loader.worker_init_fn(worker)
        drawn.append(draw())
    torch.set_num_threads(threads)
    assert len(set(drawn)) == 3
    assert drawn[1] == drawn[3]


def test_object_samplers_start_each_epoch_in_a_new_order():
    """A permutation that the epoch decides, from its first entry on; wrapped data sets too."""
    orders = []
    for epoch in (0, 1, 0):
        part = Pipeline()
        start_epoch(0, epoch, dataset=SimpleNamespace(dataset=SimpleNamespace(datasets=[part])))
        assert part.sampler._idx == 0
        assert sorted(part.sampler._indices) == list(range(20))
        orders.append(tuple(part.sampler._indices))
    assert orders[0] == orders[2] != orders[1]


def test_persistent_workers_are_refused():
    """They would keep generators that a resumed training cannot have."""
    with pytest.raises(ValueError, match="persistent_workers"):
        start_epoch(0, 0, persistent_workers=True)


class Detector(nn.Module):
    """A backbone and a head with a refinement head in it."""

    def __init__(self, detector: str) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.bbox_head = nn.Module()
        self.bbox_head.detector = detector
        self.bbox_head.conv = nn.Conv2d(4, 2, 1)
        self.bbox_head.refinement_head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.bbox_head.refinement_head[0].bias.requires_grad_(False)


def start_training(model: nn.Module) -> tuple[set[str], set[str]]:
    """Parameters that learn and modules in training mode, before the first batch of an epoch."""
    freezing, runner = hook("FreezeDetectorHook"), SimpleNamespace(model=model)
    freezing.before_run(runner)
    model.train()
    freezing.before_train_iter(runner, 0)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return learning, {name for name, module in model.named_modules() if module.training}


def test_a_frozen_detector_keeps_parameters_and_statistics_in_every_epoch():
    """The head learns, but for what was frozen in it."""
    model = Detector("frozen")
    head = "bbox_head.refinement_head"
    expected = {f"{head}.0.weight", f"{head}.1.weight", f"{head}.1.bias"}
    for _ in range(2):
        assert start_training(model) == (expected, {head, f"{head}.0", f"{head}.1"})
        model.eval()


def test_a_joint_detector_learns_everything():
    model = Detector("joint")
    learning, training = start_training(model)
    assert len(learning) == len(list(model.parameters())) - 1
    assert len(training) == len(list(model.modules()))


def test_a_frozen_detector_needs_a_refinement_head_and_a_checkpoint():
    """Otherwise nothing would be trained, or on random weights."""
    model = Detector("frozen")
    runner = SimpleNamespace(model=model, _has_loaded=False)
    with pytest.raises(ValueError, match="load_from"):
        hook("FreezeDetectorHook").before_train(runner)
    hook("FreezeDetectorHook", untrained=True).before_train(runner)
    del model.bbox_head.refinement_head
    with pytest.raises(ValueError, match="refinement_head"):
        start_training(model)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_channels_last_changes_the_layout_on_a_cpu_and_no_value(device):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2)).to(device)
    values = torch.randn(1, 3, 9, 9, device=device)
    before = model(values)
    hook("ChannelsLastHook").before_run(SimpleNamespace(model=model))
    is_last = model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert is_last == (device == "cpu")
    if device == "cpu":
        torch.testing.assert_close(model(values), before)


def runner_of(model: nn.Module) -> Any:
    """What loads a checkpoint for a test of the model."""
    from mmengine import Config

    settings = {"_load_from": "a.pth", "_train_loop": None, "_resume": False}
    return SimpleNamespace(model=model, cfg=Config(), work_dir=".", **settings)


def test_a_checkpoint_is_saved_plain_and_training_goes_on_from_it(tmp_path):
    """It loads by torch alone; the log's history and the rates of a one-cycle schedule go on."""
    from mmengine.logging import MessageHub
    from mmengine.optim import OneCycleLR

    def schedule() -> tuple[torch.optim.Optimizer, OneCycleLR]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        return optimizer, OneCycleLR(optimizer, eta_max=0.1, total_steps=10, verbose=False)

    def rates(optimizer: torch.optim.Optimizer, scheduler: OneCycleLR, steps: int) -> list[float]:
        values = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            values.append(optimizer.param_groups[0]["lr"])
        return values

    hub = MessageHub("plain_source")
    for value in (3.0, 1.0):
        hub.update_scalar("train/loss", value)
    hub.update_info("best", np.float64(0.5))
    optimizer, scheduler = schedule()
    rates(optimizer, scheduler, 4)
    checkpoint = {"message_hub": hub.state_dict(), "param_schedulers": [scheduler.state_dict()]}
    hook("PlainCheckpointHook").before_save_checkpoint(None, checkpoint)
    model = nn.Linear(1, 1)
    checkpoint.update(optimizer=optimizer.state_dict(), state_dict=model.state_dict())
    torch.save(checkpoint, tmp_path / "plain.pth")
    loaded = torch.load(tmp_path / "plain.pth")
    hook("PlainCheckpointHook").after_load_checkpoint(runner_of(model), loaded)
    restored = MessageHub("plain_target")
    restored.load_state_dict(loaded["message_hub"])
    assert restored.get_scalar("train/loss").data[0].tolist() == [3.0, 1.0]
    assert restored.get_info("best") == 0.5
    resumed_optimizer, resumed = schedule()
    resumed.load_state_dict(loaded["param_schedulers"][0])
    resumed_optimizer.load_state_dict(loaded["optimizer"])
    assert rates(resumed_optimizer, resumed, 5) == rates(optimizer, scheduler, 5)


def test_checkpoints_of_others_pass_through():
    from mmengine.logging import HistoryBuffer

    plain, model = hook("PlainCheckpointHook"), nn.Linear(1, 1)
    buffer = HistoryBuffer([1.0], [1])
    for others in ({}, {"message_hub": {"log_scalars": {"loss": buffer}}}):
        checkpoint = {"state_dict": model.state_dict(), **others}
        expected = dict(checkpoint)
        plain.after_load_checkpoint(runner_of(model), checkpoint)
        assert checkpoint == expected
