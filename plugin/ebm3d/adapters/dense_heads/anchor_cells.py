"""What a 1x1 convolution gives at some anchors, computed at their cells alone.

B frames; C channels; H, W rows (y) and columns (x) of a map; A anchors in each cell (the host's
base priors); P outputs per anchor; N anchors, numbered frame by frame, row by row, column by
column, the anchors of a cell last: the host's order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def anchor_outputs(bev: Tensor, conv: nn.Conv2d, anchors: Tensor, num_base_priors: int) -> Tensor:
    """Return a convolution's outputs at some anchors, in float32.

    The same numbers as those of the convolved map (up to rounding), at the cost of N cells. Every
    cell's outputs are computed for all its A anchors and the wanted one is taken: one matrix
    product is faster than gathering the N slices of the weight. docs/method.md, M-19.

    Args:
        bev: ``(B, C, H, W)``.
        conv: 1x1, from C to A * P channels, anchor by anchor.
        anchors: indices ``(N,)`` int64, in [0, B * H * W * A).
        num_base_priors: A.

    Returns:
        ``(N, P)``, differentiable in the map and in the convolution's parameters.
    """
    height, width = bev.shape[2:]
    cells = torch.div(anchors, num_base_priors, rounding_mode="floor")
    rows = torch.div(cells, width, rounding_mode="floor")
    frames = torch.div(rows, height, rounding_mode="floor")
    features = bev[frames, :, rows % height, cells % width]
    bias = None if conv.bias is None else conv.bias.float()
    outputs = functional.linear(features.float(), conv.weight.flatten(1).float(), bias)
    rows_of_anchors = torch.arange(len(anchors), device=anchors.device)
    return outputs.unflatten(1, (num_base_priors, -1))[rows_of_anchors, anchors % num_base_priors]
