"""Record what the compiled operators of mmcv 2.1.0 give on a CPU.

Run from the top of the repository with a Python that has a compiled mmcv 2.1.0::

    PYTHONPATH=plugin:. python tests/golden/make_mmcv_operators.py

writes ``tests/golden/mmcv_operators.npz``. Arrays of voxels are recorded by their SHA-256; the
simulated scene, which the last bits of a sine may change, is recorded as it was.
``dynamic_point_to_voxel``, ``sigmoid_focal_loss``, ``points_in_boxes_part`` and ``_all`` have no
compiled twin on a CPU.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmcv.ops import (
    box_iou_rotated,
    deform_conv2d,
    nms,
    nms_rotated,
    points_in_boxes_cpu,
    voxelization,
)

from ebm3d.simulation import simulate_frame
from tests.golden.mmcv_operator_inputs import (
    SCENE_SCALE,
    THRESHOLDS,
    Array,
    corners,
    deform_cases,
    iou_pairs,
    points_and_boxes,
    scene_points,
    suppression_cases,
    voxel_cases,
)

RECORD = Path(__file__).with_name("mmcv_operators.npz")
_SCENE_POINTS = 5_000


def digest(array: Array) -> str:
    """SHA-256 of an array's bytes, little end first."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def main() -> None:
    """Run every operator on every case."""
    spec = find_spec("mmcv._ext")
    if spec is None or not str(spec.origin).endswith((".so", ".pyd")):
        raise SystemExit("mmcv is not compiled here: the record would compare ebm3d with itself")
    points = simulate_frame(np.random.default_rng(5)).points[:, :3]
    near = points[np.linspace(0, len(points) - 1, _SCENE_POINTS).astype(int)]
    record: dict[str, Array] = {"scene": np.round(near * SCENE_SCALE).astype(np.int16)}
    scene = scene_points(record)
    for name, case in voxel_cases(scene).items():
        cloud = torch.from_numpy(case.points)
        voxels, cells, counts = voxelization(
            cloud, case.size, case.bounds, case.max_points, case.max_voxels
        )
        record[f"hard/{name}/voxels"] = np.array(digest(voxels.numpy()))
        record[f"hard/{name}/cells"] = cells.numpy().astype(np.int16)
        record[f"hard/{name}/counts"] = counts.numpy().astype(np.int8)
        cells = voxelization(cloud, case.size, case.bounds, -1, -1)
        record[f"dynamic/{name}"] = np.array(digest(cells.numpy()))
    for name, (first, second) in iou_pairs().items():
        for mode in ("iou", "iof"):
            for aligned in (True, False):
                ious = box_iou_rotated(
                    torch.from_numpy(first), torch.from_numpy(second), mode, aligned
                )
                record[f"iou/{name}/{mode}/{aligned}"] = ious.numpy()
    for name, case in suppression_cases().items():
        boxes, scores = torch.from_numpy(case.boxes), torch.from_numpy(case.scores)
        labels = None if case.labels is None else torch.from_numpy(case.labels)
        flat = torch.from_numpy(corners(case.boxes))
        # Both sort by an unstable sort, whose order of equal scores depends on the processor.
        order = scores.sort(0, descending=True).indices
        record[f"order/{name}"] = order.numpy().astype(np.int16)
        for threshold in THRESHOLDS:
            kept = nms_rotated(boxes, scores, threshold, labels)[1]
            record[f"nms_rotated/{name}/{threshold}"] = kept.numpy().astype(np.int16)
            for offset in (0, 1):
                kept = nms(flat, scores, threshold, offset)[1]
                record[f"nms/{name}/{threshold}/{offset}"] = kept.numpy().astype(np.int16)
    for name, (cloud, boxes) in points_and_boxes(scene).items():
        inside = points_in_boxes_cpu(torch.from_numpy(cloud)[None], torch.from_numpy(boxes)[None])
        record[f"points/{name}"] = np.packbits(inside[0].numpy().astype(bool))
    for name, case in deform_cases().items():
        leaves = [
            torch.tensor(a, requires_grad=True) for a in (case.maps, case.offsets, case.kernels)
        ]
        geometry = (case.stride, case.padding, case.dilation, case.groups, case.offset_groups)
        output = deform_conv2d(*leaves, *geometry)
        output.backward(torch.from_numpy(case.grad))
        record[f"deform/{name}/output"] = output.detach().numpy()
        for part, leaf in zip(("maps", "offsets", "kernels"), leaves, strict=True):
            record[f"deform/{name}/{part}"] = leaf.grad.numpy()
    np.savez_compressed(RECORD, **record)
    print(f"{RECORD}: {len(record)} arrays, {RECORD.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
