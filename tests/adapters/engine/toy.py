"""A model and a data set of numbers, for what a training does around them."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import DATASETS, HOOKS, MODELS
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class ToyData(Dataset):
    """Sixteen points of a noisy plane; with ``augment`` each visit draws from all generators."""

    metainfo: dict[str, Any] = {}  # noqa: RUF012, the host reads it from the class

    def __init__(self, augment: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(16, 3, generator=generator)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0, 0.5])
        self.augment = augment

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        noise = 0.0
        if self.augment:
            noise = random.random() + np.random.random() + float(torch.rand(()))
        return {"inputs": self.inputs[index] + noise, "data_samples": self.targets[index]}


@MODELS.register_module()
class ToyModel(BaseModel):
    """A plane with dropout, trained by the squared error."""

    def __init__(self, dropout: float = 0.0, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.layer = nn.Linear(3, 1)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.zeros_(self.layer.bias)

    def forward(self, inputs: Tensor, data_samples: Tensor, mode: str = "tensor") -> Any:
        heights = self.layer(self.dropout(inputs))[:, 0]
        if mode == "loss":
            return {"loss": (heights - data_samples).square().mean()}
        return heights


@HOOKS.register_module()
class KillHook(Hook):
    """Ends the process without a word in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        if runner.epoch == self.epoch and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
