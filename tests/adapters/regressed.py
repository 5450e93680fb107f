"""Small regression heads of a second stage."""

from __future__ import annotations

from typing import Any

import torch

from tests.adapters.refined import REFINEMENT_HEAD, Frames

REGRESSION_HEAD: dict[str, Any] = {
    **{key: value for key, value in REFINEMENT_HEAD.items() if key not in ("loss", "refiner")},
    "type": "RegressionRefinementHead",
    "network": {**REFINEMENT_HEAD["network"], "type": "RegressionNetwork"},
    "regression": {"type": "GaussianBoxRegression"},
    "num_noise_samples": 8,
}


def build_regression_head(regression: str = "GaussianBoxRegression", **options: Any) -> Any:
    """A :class:`RegressionRefinementHead` whose outputs vary from the start."""
    from mmdet3d.registry import MODELS

    head = MODELS.build({**REGRESSION_HEAD, "regression": {"type": regression}, **options})
    torch.nn.init.normal_(head.network.layers[-1].weight, std=0.5)
    return head


def losses_of(head: Any, frames: Frames, seed: int | None = 0) -> dict[str, Any]:
    """The losses of frames; the noise of a seed, or where the last draw left the generator."""
    if seed is not None:
        torch.manual_seed(seed)
    losses: dict[str, Any] = head.loss(frames.bev, frames.points, frames.boxes, frames.labels)
    return losses


def refined_by(head: Any, frames: Frames) -> list[dict[str, Any]]:
    """What a head makes of frames."""
    refined: list[dict[str, Any]] = head.refine(
        frames.bev, frames.points, frames.boxes, frames.labels, frames.scores
    )
    return refined
