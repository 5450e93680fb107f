"""mmcv's operators without a compiler: the module ``mmcv._ext`` of mmcv 2.1.0, in torch and numba.

``mmcv-lite`` carries ``mmcv.ops`` in Python; each function there calls ``mmcv._ext.NAME`` with the
tensors to fill. The functions of this package have those names and arguments and sit behind
``mmcv.ops``, which stays untouched; ``_ebm3d_operators`` finds them where no compiled module is.
Each has one rule for every device: numba on a CPU where that is faster, torch elsewhere,
deterministic. What reads a value of the device on the host says so.

Who calls them, in mmdet3d 1.4.0:

* ``hard_voxelize_forward``, ``dynamic_voxelize_forward``: the data preprocessor of every detector
  on voxels or pillars;
* ``dynamic_point_to_voxel_forward`` and ``_backward``: the encoders of dynamic voxels and pillars;
* ``nms_rotated``, ``nms``: ``box3d_multiclass_nms`` (SECOND, PointPillars, FreeAnchor, SSN) and
  CenterPoint's rotated NMS; its circle NMS is the host's own, in numba;
* ``box_iou_rotated``: ``overlaps`` of the box structures, with it ``BboxOverlaps3D``;
* ``points_in_boxes_part_forward``, ``_all_forward``, ``_cpu_forward``: methods of the box
  structures, and ``mmcv.ops.points_in_boxes_cpu``;
* ``sigmoid_focal_loss_forward`` and ``_backward``: ``FocalLoss`` on CUDA;
* ``deform_conv_forward`` and its two ``_backward``: CenterPoint's head with dcn;
* ``get_compiler_version``, ``get_compiling_cuda_version``: ``collect_env``.

``ObjectSample``, ``ObjectRangeFilter`` and the ground-truth database of ``create_data`` call none
of mmcv's operators. ``missing.py`` lists those of mmcv 2.1.0 that are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ebm3d.adapters.operators.box_iou_rotated import box_iou_rotated
from ebm3d.adapters.operators.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
)
from ebm3d.adapters.operators.dynamic_scatter import (
    dynamic_point_to_voxel_backward,
    dynamic_point_to_voxel_forward,
)
from ebm3d.adapters.operators.dynamic_voxelize import dynamic_voxelize_forward
from ebm3d.adapters.operators.hard_voxelize import hard_voxelize_forward
from ebm3d.adapters.operators.nms import nms
from ebm3d.adapters.operators.nms_rotated import nms_rotated
from ebm3d.adapters.operators.points_in_boxes import (
    points_in_boxes_all_forward,
    points_in_boxes_cpu_forward,
    points_in_boxes_part_forward,
)
from ebm3d.adapters.operators.sigmoid_focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
)


def get_compiler_version() -> str:
    """What ``collect_env`` prints as the compiler of mmcv's operators."""
    return "none: ebm3d.adapters.operators"


def get_compiling_cuda_version() -> str:
    """What ``collect_env`` prints as the CUDA version of mmcv's operators."""
    return "none: ebm3d.adapters.operators, with torch's CUDA"


OPERATORS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        box_iou_rotated,
        deform_conv_backward_input,
        deform_conv_backward_parameters,
        deform_conv_forward,
        dynamic_point_to_voxel_backward,
        dynamic_point_to_voxel_forward,
        dynamic_voxelize_forward,
        get_compiler_version,
        get_compiling_cuda_version,
        hard_voxelize_forward,
        nms,
        nms_rotated,
        points_in_boxes_all_forward,
        points_in_boxes_cpu_forward,
        points_in_boxes_part_forward,
        sigmoid_focal_loss_backward,
        sigmoid_focal_loss_forward,
    )
}
"""The operators by their name in ``mmcv._ext``."""

__all__ = ["OPERATORS"]
