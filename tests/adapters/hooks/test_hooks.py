"""Seeds of an epoch, the frozen detector, the layout of weights."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


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


def runner_of(seed: int, epoch: int, **loader: Any) -> Any:
    """What the hook reads of a runner."""
    loader = {"dataset": Pipeline(), "num_workers": 0, "persistent_workers": False, **loader}
    return SimpleNamespace(seed=seed, epoch=epoch, train_dataloader=SimpleNamespace(**loader))


def test_an_epoch_starts_from_its_own_seed_whatever_came_before() -> None:
    """The same epoch draws the same numbers; another epoch or seed draws others."""
    from ebm3d.adapters.hooks import EpochSeedHook

    drawn = {}
    for key in ((0, 3), (0, 4), (1, 3), (0, 3)):
        draw()
        EpochSeedHook().before_train_epoch(runner_of(*key))
        numbers = draw()
        assert drawn.setdefault(key, numbers) == numbers
    assert len({value for numbers in drawn.values() for value in numbers}) == 9


def test_workers_of_an_epoch_draw_apart() -> None:
    """Worker 0, worker 1 and the main process have seeds of their own."""
    from ebm3d.adapters.hooks import EpochSeedHook

    threads = torch.get_num_threads()
    runner = runner_of(0, 2, num_workers=2)
    EpochSeedHook().before_train_epoch(runner)
    drawn = [draw()]
    for worker in (0, 1, 0):
        runner.train_dataloader.worker_init_fn(worker)
        drawn.append(draw())
    torch.set_num_threads(threads)
    assert len(set(drawn)) == 3
    assert drawn[1] == drawn[3]


def test_object_samplers_start_each_epoch_in_a_new_order() -> None:
    """A permutation that the epoch decides, from its first entry on; wrapped data sets too."""
    from ebm3d.adapters.hooks import EpochSeedHook

    orders = []
    for epoch in (0, 1, 0):
        leaf = Pipeline()
        wrapped = SimpleNamespace(dataset=SimpleNamespace(datasets=[leaf]))
        EpochSeedHook().before_train_epoch(runner_of(0, epoch, dataset=wrapped))
        assert leaf.sampler._idx == 0
        assert sorted(leaf.sampler._indices) == list(range(20))
        orders.append(tuple(leaf.sampler._indices))
    assert orders[0] == orders[2] != orders[1]


def test_persistent_workers_are_refused() -> None:
    """They would keep generators that a resumed training cannot have."""
    from ebm3d.adapters.hooks import EpochSeedHook

    with pytest.raises(ValueError, match="persistent_workers"):
        EpochSeedHook().before_train_epoch(runner_of(0, 0, persistent_workers=True))


class Detector(nn.Module):
    """A backbone and a head with a refinement head in it."""

    def __init__(self, detector: str) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.bbox_head = nn.Module()
        self.bbox_head.detector = detector
        self.bbox_head.conv = nn.Conv2d(4, 2, 1)
        self.bbox_head.refinement_head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def trained(model: nn.Module) -> set[str]:
    """Names of the parameters that learn."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def epoch_of(model: nn.Module) -> None:
    """What a training loop does before the first batch of an epoch."""
    from ebm3d.adapters.hooks import FreezeDetectorHook

    hook, runner = FreezeDetectorHook(), SimpleNamespace(model=model)
    hook.before_run(runner)
    model.train()
    hook.before_train_iter(runner, 0)


def test_a_frozen_detector_keeps_parameters_and_statistics() -> None:
    """Everything outside the refinement head stands still; the head learns."""
    model = Detector("frozen")
    epoch_of(model)
    assert {name.split(".")[1] for name in trained(model)} == {"refinement_head"}
    assert not model.backbone[1].training
    assert model.bbox_head.refinement_head[1].training


def test_the_next_epoch_is_frozen_too() -> None:
    """The loop turns the model to training mode again after each validation."""
    model = Detector("frozen")
    epoch_of(model)
    model.eval()
    epoch_of(model)
    assert not model.backbone[1].training
    assert model.bbox_head.refinement_head[1].training


def test_a_joint_detector_learns_everything() -> None:
    """The hook does nothing."""
    model = Detector("joint")
    epoch_of(model)
    assert len(trained(model)) == len(list(model.parameters()))
    assert model.backbone[1].training


def test_a_frozen_detector_without_a_refinement_head_is_refused() -> None:
    """Nothing would be trained."""
    model = Detector("frozen")
    del model.bbox_head.refinement_head
    with pytest.raises(ValueError, match="refinement_head"):
        epoch_of(model)


def test_channels_last_changes_the_layout_and_no_value() -> None:
    """Convolutions are laid out anew; outputs agree to rounding."""
    from ebm3d.adapters.hooks import ChannelsLastHook

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2))
    values = torch.randn(1, 3, 9, 9)
    before = model(values)
    ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(values), before)


def test_channels_last_is_for_the_cpu() -> None:
    """Elsewhere, here on meta, the layout stays as it is."""
    from ebm3d.adapters.hooks import ChannelsLastHook

    model = nn.Sequential(nn.Conv2d(3, 8, 3)).to("meta")
    ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous()
