"""The operators against what the compiled ones of mmcv 2.1.0 gave.

``tests/golden/make_mmcv_operators.py`` made the record; those without a twin on a CPU are compared
with slow implementations in the tests of their files alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.adapters.operators import calls
from tests.adapters.operators.calls import ops
from tests.golden import mmcv_operator_inputs as inputs
from tests.oracles.iou_rational import rational_iou

Array = NDArray[np.generic]

_RECORD = Path(__file__).parents[2] / "golden" / "mmcv_operators.npz"
with np.load(_RECORD) as file:
    RECORD: dict[str, Array] = dict(file)
_SCENE = inputs.scene_points(RECORD)
_CLOUDS, _POINTS = inputs.voxel_cases(_SCENE), inputs.points_and_boxes(_SCENE)
_SUPPRESSIONS, _PAIRS = inputs.suppression_cases(), inputs.iou_pairs()
_CONVOLUTIONS = inputs.deform_cases()
thresholds = pytest.mark.parametrize("threshold", inputs.THRESHOLDS)


pytestmark = pytest.mark.usefixtures("path")


def digest(tensor: Tensor) -> str:
    """As the record's, SHA-256 of the bytes."""
    return hashlib.sha256(np.ascontiguousarray(tensor.numpy()).tobytes()).hexdigest()


@pytest.mark.parametrize("name", _CLOUDS)
def test_voxels_cells_and_counts_are_identical(name):
    case = _CLOUDS[name]
    arguments = (case.size, case.bounds, case.max_points, case.max_voxels)
    voxels, cells, counts = calls.voxelize(torch.from_numpy(case.points), *arguments)
    np.testing.assert_array_equal(cells, RECORD[f"hard/{name}/cells"])
    np.testing.assert_array_equal(counts, RECORD[f"hard/{name}/counts"])
    assert digest(voxels) == RECORD[f"hard/{name}/voxels"]
    cells = calls.voxelize_dynamically(torch.from_numpy(case.points), case.size, case.bounds)
    assert digest(cells) == RECORD[f"dynamic/{name}"]


def ranked_scores(name: str) -> Tensor:
    """Scores without ties, in the order that mmcv gave them: that of ties is a processor's."""
    order = torch.from_numpy(RECORD[f"order/{name}"]).long()
    return torch.empty(len(order)).index_copy(0, order, torch.arange(len(order), 0.0, -1.0))


@thresholds
@pytest.mark.parametrize("name", _SUPPRESSIONS)
def test_rotated_boxes_that_stay_are_identical(name, threshold):
    case = _SUPPRESSIONS[name]
    labels = None if case.labels is None else torch.from_numpy(case.labels)
    kept = calls.rotated_nms(torch.from_numpy(case.boxes), ranked_scores(name), threshold, labels)
    recorded = RECORD[f"nms_rotated/{name}/{threshold}"]
    if (name, threshold) == ("each box five times", 1.0):
        # mmcv's IoU of a box with itself is 1 - 6e-8 for some boxes, which then stay.
        assert len(kept) == 60
        assert set(kept.tolist()) < set(recorded.tolist())
    else:
        np.testing.assert_array_equal(kept, recorded)


@pytest.mark.parametrize("offset", [0, 1])
@thresholds
@pytest.mark.parametrize("name", _SUPPRESSIONS)
def test_upright_boxes_that_stay_are_identical(name, threshold, offset):
    boxes = torch.from_numpy(inputs.corners(_SUPPRESSIONS[name].boxes))
    kept = calls.nms(boxes, ranked_scores(name), threshold, offset)
    np.testing.assert_array_equal(kept, RECORD[f"nms/{name}/{threshold}/{offset}"])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("name", _PAIRS)
def test_iou_is_that_of_mmcv_or_exact_where_mmcv_errs(name, mode, aligned):
    first, second = (torch.from_numpy(boxes) for boxes in _PAIRS[name])
    ious = ops.box_iou_rotated(first, second, mode, aligned).numpy()
    far = np.abs(ious - RECORD[f"iou/{name}/{mode}/{aligned}"]) > 1e-6
    if name == "degenerate":
        # A box in the corner of another: mmcv drops a vertex of the common polygon, in one pair.
        assert set(np.argwhere(far)[:, -1]) == {33}
    else:
        assert not far.any()


def test_the_pair_in_which_mmcv_errs_is_exact_here():
    first, second = (boxes[33].astype(np.float64) for boxes in _PAIRS["degenerate"])
    exact = rational_iou(np.insert(first, (2, 4), 1.0), np.insert(second, (2, 4), 1.0))[0]
    boxes = [torch.from_numpy(box[None]) for box in (first, second)]
    assert ops.box_iou_rotated(*boxes, "iou", aligned=True).item() == pytest.approx(
        exact, abs=1e-12
    )
    assert abs(RECORD["iou/degenerate/iou/True"][33] - exact) > 0.02


@pytest.mark.parametrize("name", _POINTS)
def test_points_inside_are_identical(name, path):
    points, boxes = (torch.from_numpy(array) for array in _POINTS[name])
    inside = calls.points_in_boxes(points, boxes, path).numpy().astype(bool)
    np.testing.assert_array_equal(np.packbits(inside), RECORD[f"points/{name}"])


@pytest.mark.parametrize("name", _CONVOLUTIONS)
def test_deformable_convolutions_and_gradients_are_those_of_mmcv(name):
    case = _CONVOLUTIONS[name]
    leaves = {
        part: torch.tensor(getattr(case, part), requires_grad=True)
        for part in ("maps", "offsets", "kernels")
    }
    geometry = (case.stride, case.padding, case.dilation, case.groups, case.offset_groups)
    output = ops.deform_conv2d(*leaves.values(), *geometry)
    output.backward(torch.from_numpy(case.grad))
    results = {"output": output.detach(), **{part: leaf.grad for part, leaf in leaves.items()}}
    for part, values in results.items():
        recorded = RECORD[f"deform/{name}/{part}"]
        np.testing.assert_allclose(values, recorded, rtol=0.0, atol=1e-12)
        assert np.abs(recorded).max() > 1.0
