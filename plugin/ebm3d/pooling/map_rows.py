"""Maps as rows of channels, projected where they are read: for kernels on a CPU.

B scenes; C channels of the map; C' of the rows; H, W rows (y) and columns (x).
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor, nn

from ebm3d.boxes.kernels import Array, kernels_serve
from ebm3d.pooling.bilinear import bilinear_gather
from ebm3d.pooling.geometry import stack_maps
from ebm3d.pooling.scene import MAX_CACHED
from ebm3d.pooling.stacked_maps import StackedMaps


def read_maps(
    bev: Tensor, projection: nn.Linear | None, scene_index: Tensor
) -> MapRows | StackedMaps:
    """Prepare maps ``(B, C, H, W)`` to be read: by kernels where they serve, else by torch."""
    if kernels_serve(bev):
        return MapRows(bev, projection, scene_index)
    return StackedMaps(bev, projection, scene_index)


class MapRows:
    """Rows of channels ``(B * H * W, C')`` of maps ``(B, C, H, W)``.

    Without gradients a row is computed when it is first read: fifty boxes read a tenth of the stock
    map, and projecting all of it would cost more than reading. Otherwise all rows are computed
    here, differentiable in map and projection.

    Args:
        bev: ``(B, C, H, W)``.
        projection: from C to C' channels; None leaves the channels as they are.
        scene_index: ``(N,)`` frame of each box.

    Attributes:
        shape: ``(B, H, W)``.
        scale, shift: from cells (column, row) to the coordinates :meth:`read` takes.
        evaluations_at_once: see :class:`ebm3d.pooling.BoxPool`.
    """

    scale, shift = (1.0, 1.0), (0.0, 0.0)
    evaluations_at_once = MAX_CACHED

    def __init__(self, bev: Tensor, projection: nn.Linear | None, scene_index: Tensor) -> None:
        self._scene_index = scene_index
        self.shape = (bev.shape[0], bev.shape[2], bev.shape[3])
        self._bev, self._projection = bev, projection
        self._known: Tensor | None = None
        if not torch.is_grad_enabled():
            count = math.prod(self.shape)
            channels = bev.shape[1] if projection is None else projection.out_features
            self._rows = bev.new_empty(count, channels)
            self._known = torch.zeros(count, dtype=torch.bool)
        elif projection is None:
            self._rows = stack_maps(bev)
        else:
            # Frame by frame, so that the matrix product reads the map where it lies.
            self._rows = torch.cat([projection(frame.flatten(1).t()) for frame in bev])

    def read(self, positions: Tensor) -> Tensor:
        """Return ``(N, S, C' * G)`` at positions ``(N, S, G, 2)``, columns and rows.

        Zero outside, NaN where a position is not finite.
        """
        scene = self._scene_index[:, None, None].expand(positions.shape[:3]).reshape(-1)
        cells = positions.reshape(-1, 2)
        pooled = bilinear_gather(self.around(cells, scene), self.shape, cells, scene)
        channels = self._rows.shape[1]
        return pooled.view(*positions.shape[:3], channels).transpose(2, 3).flatten(2)

    def around(self, cells: Tensor, scene: Tensor) -> Tensor:
        """Return the rows ``(B * H * W, C')``, filled in at least around positions.

        Args:
            cells: ``(P, 2)`` column and row.
            scene: ``(P,)`` int64.
        """
        if self._known is None:
            return self._rows
        with torch.no_grad():
            arrays = (t.detach().contiguous().numpy() for t in (cells, scene))
            missing = torch.from_numpy(claim_kernel(*arrays, *self.shape[1:], self._known.numpy()))
            area = self.shape[1] * self.shape[2]
            for index, frame in enumerate(self._bev if len(missing) else ()):
                in_frame = torch.div(missing, area, rounding_mode="floor") == index
                rows = missing[in_frame]
                channels = frame.flatten(1).index_select(1, rows - index * area).t()
                self._rows[rows] = self._projection(channels) if self._projection else channels
        return self._rows


@numba.njit(cache=True, nogil=True)
def claim_kernel(cells: Array, scene: Array, height: int, width: int, known: Array) -> Array:
    """Mark the rows around positions ``(P, 2)`` as known; return those that were not."""
    missing = np.empty(4 * len(cells), np.int64)
    count = 0
    for p in range(len(cells)):
        column, row = cells[p, 0], cells[p, 1]
        if not (-1 < column < width and -1 < row < height):
            continue
        low, left = math.floor(row), math.floor(column)
        for k in range(4):
            r, c = int(low) + k // 2, int(left) + k % 2
            if 0 <= r < height and 0 <= c < width:
                source = (scene[p] * height + r) * width + c
                if not known[source]:
                    known[source] = True
                    missing[count] = source
                    count += 1
    return missing[:count].copy()
