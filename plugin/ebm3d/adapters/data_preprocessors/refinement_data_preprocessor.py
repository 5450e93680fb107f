"""The host's preprocessor, with the raw points kept for the second stage."""

from __future__ import annotations

from typing import Any

from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmdet3d.registry import MODELS


@MODELS.register_module()
class RefinementDataPreprocessor(Det3DDataPreprocessor):
    """Attach each frame's points to its data sample, for the features of points inside a box.

    The host hands the head the map and the data samples, not the points. After the host's own
    work every ``Det3DDataSample`` gets the field ``points``: the points of its frame after
    augmentation and range filter, (P, C) with C >= 4, LiDAR frame, on the model's device. The
    refinement head takes the field away again, so that predictions do not carry it. The arguments
    are those of ``Det3DDataPreprocessor``.
    """

    def simple_process(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Process one batch as the host does, then attach the points.

        Args:
            data: ``inputs`` with the list ``points`` and ``data_samples``, from the data loader.
            training: whether augmentations of the whole batch are wanted.

        Returns:
            ``inputs`` and ``data_samples`` as the model takes them.
        """
        processed = super().simple_process(data, training)
        samples, clouds = processed["data_samples"], processed["inputs"].get("points")
        if samples is not None and clouds is not None:
            for sample, cloud in zip(samples, clouds, strict=True):
                sample.set_field(cloud, "points", field_type="data", dtype=None)
        return processed
