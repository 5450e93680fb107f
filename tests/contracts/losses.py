"""Cases of the losses: training methods on a small energy, and functions on random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm3d import losses
from ebm3d.losses import ConfidenceLoss
from ebm3d.noise import BoxNoise
from tests.contracts.cases import case, numbers, tensors_of
from tests.contracts.places import Place, gradients, gradients_of_parameters
from tests.losses.examples import METHODS, STDS, SmallEnergy, random_boxes

_UNITS = (0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0.2)
_METHODS: dict[str, Callable[[], Any]] = {
    **METHODS,
    "confidence by gaussian": lambda: ConfidenceLoss("gaussian", _UNITS, 16),
}


def _add_method(name: str, make: Callable[[], Any]) -> None:
    @case(f"loss {name}", f"losses.{type(make()).__name__}", "losses.TrainingLoss")
    def run(place: Place) -> dict[str, Tensor]:
        labels, method = torch.arange(4) % 2, make()
        if isinstance(method, torch.nn.Module):
            method = place(method)
        boxes, energy = place(random_boxes(4)), place(SmallEnergy(labels))
        energy.labels = place(labels)
        found = method(energy, BoxNoise(STDS).around(boxes, energy.labels, [1, 3]))
        return {
            **tensors_of(found),
            **gradients_of_parameters(found.per_box, energy, method),
        }


for _name, _make in _METHODS.items():
    _add_method(_name, _make)


def _f(points: Tensor) -> Tensor:
    """A smooth function of points ``(..., D)``."""
    return torch.sin(points).prod(-1) - points.pow(4).sum(-1)


# The shapes of the tensors of each function by name, and its other arguments.
_FUNCTIONS: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "bit_cross_entropy": ({"logits": (3, 5), "bits": (3, 5)}, {}),
    "code_distance_penalty": ({"codes": (5, 7, 4), "labels": (5, 7)}, {}),
    "code_smoothness_penalty": ({"codebook": (7, 4, 5)}, {"kind": "squared"}),
    "confidence_loss": ({"f": (3, 5), "targets": (3, 5)}, {}),
    "dsm_loss": ({"gradient": (3, 7), "residual": (3, 7), "variance": (7,)}, {}),
    "gaussian_nll": ({"residual": (3, 7), "log_variance": (3, 7)}, {}),
    "gradient_of": ({"points": (3, 4)}, {"f": _f}),
    "kldis_loss": ({"f": (3, 5), "log_q": (3, 5), "log_p": (3, 5)}, {}),
    "l1_loss": ({"residual": (3, 7)}, {}),
    "l2_loss": ({"residual": (3, 7)}, {}),
    "laplace_nll": ({"residual": (3, 7), "log_scale": (3, 7)}, {}),
    "log_normalizer": ({"f": (3, 5), "log_q": (3, 5)}, {}),
    "mcmc_loss": ({"f_true": (3,), "f_samples": (3, 5)}, {}),
    "mlis_loss": ({"f_true": (3,), "f": (3, 5), "log_q": (3, 5)}, {}),
    "nce_loss": ({"f": (3, 5), "log_q": (3, 5)}, {}),
    "propel_loss": (
        {"target": (3, 7), "means": (3, 2, 7), "log_variances": (3, 2, 7)},
        {"target_variance": 0.1},
    ),
    "proposal_loss": ({"f": (3, 5), "log_q": (3, 5)}, {}),
    "score_matching_loss": ({"points": (3, 4)}, {"f": _f}),
    "sliced_score_matching_loss": ({"points": (3, 4)}, {"f": _f, "num_slices": 2}),
    "smooth_l1_loss": ({"residual": (3, 7)}, {"beta": 0.3}),
    "snl_loss": ({"f_true": (3,), "f": (3, 5), "log_q": (3, 5), "log_normalizer": (3,)}, {}),
    "soft_cross_entropy": ({"scores": (3, 5), "soft_labels": (3, 5)}, {}),
}


def _add_function(name: str) -> None:
    @case(f"function {name}", f"losses.{name}")
    def run(place: Place) -> dict[str, Tensor]:
        shapes, options = _FUNCTIONS[name]
        # Between 0 and 1, where probabilities and variances must be, too.
        leaves = {key: place.leaf(numbers(*shape, low=0.05)) for key, shape in shapes.items()}
        loss = getattr(losses, name)(**leaves, **options)
        by = gradients(loss, **leaves) if loss.requires_grad else {}
        return {"loss": loss, **by}


for _name in _FUNCTIONS:
    _add_function(_name)
