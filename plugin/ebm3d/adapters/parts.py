"""Parts of a detector, in its config and as a module: ``bbox_head`` or ``pts_bbox_head``.

The host's multi-modal detectors (``CenterPoint``, ``MVXFasterRCNN``) put ``pts_`` before the names
that ``VoxelNet`` uses, and hold ``train_cfg.pts`` and ``test_cfg.pts``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LAG = 4
"""The column in which the host's sweeps hold their time lag in seconds, before ``use_dim``."""
_PREFIX = "pts_"


def part_name(model: Any, name: str) -> str:
    """Return the name of a part in a model or its config; ``name`` where it has none."""
    return f"{_PREFIX}{name}" if _has(model, f"{_PREFIX}{name}") else name


def part_of(model: Any, name: str) -> Any:
    """Return a part of a model; of a config its dict, empty where it has none."""
    place = part_name(model, name)
    return (model.get(place) or {}) if isinstance(model, Mapping) else getattr(model, place, None)


def features_of(model: Any, inputs: dict[str, Any], samples: list[Any]) -> Any:
    """Return what a detector hands to its head for the preprocessed inputs of B frames."""
    if not hasattr(model, "extract_pts_feat"):
        return model.extract_feat(inputs)
    return model.extract_feat(inputs, [sample.metainfo for sample in samples])[1]


def class_order(dense_head: Mapping[str, Any]) -> list[str] | None:
    """Return the classes of a dense head by label where its config says them: tasks joined."""
    tasks = dense_head.get("tasks")
    return None if not tasks else [name for task in tasks for name in task["class_names"]]


def sweep_columns(pipeline: Iterable[Mapping[str, Any]]) -> list[int] | None:
    """Return the columns that a pipeline keeps of points of sweeps; None if it loads none."""
    for step in pipeline:
        if step.get("type") == "LoadPointsFromMultiSweeps":
            chosen = step.get("use_dim", (0, 1, 2, LAG))  # the host's default: no intensity
            return list(range(chosen)) if isinstance(chosen, int) else list(chosen)
    return None


def _has(model: Any, name: str) -> bool:
    """Whether a config or a module has a part."""
    return name in model if isinstance(model, Mapping) else hasattr(model, name)
