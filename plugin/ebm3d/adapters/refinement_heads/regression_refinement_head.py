"""A second stage that regresses boxes from the features the energy scores them by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.inputs import select_best, select_labeled
from ebm3d.adapters.refinement_heads.pooled_refinement_head import (
    PooledRefinementHead,
    columns_of,
)
from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution
from ebm3d.energy import BoundNetwork
from ebm3d.errors import check_count, input_error
from ebm3d.noise import BoxNoise
from ebm3d.regressions import BoxRegression


@MODELS.register_module()
class RegressionRefinementHead(PooledRefinementHead):
    """Regresses the true box from the features of a box nearby.

    Trained on M noise samples around each true box. Residuals are those of
    :class:`ebm3d.boxes.codings.LocalCoding`, in standard deviations of the noise. A heading that
    is flipped by pi is never seen in training: the density has period pi in the yaw.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers: x, y, z from and to, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the network (``RegressionNetwork``).
        noise: config of the noise (``BoxNoise``).
        regression: config of the regression (``GaussianBoxRegression`` and others).
        num_noise_samples: M.
        num_iterations: how often a box is regressed, each time from the last result; the density
            is that of the last time.
        score_decay: kappa of M-18; above 0, scores become ``score * exp(-kappa * u)`` with the
            relative uncertainty u of the refined box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            others stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        class_names: in the order of the labels, for tables by class name.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if a config does not fit its class, a count is below one, or the noise is no
            ``BoxNoise``.
    """

    def __init__(
        self,
        in_channels: int,
        point_cloud_range: Sequence[float],
        pooling: Sequence[dict[str, Any]],
        network: dict[str, Any],
        noise: dict[str, Any],
        regression: dict[str, Any],
        num_noise_samples: int = 64,
        num_iterations: int = 1,
        score_decay: float = 0.0,
        max_refined: int = 100,
        max_evaluations: int | None = None,
        class_names: Sequence[str] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if columns_of(noise) == 9:
            regression = {"num_residuals": 9, **regression}
        built: BoxRegression = MODELS.build(regression)
        super().__init__(
            in_channels,
            point_cloud_range,
            pooling,
            {**network, "num_outputs": built.num_outputs},
            noise,
            score_decay,
            max_refined,
            max_evaluations,
            class_names,
            init_cfg,
        )
        check_count("num_noise_samples", num_noise_samples)
        check_count("num_iterations", num_iterations)
        if not isinstance(self.noise, BoxNoise):
            expected = "a BoxNoise, whose standard deviations scale the residuals"
            raise input_error("noise", expected, type(self.noise).__name__)
        self.regression, self.num_iterations = built, num_iterations
        self.num_noise_samples = num_noise_samples

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Return the regression's loss from noise samples to true boxes; arguments as the base's.

        Returns:
            ``loss_regression``: sum over the residuals, mean over the noise samples and over the
            true boxes of all processes; and the regression's regularizers.
        """
        with torch.autocast(bev.device.type, enabled=False):
            true, classes = select_labeled(boxes, labels, self.num_classes, self.box_columns)
            joined, sizes = torch.cat(classes), [len(rows) for rows in true]
            # Where a velocity is unknown, samples lie around zero, and its residuals are NaN.
            known = [rows.nan_to_num() for rows in true]
            noise = self.noise.around(torch.cat(known), joined, sizes)
            samples = noise.sample(self.num_noise_samples).boxes
            noisy = samples[:, 1:]
            target = torch.cat((samples[:, :1, :7], torch.cat(true)[:, None, 7:]), dim=-1)
            target = target.expand_as(noisy)
            network = self._bound(BoundNetwork, bev, points, known, classes)
            outputs = network(noisy).flatten(0, 1)
            coding = self._coding(noisy.flatten(0, 1), joined.repeat_interleave(noisy.shape[1]))
            residuals = coding.encode(target.flatten(0, 1))
            per_sample = self.regression.loss(outputs, residuals).sum(dim=-1)
            per_box = per_sample.reshape(noisy.shape[:2]).mean(dim=1)
            terms = self.regression.regularizers(outputs, residuals) if len(per_box) else {}
        losses = {"loss_regression": self.regression.loss_weight * self.mean_over_boxes(per_box)}
        return {**losses, **{f"loss_{name}": value for name, value in terms.items()}}

    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Regress detected boxes; arguments as the base's.

        A box that is not valid, or not among the ``max_refined`` of the highest scores, stays as
        it was detected.

        Returns:
            Per frame ``boxes`` ``(N_b, D)``, ``box_std`` ``(N_b, D)`` in meters, radians and m/s,
            ``box_covariance`` ``(N_b, D, D)`` and ``box_distribution`` (a
            :class:`ebm3d.densities.BoxDistribution`); NaN where a box was not refined. With
            ``score_decay`` ``scores_3d``.
        """
        with torch.no_grad(), torch.autocast(bev.device.type, enabled=False):
            chosen = select_best(
                boxes, labels, scores, self.max_refined, self.num_classes, self.box_columns
            )
            classes = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            start = [b[i, : self.box_columns].float() for b, i in zip(boxes, chosen, strict=True)]
            network = self._bound(BoundNetwork, bev, points, start, classes)
            current = torch.cat(start)
            for _ in range(self.num_iterations):
                reference = current
                densities = self._distribution(network(current), reference, torch.cat(classes))
                is_finite = torch.isfinite(densities.boxes).all(dim=1, keepdim=True)
                current = torch.where(is_finite, densities.boxes, reference)
            return self._frames(boxes, scores, chosen, current, {}, densities)

    def _distribution(self, outputs: Tensor, reference: Tensor, labels: Tensor) -> BoxDistribution:
        """Densities ``(N,)`` of outputs ``(N, P)`` for boxes near ``reference`` ``(N, 7)``."""
        coding = self._coding(reference, labels)
        # A regression with one spread for all boxes has one where there are no outputs, too.
        known = torch.isfinite(outputs).all(dim=1, keepdim=True)
        coding = replace(coding, noise_std=torch.where(known, coding.noise_std, math.nan))
        return BoxDistribution(self.regression.density(outputs), coding, yaw_period=math.pi)

    def _coding(self, reference: Tensor, labels: Tensor) -> LocalCoding:
        """Coding of boxes ``(N, 7)`` of labels ``(N,)``."""
        return LocalCoding(reference, self.noise.noise_std(reference, labels))
