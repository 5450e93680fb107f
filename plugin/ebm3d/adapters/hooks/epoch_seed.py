"""The same random numbers in an epoch, whatever ran before it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch.utils.data import Dataset, get_worker_info

from ebm3d.errors import input_error


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed every epoch by (seed, epoch, rank), so that a resumed training repeats a whole one.

    mmengine seeds once, at the start; after a resume the generators stand elsewhere than in a
    training that was never stopped, and data workers that are started anew for every epoch would
    augment each epoch alike. This hook seeds Python, numpy and torch at the start of each
    training epoch, and each data worker when it starts by (seed, epoch, rank, worker). The
    ground-truth sampler, which walks through a shuffled list, starts each epoch with a fresh
    shuffle. Order in the hook list does not matter; the sampler's own shuffle is mmengine's and
    depends on (seed, epoch) already.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed this process, and prepare the seeds of the workers it is about to start."""
        loader = runner.train_dataloader
        if getattr(loader, "persistent_workers", False):
            raise input_error(
                "train_dataloader.persistent_workers",
                "False where EpochSeedHook is used",
                "True",
                "workers that live on keep random numbers that a resumed training cannot have",
            )
        entropy = (runner.seed, runner.epoch, get_rank())
        seed_everything(entropy)
        reset_object_samplers(loader.dataset)
        if loader.num_workers:
            loader.worker_init_fn = _WorkerSeed(entropy)


class _WorkerSeed:
    """Seeds a data worker; built anew for every epoch."""

    def __init__(self, entropy: tuple[int, ...]) -> None:
        self._entropy = entropy

    def __call__(self, worker_id: int) -> None:
        """Seed the worker ``worker_id`` and shuffle its object samplers."""
        torch.set_num_threads(1)
        seed_everything((*self._entropy, worker_id + 1))
        info = get_worker_info()
        if info is not None:
            reset_object_samplers(info.dataset)


def seed_everything(entropy: tuple[int, ...]) -> None:
    """Seed Python's, numpy's and torch's global generators from several non-negative integers."""
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))


def reset_object_samplers(dataset: Dataset[Any]) -> None:
    """Start the host's ground-truth samplers of a dataset afresh, in a new random order.

    Args:
        dataset: the dataset of a data loader, with its wrappers (repeated, concatenated,
            class-balanced).
    """
    for leaf in _leaves(dataset):
        for transform in getattr(getattr(leaf, "pipeline", None), "transforms", ()):
            samplers = getattr(getattr(transform, "db_sampler", None), "sampler_dict", {})
            for sampler in samplers.values():
                sampler._indices = np.random.permutation(len(sampler._sampled_list))
                sampler._idx = 0


def _leaves(dataset: Any) -> Iterator[Any]:
    """The datasets inside a dataset's wrappers."""
    if hasattr(dataset, "dataset"):
        yield from _leaves(dataset.dataset)
    elif hasattr(dataset, "datasets"):
        for part in dataset.datasets:
            yield from _leaves(part)
    else:
        yield dataset
