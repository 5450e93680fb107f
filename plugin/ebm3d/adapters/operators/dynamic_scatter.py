"""Features of points to features of the voxels they lie in: sum, mean or maximum.

Glossary: P points; C features of a point; M voxels; D columns of a cell, usually 3.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ebm3d.boxes.kernels import kernels_serve
from ebm3d.errors import input_error, shape_error

__all__ = ["dynamic_point_to_voxel_backward", "dynamic_point_to_voxel_forward"]

_KINDS = ("sum", "mean", "max")


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reduce the features of the points of each voxel.

    Source: ``DynamicPointToVoxelForwardCUDAKernelLauncher`` of mmcv 2.1.0, which has no CPU
    version. Voxels are in ascending order of their cells; points with a negative entry in their
    cell belong to none. Points are added in their order, not with atomics: two calls give the same
    bits. A NaN makes the maximum NaN; mmcv drops it. The host waits once.

    Args:
        feats: features of the points, floating point, shape ``(P, C)``.
        coors: cell of each point, integers, shape ``(P, D)``.
        reduce_type: ``"sum"``, ``"mean"`` or ``"max"``.

    Returns:
        Features of the voxels ``(M, C)``, their cells ``(M, D)``, the voxel of each point or -1
        ``(P,)`` and the number of points in each voxel ``(M,)``, the last two int32.

    Raises:
        ValueError: for another shape, type or reduction, or a grid of 2^63 cells or more.
    """
    if feats.ndim != 2:
        raise shape_error("feats", "(P, C)", feats)
    if not feats.is_floating_point():
        raise input_error("feats", "of a floating-point type", feats.dtype, "pass feats.float()")
    if coors.ndim != 2 or len(coors) != len(feats):
        raise shape_error("coors", f"({len(feats)}, D), a row for each point", coors)
    if reduce_type not in _KINDS:
        raise input_error("reduce_type", f"one of {_KINDS}", repr(reduce_type))
    feats = feats.detach()
    if len(feats) == 0:
        none = coors.new_empty(0, dtype=torch.int32)
        return feats.clone(), coors.clone(), none, none.clone()
    extents = coors.long().amax(dim=0).clamp(min=0) + 1
    keys, order = _keys(coors.long(), extents).sort(stable=True)
    run = pad(keys[1:] != keys[:-1], (1, 0), value=True).cumsum(0) - 1
    counted = torch.stack([run[-1] + 1, (keys < 0).sum()])
    num_runs, num_dropped, *grid = torch.cat([counted, extents]).tolist()
    if math.prod(grid) >= 2**63:
        raise input_error("coors", "cells of a grid of less than 2^63", f"cells of one of {grid}")
    num_without = int(num_dropped > 0)
    run, num = run - num_without, num_runs - num_without
    voxel_of_point = torch.empty_like(run).scatter(0, order, run)
    order = order[num_dropped:]
    bounds = torch.searchsorted(run, torch.arange(num + 1, device=run.device)) - num_dropped
    cells, counts = coors[order[bounds[:-1]]], bounds.diff()
    if reduce_type == "max" and kernels_serve(feats):
        reduced = feats.new_full((num, feats.shape[1]), -torch.inf)
        _maximum(feats.contiguous().numpy(), voxel_of_point.numpy(), reduced.numpy())
    else:
        reduced = torch.segment_reduce(
            feats[order], reduce_type, lengths=counts, axis=0, unsafe=True
        )
    return reduced, cells, voxel_of_point.int(), counts.int()


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: str,
) -> None:
    """Fill ``grad_feats`` ``(P, C)`` with the gradient of the points' features.

    That of a maximum goes to the first point that attains it, as in mmcv. ``coors_idx`` is the
    voxel of each point or -1, ``(P,)``, ``reduce_count`` the points of each voxel, ``(M,)``.
    """
    if len(feats) == 0 or len(reduced_feats) == 0:
        grad_feats.zero_()
        return
    voxel = coors_idx.long().clamp(min=0)
    receives = (coors_idx >= 0)[:, None]
    if reduce_type == "mean":
        grad_reduced_feats = grad_reduced_feats / reduce_count[:, None]
    elif reduce_type == "max" and kernels_serve(grad_feats, grad_reduced_feats, feats):
        tensors = (grad_reduced_feats, feats, reduced_feats, coors_idx)
        _maximum_gradient(grad_feats.numpy(), *(t.detach().contiguous().numpy() for t in tensors))
        return
    elif reduce_type == "max":
        point = torch.arange(len(feats), device=feats.device)[:, None]
        attains = receives & (feats == reduced_feats[voxel])
        points = torch.where(attains, point, len(feats))
        first = point.new_full(reduced_feats.shape, len(feats))
        first.scatter_reduce_(0, voxel[:, None].expand_as(feats), points, "amin")
        receives = attains & (point == first[voxel])
    grad_feats.copy_(torch.where(receives, grad_reduced_feats[voxel], 0.0))


def _keys(coors: Tensor, extents: Tensor) -> Tensor:
    """One number for each cell, in lexicographic order; -1 for cells with a negative entry."""
    keys = torch.zeros_like(coors[:, 0])
    for column in range(coors.shape[1]):
        keys = keys * extents[column] + coors[:, column]
    return torch.where((coors < 0).any(dim=1), -1, keys)


@numba.njit(cache=True)
def _maximum(feats: NDArray[Any], voxel_of_point: NDArray[np.int64], reduced: NDArray[Any]) -> None:
    """Raise the features of each voxel to those of its points."""
    for p in range(len(feats)):
        if voxel_of_point[p] >= 0:
            row = reduced[voxel_of_point[p]]
            for c in range(feats.shape[1]):
                feature = feats[p, c]
                if feature > row[c] or feature != feature:
                    row[c] = feature


@numba.njit(cache=True)
def _maximum_gradient(
    grad_feats: NDArray[Any],
    grad_reduced: NDArray[Any],
    feats: NDArray[Any],
    reduced: NDArray[Any],
    voxel_of_point: NDArray[np.int32],
) -> None:
    """Fill the gradient of the points' features: each voxel's goes to the first that attains it."""
    taken = np.zeros(reduced.shape, dtype=np.bool_)
    for p in range(len(feats)):
        voxel = voxel_of_point[p]
        for c in range(feats.shape[1]):
            goes = voxel >= 0 and feats[p, c] == reduced[voxel, c] and not taken[voxel, c]
            grad_feats[p, c] = grad_reduced[voxel, c] if goes else 0.0
            if goes:
                taken[voxel, c] = True
