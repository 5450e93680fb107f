"""What is known of refined boxes beside their scores, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebm3d.densities.uncertainty import relative_uncertainty
from ebm3d.errors import input_error

_OF_DENSITIES = ("log_density", "uncertainty")
_SETTING = (
    "predict it: f_refined by any EBMRefinementHead, log_density by one with log_density=dict() or "
    "by heads with densities, uncertainty by the latter"
)


def score_features(instances: Mapping[str, Any] | Any, names: Sequence[str]) -> Tensor:
    """Return features of the boxes of a frame.

    Args:
        instances: predictions with ``bboxes_3d`` and further fields.
        names: each of a field ``(N,)``, such as ``f_refined`` or ``log_density``; or, of boxes
            with a ``box_distribution`` and ``box_std``, ``log_density`` (of the box under its own
            density) and ``uncertainty`` (log u of
            :func:`ebm3d.densities.uncertainty.relative_uncertainty`).

    Returns:
        ``(N, len(names))`` float64; NaN where a head gave no value.

    Raises:
        ValueError: if the predictions hold no such feature.
    """
    columns = [_feature(instances, name).double() for name in names]
    return torch.stack(columns, dim=1)


def _feature(instances: Any, name: str) -> Tensor:
    """One feature ``(N,)``."""
    boxes = instances["bboxes_3d"].tensor[:, :7]
    if name in instances:
        value = instances[name]
        if isinstance(value, Tensor) and value.shape == boxes.shape[:1]:
            return value
    elif name in _OF_DENSITIES and "box_distribution" in instances:
        if name == "log_density":
            density = instances["box_distribution"]
            with torch.no_grad():
                found: Tensor = density.log_prob(boxes)
            return torch.where(torch.isfinite(density.std).all(dim=1), found, torch.nan)
        return relative_uncertainty(instances["box_std"], boxes).log()
    known = ", ".join(instances.keys())
    raise input_error(f"feature {name!r}", "a number of every box", f"fields {known}", _SETTING)
