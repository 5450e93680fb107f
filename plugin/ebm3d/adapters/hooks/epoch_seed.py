"""The same random numbers in an epoch, whatever ran before it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch.utils.data import get_worker_info

from ebm3d.errors import input_error


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed every epoch by (seed, epoch, rank), so that a resumed training repeats a whole one.

    mmengine seeds once, at the start. This hook seeds Python, numpy and torch for each training
    epoch, each data worker by (seed, epoch, rank, worker), and shuffles the ground-truth sampler.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed this process and the workers it is about to start; persistent ones are refused."""
        loader = runner.train_dataloader
        if getattr(loader, "persistent_workers", False):
            expected = "False where EpochSeedHook is used"
            raise input_error("train_dataloader.persistent_workers", expected, "True")
        entropy = (runner.seed, runner.epoch, get_rank())
        _seed(entropy, loader.dataset)
        if loader.num_workers:
            loader.worker_init_fn = partial(_seed_worker, entropy)


def _seed_worker(entropy: tuple[int, ...], worker_id: int) -> None:
    """Seed a data worker."""
    torch.set_num_threads(1)
    info = get_worker_info()
    _seed((*entropy, worker_id + 1), None if info is None else info.dataset)


def _seed(entropy: tuple[int, ...], dataset: Any) -> None:
    """Seed the global generators, and shuffle the host's ground-truth samplers of a data set."""
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
    for part in _unwrapped(dataset):
        for transform in getattr(getattr(part, "pipeline", None), "transforms", ()):
            samplers = getattr(getattr(transform, "db_sampler", None), "sampler_dict", {})
            for sampler in samplers.values():
                sampler._indices = np.random.permutation(len(sampler._sampled_list))
                sampler._idx = 0


def _unwrapped(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers (repeated, concatenated, class-balanced)."""
    if hasattr(dataset, "dataset"):
        yield from _unwrapped(dataset.dataset)
    elif hasattr(dataset, "datasets"):
        for part in dataset.datasets:
            yield from _unwrapped(part)
    else:
        yield dataset
