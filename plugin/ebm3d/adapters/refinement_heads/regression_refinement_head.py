"""A second stage that regresses boxes on the features the energy-based head scores them by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.base_refinement_head import BaseRefinementHead
from ebm3d.adapters.refinement_heads.border import take_detected, take_true
from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution
from ebm3d.densities.uncertainty import decayed_where_known
from ebm3d.errors import input_error
from ebm3d.noise import BoxNoise
from ebm3d.regressions import BoxRegression


@MODELS.register_module()
class RegressionRefinementHead(BaseRefinementHead):
    """Regresses the true box from the features of a box nearby.

    Trained on the very boxes the energy-based head contrasts with the true one: M noisy boxes
    around each true box, whose features must tell where the true box lies. Residuals are those of
    :class:`ebm3d.boxes.codings.LocalCoding`, in the noise's standard deviations of the class.
    As they are learned around true boxes, they know nothing of detections whose front and rear are
    exchanged: the density is one of the axis, of period pi in the yaw.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers, six numbers, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the network (``RegressionNetwork``).
        noise: config of the noise (``BoxNoise``).
        regression: config of the representation (``GaussianBoxRegression`` and others).
        num_noise_samples: M per true box.
        score_decay: kappa of M-18; above 0, scores become ``score * exp(-kappa * u)`` with the
            relative uncertainty u of the refined box.
        num_iterations: how often a box is regressed, each time from where the last one ended; the
            density is that of the last time.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            rest stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no pool, a count is below one, or the noise has no scales.
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
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        built: BoxRegression = MODELS.build(regression)
        super().__init__(
            in_channels,
            point_cloud_range,
            pooling,
            {**network, "num_outputs": built.num_outputs},
            noise,
            max_refined,
            max_evaluations,
            init_cfg,
        )
        if min(num_noise_samples, num_iterations) < 1:
            raise input_error(
                "num_noise_samples, num_iterations",
                "at least 1",
                (num_noise_samples, num_iterations),
            )
        if not 0 <= score_decay < math.inf:
            raise input_error("score_decay", "at least 0 and finite", score_decay)
        if not isinstance(self.noise, BoxNoise):
            raise input_error("noise", "a BoxNoise, whose scales are the residuals' units", noise)
        self.regression, self.num_iterations = built, num_iterations
        self.num_noise_samples, self.score_decay = num_noise_samples, score_decay

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Regress the true boxes from noisy ones.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds ``(P, F)``, or none.
            boxes: B tensors of true boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``; boxes with a negative label are left out.

        Returns:
            ``loss_regression``: sum over the residuals, mean over the noise samples and over the
            true boxes of all processes; and the regression's regularizers.
        """
        with torch.autocast(bev.device.type, enabled=False):
            true, classes = take_true(boxes, labels, self.num_classes)
            around = self.noise.around(torch.cat(true), torch.cat(classes), [len(t) for t in true])
            samples = around.sample(self.num_noise_samples)
            noisy = samples.boxes[:, 1:]
            outputs = self.bind(bev, points, true, classes)(noisy).flatten(0, 1)
            target = samples.boxes[:, :1].expand_as(noisy).flatten(0, 1)
            coding = self._coding(noisy.flatten(0, 1), torch.cat(classes), noisy.shape[1])
            residuals = coding.encode(target)
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
        """Regress detected boxes.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``.
            scores: B tensors ``(N_b,)``; the ``max_refined`` highest are refined. A box that is
                not finite or has a size that is not positive stays as it was detected.

        Returns:
            Per frame ``boxes`` ``(N_b, 7)``, ``box_std`` ``(N_b, 7)`` in meters and radians,
            ``box_covariance`` ``(N_b, 7, 7)`` and ``box_distribution`` (a
            :class:`ebm3d.densities.BoxDistribution` of length N_b); NaN where a box was not
            refined. With ``score_decay`` also ``scores_3d``; a box that was not refined keeps its
            score.
        """
        with torch.no_grad(), torch.autocast(bev.device.type, enabled=False):
            chosen = take_detected(boxes, labels, scores, self.max_refined, self.num_classes)
            current = torch.cat([b[i, :7].float() for b, i in zip(boxes, chosen, strict=True)])
            parts = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            sizes, joined = [len(i) for i in chosen], torch.cat(parts)
            bound = self.bind(bev, points, list(current.split(sizes)), parts)
            for _ in range(self.num_iterations):
                reference, outputs = current, bound(current)
                distribution = self._distribution(outputs, reference, joined)
                current = torch.where(
                    torch.isfinite(distribution.boxes).all(dim=1, keepdim=True),
                    distribution.boxes,
                    reference,
                )
            refined = []
            for row, index in enumerate(chosen):
                end = sum(sizes[: row + 1])
                own = slice(end - sizes[row], end)
                refined.append(
                    self._refined_frame(
                        boxes[row],
                        labels[row],
                        scores[row],
                        index,
                        (current[own], reference[own], outputs[own]),
                    )
                )
        return refined

    def _refined_frame(
        self,
        boxes: Tensor,
        labels: Tensor,
        scores: Tensor,
        index: Tensor,
        found: tuple[Tensor, Tensor, Tensor],
    ) -> dict[str, Any]:
        """What ``refine`` returns of a frame; ``found``: boxes, references, outputs by index."""
        new, reference, outputs = found
        start = boxes[:, :7].float()
        blank = outputs.new_full((len(boxes), outputs.shape[1]), float("nan"))
        distribution = self._distribution(
            blank.index_copy(0, index, outputs), start.index_copy(0, index, reference), labels
        )
        refined: dict[str, Any] = {
            "boxes": start.index_copy(0, index, new).to(boxes.dtype),
            "box_std": distribution.std,
            "box_covariance": distribution.covariance,
            "box_distribution": distribution,
        }
        if self.score_decay > 0:
            moved = start.index_copy(0, index, new)
            refined["scores_3d"] = decayed_where_known(
                scores, refined["box_std"], moved, self.score_decay
            )
        return refined

    def _distribution(self, outputs: Tensor, reference: Tensor, labels: Tensor) -> BoxDistribution:
        """Densities ``(N,)`` of outputs ``(N, P)`` for boxes near ``reference`` ``(N, 7)``."""
        coding = self._coding(reference, labels, 1)
        # A regression with one spread for all boxes has one where there are no outputs, too.
        known = torch.isfinite(outputs).all(dim=1, keepdim=True)
        coding = replace(coding, noise_std=torch.where(known, coding.noise_std, math.nan))
        return BoxDistribution(self.regression.density(outputs), coding, yaw_period=math.pi)

    def _coding(self, reference: Tensor, labels: Tensor, repeats: int) -> LocalCoding:
        """Coding of boxes ``(N * repeats, 7)``, ``repeats`` of each label ``(N,)`` in turn."""
        noise_std = self.noise.noise_std(reference, labels.repeat_interleave(repeats))
        return LocalCoding(reference, noise_std)
