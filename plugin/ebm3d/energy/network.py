"""The network from pooled features and box to f, and to the outputs of a regression.

The box enters by :mod:`ebm3d.energy.box_features`; the published network is in
:mod:`ebm3d.energy.paper2020_network`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ebm3d.energy.box_features import (
    NUM_BOX_FEATURES,
    NUM_VELOCITY_FEATURES,
    box_features,
    class_shift,
    velocity_features,
)
from ebm3d.errors import check_count, input_error, shape_error
from ebm3d.registry import register


class BoxNetwork(nn.Module):
    """Class-conditioned perceptron on pooled features and the box itself; docs/method.md, M-6.

    The class enters by a learned embedding. Smooth activations, so that f has a curvature.

    Args:
        in_channels: length of the pooled features.
        num_outputs: P.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        hidden_channels: widths of the hidden layers.
        embedding_channels: length of the class embedding.
        velocities: whether boxes have nine columns, with velocities.
    """

    output_std: ClassVar[float] = 0.01  # of the last layer's initial weights

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        mean_sizes: Sequence[Sequence[float]],
        hidden_channels: Sequence[int] = (256, 256),
        embedding_channels: int = 8,
        velocities: bool = False,
    ) -> None:
        super().__init__()
        sizes = torch.as_tensor(mean_sizes, dtype=torch.float32)
        if sizes.ndim != 2 or sizes.shape[1] != 3 or not bool((sizes > 0).all()):
            raise input_error("mean_sizes", "positive, of shape (num_classes, 3)", mean_sizes)
        check_count("in_channels", in_channels)
        check_count("num_outputs", num_outputs)
        check_count("embedding_channels", embedding_channels)
        if not isinstance(hidden_channels, list | tuple):
            raise input_error("hidden_channels", "a list of widths", repr(hidden_channels))
        for width in hidden_channels:
            check_count("hidden_channels", width)
        self.output_shape: tuple[int, ...] = (num_outputs,)
        self.velocities = velocities
        self.register_buffer("log_mean_sizes", torch.log(sizes), persistent=False)
        self.log_mean_sizes: Tensor
        self.register_buffer("class_shift", class_shift(self.log_mean_sizes), persistent=False)
        self.class_shift: Tensor
        self.embedding = nn.Embedding(len(sizes), embedding_channels)
        of_box = NUM_BOX_FEATURES + velocities * NUM_VELOCITY_FEATURES
        widths = [in_channels + of_box + embedding_channels, *hidden_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.SiLU()]
        last = nn.Linear(widths[-1], num_outputs)
        nn.init.normal_(last.weight, std=self.output_std)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    @property
    def num_classes(self) -> int:
        """Rows of ``mean_sizes``."""
        return len(self.log_mean_sizes)

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            pooled: ``(N, S, in_channels)``.
            boxes: ``(N, S, 7)``, sizes positive; ``(N, S, 9)`` with ``velocities``.
            labels: ``(N,)`` class indices, int64, which :class:`ebm3d.energy.BoundNetwork` checks.

        Returns:
            ``(N, S, *output_shape)``.

        Raises:
            ValueError: for another number of columns.
        """
        columns = 9 if self.velocities else 7
        if boxes.shape[-1] != columns:
            raise shape_error("boxes", f"(N, S, {columns})", boxes, "set velocities of the network")
        shift, embedded = (
            table.index_select(0, labels) for table in (self.class_shift, self.embedding.weight)
        )
        embedded = embedded[:, None].expand(-1, boxes.shape[1], -1)
        parts = [pooled, box_features(boxes[..., :7], shift.to(boxes.dtype)), embedded]
        if self.velocities:
            parts.append(velocity_features(boxes))
        outputs: Tensor = self.layers(torch.cat(parts, dim=-1))
        return outputs


@register
class EnergyNetwork(BoxNetwork):
    """A :class:`BoxNetwork` of one output, f ``(N, S)``; arguments as there."""

    output_std = 1e-3

    def __init__(
        self,
        in_channels: int,
        mean_sizes: Sequence[Sequence[float]],
        hidden_channels: Sequence[int] = (256, 256),
        embedding_channels: int = 8,
        velocities: bool = False,
    ) -> None:
        super().__init__(
            in_channels, 1, mean_sizes, hidden_channels, embedding_channels, velocities
        )
        self.output_shape = ()

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return f ``(N, S)``; see :meth:`BoxNetwork.forward`."""
        return super().forward(pooled, boxes, labels).squeeze(-1)


@register
class RegressionNetwork(BoxNetwork):
    """A :class:`BoxNetwork` of the outputs of a box regression."""
