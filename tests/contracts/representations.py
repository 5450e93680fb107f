"""Cases of densities, regressions, codecs, codings of boxes, and what is made of densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm3d import boxes as box_functions
from ebm3d import codecs
from ebm3d.boxes.codings import AnchorCoding, LocalCoding
from ebm3d.boxes.iou import iou_3d, iou_bev
from ebm3d.boxes.rotated_overlap import rotated_overlap_areas
from ebm3d.densities import BoxDistribution, Density, MultivariateGaussianDensity, triangular_root
from ebm3d.densities.uncertainty import (
    decayed_scores,
    relative_uncertainty,
)
from ebm3d.densities.voting import VarianceVoting
from tests.contracts.cases import case, numbers, tensors_of
from tests.contracts.places import Place, gradients, gradients_of_parameters
from tests.densities.examples import EXAMPLES as DENSITIES
from tests.densities.examples import ROWS
from tests.losses.examples import random_boxes
from tests.regressions.examples import EXAMPLES as REGRESSIONS


def _all_of(density: Density, residuals: Tensor) -> dict[str, Tensor]:
    """Everything a density says, and its gradient."""
    log_prob = density.log_prob(residuals)
    return {
        "log_prob": log_prob,
        "cdf": density.cdf(residuals),
        "point": density.point,
        "mean": density.mean,
        "variance": density.variance,
        "covariance": density.covariance,
        "sample": density.sample(5),
        "rows": density[1:].log_prob(residuals[1:]),
        "joined": Density.cat([density, density]).log_prob(residuals.repeat(2, 1, 1)),
        "rescaled": density.rescaled(1.5).log_prob(residuals),
        **gradients(log_prob, residuals=residuals),
    }


def _add_density(name: str) -> None:
    kind = type(DENSITIES[name].build(1)).__name__

    @case(f"density {name}", f"densities.{kind}", "densities.Density")
    def run(place: Place) -> dict[str, Tensor]:
        density, residuals = place(DENSITIES[name].build(ROWS)), place.leaf(numbers(ROWS, 4, 2))
        return _all_of(density, residuals)


def _add_regression(name: str, make: Callable[[], Any]) -> None:
    @case(f"regression {name}", f"regressions.{type(make()).__name__}", "regressions.BoxRegression")
    def run(place: Place) -> dict[str, Tensor]:
        regression = place(make())
        outputs = place.leaf(numbers(5, regression.num_outputs))
        targets = place(0.4 * numbers(5, 7))
        loss = regression.loss(outputs, targets)
        terms = regression.regularizers(outputs, targets)
        density = regression.eval().density(outputs)
        log_prob = density.log_prob(targets)
        return {
            "loss": loss,
            **terms,
            **gradients(loss, outputs=outputs),
            **gradients_of_parameters(sum(terms.values(), loss.sum()), regression),
            "log_prob": log_prob,
            "point": density.point,
            "covariance": density.covariance,
            **{f"{name} of the density": g for name, g in gradients(log_prob, o=outputs).items()},
        }


for _name in DENSITIES:
    _add_density(_name)
for _name, _make in REGRESSIONS.items():
    _add_regression(_name, _make)


def _coding(kind: str, place: Place, boxes: Tensor) -> AnchorCoding | LocalCoding:
    """A coding around boxes on the CPU."""
    if kind == "anchor":
        return place(AnchorCoding(boxes))
    return place(LocalCoding(boxes, numbers(len(boxes), 7, low=0.1, high=0.5)))


def _add_distribution(kind: str) -> None:
    @case(f"distribution of boxes, {kind}", "densities.BoxDistribution", "boxes.codings")
    def run(place: Place) -> dict[str, Tensor]:
        boxes = random_boxes(4)
        location, root = numbers(4, 7), torch.tril(numbers(4, 7, 7, low=0.1))
        density = place(MultivariateGaussianDensity(0.1 * location, 0.1 * root))
        found = BoxDistribution(density, _coding(kind, place, boxes), math.pi)
        at = place.leaf(boxes + 0.05 * numbers(4, 7))
        log_prob = found.log_prob(at)
        return {
            "log_prob": log_prob,
            **gradients(log_prob, boxes=at),
            "boxes": found.boxes,
            "std": found.std,
            "covariance": found.covariance,
            "cdf": found.cdf(at),
            "distance": found.squared_mahalanobis(at),
            "sample": found.sample(3),
            "wider": found.rescaled(1.5).log_prob(at),
            "wider by dimension": found.rescaled(place(numbers(7, low=1, high=2))).log_prob(at),
            "turned": found.coding.turned(at[:, 6]).decode(density.point),
            "rows": found[torch.tensor([2, 0])].boxes,
            "scattered": found.scatter(place(torch.tensor([3, 0, 1, 5])), 6).boxes,
        }


_add_distribution("anchor")
_add_distribution("local")


@case("root of a covariance", "densities.triangular_root")
def _triangular_root(place: Place) -> dict[str, Tensor]:
    return {"root": triangular_root(place(numbers(3, 7, 7)))}


@case("votes and scores", "densities.voting", "densities.uncertainty")
def _votes(place: Place) -> dict[str, Tensor]:
    kept = random_boxes(3)
    candidates = place(kept.repeat(4, 1) + 0.2 * numbers(12, 7))
    std, scores = place(numbers(12, 7, low=0.01, high=0.1)), place(numbers(12, low=0))
    kept, same_class = place(kept), place(torch.arange(36).reshape(3, 12) % 3 > 0)
    unknown = torch.where(place(torch.arange(12) % 5 == 0)[:, None], math.nan, std)
    return {
        "voted": VarianceVoting(0.1, 0.05)(kept, candidates, std.square(), same_class, math.pi),
        "uncertainty": relative_uncertainty(std, candidates),
        "decayed": decayed_scores(scores, std, candidates, 3.0),
        "decayed where known": decayed_scores(scores, unknown, candidates, 3.0),
    }


@case("overlaps", "boxes.iou", "boxes.rotated_overlap")
def _overlaps(place: Place) -> dict[str, Tensor]:
    boxes = random_boxes(12)
    boxes[6:] = boxes[:6] + 0.3 * numbers(6, 7)
    boxes = place(boxes)
    flat = boxes[:, [0, 1, 3, 4, 6]]
    return {
        "iou_bev": iou_bev(boxes, boxes),
        "iou_3d": iou_3d(boxes, boxes),
        "aligned": iou_3d(boxes[:6], boxes[6:], aligned=True),
        "areas": rotated_overlap_areas(flat[:6], flat[6:]),
    }


@case("geometry of boxes", *(f"boxes.{name}" for name in box_functions.__all__))
def _geometry(place: Place) -> dict[str, Tensor]:
    boxes, others, points = random_boxes(4), random_boxes(4), 5 * numbers(4, 6, 3)
    at, other, cloud = place.leaf(boxes), place(others), place(points)
    found = {
        "local_offsets": box_functions.local_offsets(other, at),
        "add_local_offsets": box_functions.add_local_offsets(other, at),
        "bev_corners": box_functions.bev_corners(at),
        "corners_3d": box_functions.corners_3d(at),
        "observation_angle": box_functions.observation_angle(at),
        "points_to_box_frame": box_functions.points_to_box_frame(cloud, at),
        "rotate_about_z": box_functions.rotate_about_z(cloud, at[:, None, 6]),
        "wrap_to_pi": box_functions.wrap_to_pi(3 * at),
    }
    total = sum(value.sum() for value in found.values())
    return {**found, **gradients(total, boxes=at)}


_CODES = {"unary": 8, "johnson": 4, "b1jdj": 3, "b2jdj": 3, "hexj": 8}


@case(
    "codecs", *(f"codecs.{name}" for name in codecs.__all__ if name.islower()), "codecs.Quantizer"
)
def _codecs(place: Place) -> dict[str, Tensor]:
    quantizer = place(codecs.Quantizer([-1.0] * 7, [1.0] * 7, 8))
    residuals = place.leaf(1.2 * numbers(5, 7))
    labels = quantizer.labels(residuals)
    found: dict[str, Any] = {
        "labels": labels,
        "residuals": quantizer.residuals(labels),
        **{kind: codecs.soft_labels(labels, 8, kind) for kind in codecs.SOFT_LABELS},
    }
    for name, num_bits in _CODES.items():
        logits, code = place.leaf(numbers(5, 7, num_bits)), place(codecs.build_codebook(name, 8))
        scores = codecs.level_scores(logits, code)
        found[f"{name}, expected"] = codecs.expected_level(scores)
        found[f"{name}, counted"] = codecs.counted_level(logits, name, 8)
        found.update(gradients(found[f"{name}, expected"], **{name: logits}))
    by = gradients(found["laplace"].square().sum(), residuals=residuals)
    return {**tensors_of(found), **by}
