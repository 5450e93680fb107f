"""The published network from pooled features, z and height to f."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm3d.errors import shape_error
from ebm3d.registry import register


@register
class Paper2020EnergyNetwork(nn.Module):
    """The network of the 2020 paper.

    Pooled features, and the bottom z and the height of the box through a two-layer branch each,
    into two hidden layers. Source: Gustafsson et al. 2020; docs/method.md, M-6. Kaiming uniform
    with a = 1, as published; the class does not enter.

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
        self.in_channels = in_channels
        self.z_branch, self.height_branch = _branch(branch_channels), _branch(branch_channels)
        self.first = nn.Linear(in_channels + 2 * branch_channels, hidden_channels)
        self.second = nn.Linear(hidden_channels, hidden_channels)
        self.last = nn.Linear(hidden_channels, 1)
        for layer in (self.first, self.second):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(self.last.bias)

    def forward(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return f ``(N, S)``.

        Args:
            pooled: ``(N, S, in_channels)``.
            boxes: ``(N, S, 7)``.
            labels: ``(N,)``, unused.

        Raises:
            ValueError: if ``pooled`` has another length than the network was made for.
        """
        if pooled.shape[-1] != self.in_channels:
            raise shape_error("pooled", f"(N, S, {self.in_channels})", pooled)
        branches = self.z_branch(boxes[..., 2:3]), self.height_branch(boxes[..., 5:6])
        hidden = torch.relu(self.first(torch.cat((pooled, *branches), dim=-1)))
        f: Tensor = self.last(torch.relu(self.second(hidden)))
        return f.squeeze(-1)


def _branch(channels: int) -> nn.Sequential:
    """Two layers on one number."""
    return nn.Sequential(
        nn.Linear(1, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()
    )
