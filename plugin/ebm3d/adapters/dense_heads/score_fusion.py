"""Scores as probabilities that the refined box fits, from score and energy. docs/method.md, M-31.

N boxes; K features of each beside the detector's score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ebm3d.densities.uncertainty import relative_uncertainty
from ebm3d.errors import input_error
from ebm3d.evaluation.score_fusion import LEAST_SCORE

INITIAL_SCORES = "initial_scores_3d"
_REMEDY = (
    "predict it: f_refined by any EBMRefinementHead, log_density by one with log_density=dict() or "
    "by heads with densities, uncertainty by the latter"
)


class ScoreFusion(nn.Module):
    r"""Logistic regression on scores and features of refined boxes.

    .. math:: s' = \sigma\Big(a \log\frac{s}{1 - s} + \sum_k b_k e_k + c\Big)

    ``tools/fit_fusion.py`` fits it and writes names and weights into the checkpoint, from which
    they are read; without them scores pass unchanged.

    Attributes:
        features: names of the K features, see :func:`score_features`; none before the fit.
    """

    names: Tensor
    weights: Tensor
    alone: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features: tuple[str, ...] = ()
        self.register_buffer("names", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("weights", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("alone", torch.zeros(0, dtype=torch.float64))

    def set_weights(self, features: Sequence[str], weights: Any, alone: Any) -> None:
        """Take a fit: K names, weights ``(K + 2,)``: a, b, c; ``(2,)`` without features: a, c."""
        self.features, names = tuple(features), ",".join(features).encode()
        self.names = torch.tensor(list(names), dtype=torch.uint8, device=self.names.device)
        self.weights = torch.as_tensor(weights).to(self.weights)
        self.alone = torch.as_tensor(alone).to(self.alone)

    def forward(self, result: InstanceData) -> None:
        """Replace the scores of a frame; the detector's stay as ``initial_scores_3d``.

        Args:
            result: N refined boxes; changed in place.

        Raises:
            ValueError: if the refinement head changed the scores already (``score_decay``).
        """
        if not self.features:
            return
        if INITIAL_SCORES in result:
            remedy = "score_decay=0; fuse the feature 'uncertainty' instead"
            raise input_error(
                "scores to be fused", "the detector's", "those of score_decay", remedy
            )
        fused = self.fuse(result.scores_3d, score_features(result, self.features))
        result.set_field(result.scores_3d, INITIAL_SCORES)
        result.scores_3d = fused

    def fuse(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return fused scores.

        Args:
            scores: ``(N,)`` in [0, 1].
            features: ``(N, K)``; a row that is not finite is fused by its score alone.

        Returns:
            ``(N,)`` probabilities, in the dtype of ``scores``.
        """
        features = features.double()
        logit = torch.logit(scores.double(), eps=LEAST_SCORE)
        joint = self.weights[0] * logit + features @ self.weights[1:-1] + self.weights[-1]
        alone = self.alone[0] * logit + self.alone[1]
        known = torch.isfinite(features).all(dim=1)
        return torch.sigmoid(torch.where(known, joint, alone)).to(scores.dtype)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load names and weights of any number, or none from a checkpoint without a fusion."""
        for name, buffer in list(self.named_buffers()):
            value = state_dict.setdefault(prefix + name, buffer[:0])
            setattr(self, name, buffer.new_empty(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
        names = bytes(self.names.tolist()).decode()
        self.features = tuple(names.split(",")) if names else ()


def score_features(instances: InstanceData, names: Sequence[str]) -> Tensor:
    """Return features of the boxes of a frame.

    Args:
        instances: N predictions.
        names: each of a field ``(N,)``, such as ``f_refined`` or ``log_density``; or, of boxes
            with a ``box_distribution``, ``log_density`` (of the box under its density) and
            ``uncertainty`` (log u of
            :func:`~ebm3d.densities.uncertainty.relative_uncertainty`).

    Returns:
        ``(N, len(names))`` float64; NaN where a head gave no value.

    Raises:
        ValueError: if the predictions hold no such feature.
    """
    return torch.stack([_feature(instances, name).double() for name in names], dim=1)


def _feature(instances: InstanceData, name: str) -> Tensor:
    """One feature ``(N,)``."""
    boxes = instances.bboxes_3d.tensor[:, :7]
    value = instances.get(name)
    if isinstance(value, Tensor) and value.shape == boxes.shape[:1]:
        return value
    if value is None and "box_distribution" in instances:
        if name == "uncertainty":
            return relative_uncertainty(instances.box_std, boxes).log()
        if name == "log_density":
            known = torch.isfinite(instances.box_std).all(dim=1)
            return torch.where(known, instances.box_distribution.log_prob(boxes), torch.nan)
    got = f"fields {', '.join(instances.keys())}"
    raise input_error(f"feature {name!r}", "a number of every box", got, _REMEDY)
