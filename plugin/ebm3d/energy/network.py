"""Networks from pooled features and box to the unnormalized log density f (energy E = -f).

The same network with more outputs serves the regressions of a second stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ebm3d.energy.box_features import NUM_BOX_FEATURES, box_features, class_shift
from ebm3d.errors import check_count, input_error, shape_error
from ebm3d.registry import register


class BoxNetwork(nn.Module):
    """Class-conditioned perceptron on pooled features and the box itself.

    The box enters by :func:`ebm3d.energy.box_features.box_features`: the observation angle tells
    which faces can have been seen; the class enters by a learned embedding. Source: our own
    (docs/method.md, M-6); smooth activations, so that f has a curvature.

    Args:
        in_channels: length of the pooled features.
        num_outputs: P.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        hidden_channels: widths of the hidden layers.
        embedding_channels: length of the class embedding.
        output_std: standard deviation of the last layer's initial weights.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        mean_sizes: Sequence[Sequence[float]],
        hidden_channels: Sequence[int],
        embedding_channels: int,
        output_std: float,
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
        self.register_buffer("log_mean_sizes", torch.log(sizes), persistent=False)
        self.log_mean_sizes: Tensor
        self.register_buffer("class_shift", class_shift(self.log_mean_sizes), persistent=False)
        self.class_shift: Tensor
        self.embedding = nn.Embedding(len(sizes), embedding_channels)
        widths = [in_channels + NUM_BOX_FEATURES + embedding_channels, *hidden_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.SiLU()]
        last = nn.Linear(widths[-1], num_outputs)
        nn.init.normal_(last.weight, std=output_std)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    @property
    def num_classes(self) -> int:
        """Number of classes the network was made for."""
        return len(self.log_mean_sizes)

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            pooled: ``(N, S, in_channels)``.
            boxes: ``(N, S, 7)``, sizes positive.
            labels: ``(N,)`` class indices, int64, below :attr:`num_classes`, which is not checked
                here but once where scenes are bound (:class:`ebm3d.energy.BoundNetwork`).

        Returns:
            ``(N, S, *output_shape)``.
        """
        tables = self.class_shift, self.embedding.weight
        shift, embedded = (table.index_select(0, labels) for table in tables)
        embedded = embedded[:, None].expand(-1, boxes.shape[1], -1)
        parts = (pooled, box_features(boxes, shift.to(boxes.dtype)), embedded)
        values: Tensor = self.layers(torch.cat(parts, dim=-1))
        return values


@register
class EnergyNetwork(BoxNetwork):
    """The network of :class:`BoxNetwork` with one output, f.

    Args:
        in_channels: length of the pooled features.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        hidden_channels: widths of the hidden layers.
        embedding_channels: length of the class embedding.
    """

    def __init__(
        self,
        in_channels: int,
        mean_sizes: Sequence[Sequence[float]],
        hidden_channels: Sequence[int] = (256, 256),
        embedding_channels: int = 8,
    ) -> None:
        super().__init__(in_channels, 1, mean_sizes, hidden_channels, embedding_channels, 1e-3)
        self.output_shape = ()

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Evaluate f; arguments and errors as :meth:`BoxNetwork.forward`.

        Args:
            pooled: ``(N, S, in_channels)``.
            boxes: ``(N, S, 7)``, sizes positive.
            labels: ``(N,)``.

        Returns:
            ``(N, S)`` unnormalized log densities.
        """
        return super().forward(pooled, boxes, labels).squeeze(-1)


@register
class RegressionNetwork(BoxNetwork):
    """The network of :class:`BoxNetwork` with the outputs of a box regression.

    Args:
        in_channels: length of the pooled features.
        num_outputs: P of the regression.
        mean_sizes: ``(num_classes, 3)`` mean length, width, height per class, meters.
        hidden_channels: widths of the hidden layers.
        embedding_channels: length of the class embedding.
    """

    def __init__(
        self,
        in_channels: int,
        num_outputs: int,
        mean_sizes: Sequence[Sequence[float]],
        hidden_channels: Sequence[int] = (256, 256),
        embedding_channels: int = 8,
    ) -> None:
        super().__init__(
            in_channels, num_outputs, mean_sizes, hidden_channels, embedding_channels, 0.01
        )


@register
class Paper2020EnergyNetwork(nn.Module):
    """The network of the 2020 paper.

    Pooled features, and the bottom z and the height of the box through a two-layer branch each,
    into two hidden layers of 1024. Source: Gustafsson et al. 2020; docs/method.md, M-6. Kaiming
    uniform with a = 1, as published; the class does not enter.

    Args:
        in_channels: length of the pooled features (7168 in the paper).
        hidden_channels: width of the two hidden layers.
        branch_channels: width of the z and height branches.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 1024, branch_channels: int = 16
    ) -> None:
        super().__init__()
        self.output_shape: tuple[int, ...] = ()
        self.num_classes: int | None = None

        def branch() -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(1, branch_channels),
                nn.ReLU(),
                nn.Linear(branch_channels, branch_channels),
                nn.ReLU(),
            )

        self.z_branch, self.height_branch = branch(), branch()
        self.first = nn.Linear(in_channels + 2 * branch_channels, hidden_channels)
        self.second = nn.Linear(hidden_channels, hidden_channels)
        self.last = nn.Linear(hidden_channels, 1)
        for layer in (self.first, self.second):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Evaluate f; arguments as in :meth:`EnergyNetwork.forward`, ``labels`` unused.

        Args:
            pooled: ``(N, S, in_channels)``.
            boxes: ``(N, S, 7)``.
            labels: ``(N,)``.

        Returns:
            ``(N, S)`` unnormalized log densities.

        Raises:
            ValueError: if ``pooled`` has another length than the network was made for.
        """
        expected = self.first.in_features - 2 * self.z_branch[2].out_features  # type: ignore[operator]
        if pooled.shape[-1] != expected:
            raise shape_error("pooled", f"(N, S, {expected})", pooled)
        extra = (self.z_branch(boxes[..., 2:3]), self.height_branch(boxes[..., 5:6]))
        hidden = torch.relu(self.first(torch.cat((pooled, *extra), dim=-1)))
        values: Tensor = self.last(torch.relu(self.second(hidden)))
        return values.squeeze(-1)
