"""The energy-based refinement head: scores boxes, is trained against noise, climbs f."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.inputs import select_best, select_labeled
from ebm3d.adapters.refinement_heads.pooled_refinement_head import (
    PooledRefinementHead,
    rows_by_class,
)
from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import BoundProposal, BoxEnergy, LearnedProposal
from ebm3d.energy.log_density import LogDensity
from ebm3d.energy.normalized_energy import NormalizedEnergy
from ebm3d.energy.uncertainty import METHODS, energy_distribution
from ebm3d.errors import check_positive, input_error, is_number
from ebm3d.losses.importance_sampling import effective_share
from ebm3d.losses.training import TrainingLoss
from ebm3d.noise import BoundNoise
from ebm3d.refiners import RefinementResult, StartSearch, box_posterior
from ebm3d.refiners.scorers import Scorer

Part = TypeVar("Part")


@MODELS.register_module()
class EBMRefinementHead(PooledRefinementHead):
    """Energy f(x, y) of features x and box y: an unnormalized log density that boxes climb.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers: x, y, z from and to, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the energy network (``EnergyNetwork``, ``Paper2020EnergyNetwork``).
        noise: config of the noise: ``BoxNoise``, or ``LearnedProposal``, trained beside f.
        loss: config of the training method (``NCELoss``, ``ConfidenceLoss`` and others).
        refiner: config of the refiner (``GradientAscent``, ``QuasiNewtonAscent``).
        log_density: arguments of :class:`ebm3d.energy.log_density.LogDensity`, by which refined
            boxes get their normalized ``log_density``; None for none.
        uncertainty: how refined boxes get a density: "laplace", from the curvature of f, or
            "importance", from weighted samples; see
            :func:`ebm3d.energy.uncertainty.energy_distribution`. None for none.
        score_decay: kappa of M-18; above 0, scores become ``score * exp(-kappa * u)`` with the
            relative uncertainty u of the refined box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            others stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        class_names: in the order of the labels, for tables by class name.
        temperature: tau of M-35; boxes then climb the posterior of f and of errors of the detector
            as wide as the noise, headings known up to pi. None climbs f alone.
        trust_heading: False leaves headings and velocities out of these errors: for detectors that
            hardly know them.
        search: arguments of :class:`ebm3d.refiners.StartSearch`, by which boxes from which to
            climb are searched; None climbs from the detected box alone.
        refine_velocity: False keeps detected velocities; f still sees them, and is trained on nine
            columns. Without effect on boxes of seven columns.
        loss_weight: factor of the loss.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if a config does not fit its class, or a loss whose f is no log density is
            combined with a proposal, an uncertainty or a log density.
    """

    def __init__(
        self,
        in_channels: int,
        point_cloud_range: Sequence[float],
        pooling: Sequence[dict[str, Any]],
        network: dict[str, Any],
        noise: dict[str, Any],
        loss: dict[str, Any],
        refiner: dict[str, Any],
        log_density: dict[str, Any] | None = None,
        uncertainty: str | None = None,
        score_decay: float = 0.0,
        max_refined: int = 100,
        max_evaluations: int | None = None,
        class_names: Sequence[str] | None = None,
        temperature: float | None = None,
        trust_heading: bool = True,
        search: dict[str, Any] | None = None,
        refine_velocity: bool = True,
        loss_weight: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            point_cloud_range,
            pooling,
            network,
            noise,
            score_decay,
            max_refined,
            max_evaluations,
            class_names,
            init_cfg,
        )
        if not is_number(loss_weight) or loss_weight < 0:
            raise input_error("loss_weight", "at least 0 and finite", repr(loss_weight))
        if uncertainty not in (None, *METHODS):
            raise input_error("uncertainty", f"None or one of {METHODS}", repr(uncertainty))
        if score_decay > 0 and uncertainty is None:
            raise input_error("uncertainty", f"one of {METHODS}, for a score_decay", None)
        self.criterion = self.build_on_features("loss", loss, "is_density", "returns_samples")
        self.refine_velocity = refine_velocity
        self.refiner = self.build_on_features("refiner", self._steps_of(refiner), "__call__")
        self._check_rows("refiner.step_scale", getattr(self.refiner, "scale", None))
        proposal = self.noise if isinstance(self.noise, LearnedProposal) else None
        if not self.criterion.is_density and (proposal is not None or uncertainty is not None):
            expected = "one that makes f a log density, for a LearnedProposal or an uncertainty"
            raise input_error("loss", expected, loss["type"])
        if proposal is not None and proposal.nll_weight == 0 and not self.criterion.returns_samples:
            expected = "one that returns samples, for a LearnedProposal of nll_weight=0"
            remedy = "give the proposal an nll_weight above 0, or use a BoxNoise"
            raise input_error("loss", expected, loss["type"], remedy)
        self.log_density = _built("log_density", LogDensity, log_density)
        self.search = _built("search", StartSearch, search)
        if temperature is not None:
            check_positive("temperature", temperature)
        self.temperature, self.trust_heading = temperature, trust_heading
        if self.log_density is not None:
            self.log_density.check(self.criterion)
            fixed = self.box_columns == 9 and not refine_velocity
            if fixed and self.log_density.method == "learned":
                expected = "'importance' or 'laplace' with refine_velocity=False"
                remedy = "the learned normalizer is of nine dimensions"
                raise input_error("log_density.method", expected, "'learned'", remedy)
            if temperature is not None and self.log_density.method == "learned":
                expected = "'importance' or 'laplace' with a temperature"
                remedy = "the learned normalizer is that of f"
                raise input_error("log_density.method", expected, "'learned'", remedy)
        self.loss_weight, self.uncertainty = loss_weight, uncertainty

    def _steps_of(self, refiner: dict[str, Any]) -> dict[str, Any]:
        """The refiner's config, its steps those of the dimensions that are refined."""
        if self.refine_velocity or not isinstance(refiner, dict) or "step_scale" not in refiner:
            return refiner
        rows = rows_by_class("refiner", refiner, self.class_names)["step_scale"]
        first = [row[:7] if isinstance(row, list | tuple) else row for row in rows]
        return {**refiner, "step_scale": first[:7] if is_number(first[0]) else first}

    def make_energy(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> BoxEnergy:
        """Return f on B frames for boxes near ``boxes``, in the order of the frames.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds ``(P, F)``, or none.
            boxes: B tensors ``(N_b, D)``; values are not checked.
            labels: B tensors ``(N_b,)``.
        """
        return self._bound(BoxEnergy, bev, points, boxes, labels)

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Return the training method's loss on the true boxes; arguments as the base's.

        Returns:
            ``loss_ebm``: mean over the true boxes of all processes; ``loss_proposal`` likewise,
            with a ``LearnedProposal``; and what the method logs, such as ``ebm_rank_first`` of
            NCE, the share of true boxes ranked before all their noise samples.
        """
        with torch.autocast(bev.device.type, enabled=False):
            # A density of nine numbers needs all nine.
            true, classes = select_labeled(
                boxes, labels, self.num_classes, self.box_columns, drop_unknown=True
            )
            f = self.make_energy(bev, points, true, classes)
            noise = self.noise_around(f, true, classes)
            result = self.criterion(f, noise)
            losses = {"loss_ebm": self.loss_weight * self.mean_over_boxes(result.per_box)}
            logged = {f"ebm_{name}": value for name, value in result.logged.items()}
            if isinstance(noise, BoundProposal):
                proposal_loss = noise.loss(result.samples, result.f)
                losses["loss_proposal"] = self.mean_over_boxes(proposal_loss)
                logged.update(_proposal_figures(noise, result))
        for name, value in logged.items():
            mean = value.mean() if len(value) else value.new_zeros(())
            losses[name] = mean.detach()
        return losses

    def noise_around(
        self, f: BoxEnergy, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> BoundNoise | BoundProposal:
        """Return the noise around B tensors of true boxes ``(N_b, D)`` of labels ``(N_b,)``."""
        sizes = [len(rows) for rows in boxes]
        joined, classes = torch.cat(list(boxes)), torch.cat(list(labels))
        base: BoundNoise = self.noise.base.around(joined, classes, sizes)
        return self.noise.around(base, f) if isinstance(self.noise, LearnedProposal) else base

    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Climb f from detected boxes; arguments as the base's.

        A box that is not valid, or not among the ``max_refined`` of the highest scores, stays as
        it was detected. A box has the same result whatever others are refined with it, up to
        rounding; samples are drawn from a fixed seed.

        Returns:
            Per frame ``boxes`` ``(N_b, D)``; ``f_initial`` and ``f_refined`` ``(N_b,)``, f at the
            detected and the refined box, nowhere lower without a ``temperature``;
            ``log_density`` ``(N_b,)`` of the refined boxes with the option of that name. With
            ``uncertainty`` ``box_std`` ``(N_b, D)`` in meters, radians and m/s,
            ``box_covariance`` ``(N_b, D, D)`` and ``box_distribution``
            (:class:`ebm3d.densities.BoxDistribution`). D is 7 without ``refine_velocity``. NaN
            where a box was not refined. With ``score_decay`` ``scores_3d``.
        """
        # Tensors of inference mode cannot take part in a gradient; copies made outside it can.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(bev.device.type, enabled=False),
        ):
            bev, *points = (t.clone() if t.is_inference() else t for t in (bev, *points))
            chosen = select_best(
                boxes, labels, scores, self.max_refined, self.num_classes, self.box_columns
            )
            start = [b[i, : self.box_columns].float() for b, i in zip(boxes, chosen, strict=True)]
            classes = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            energy = self.make_energy(bev, points, start, classes)
            detected, noise = torch.cat(start), self.noise.base
            if not self.refine_velocity:
                detected, noise = detected[:, :7], noise.without_velocity()
            joined = torch.cat(classes)
            coding = LocalCoding(detected, noise.noise_std(detected, joined))
            g: Scorer = energy
            if self.temperature is not None:
                g = box_posterior(energy, coding, self.temperature, self.trust_heading)
            tau = self.temperature or 1.0
            # Of the same maxima as g, and as steep as f, for which the steps were chosen.
            climbed: Scorer = g if g is energy else lambda boxes: tau * g(boxes)
            if self.search is None:
                result: RefinementResult = self.refiner(climbed, detected, joined)
            else:
                result = self.search.climb(self.refiner, climbed, coding, joined)
            fields = {"f_initial": result.f_initial, "f_refined": result.f_final}
            if g is not energy or self.search is not None:
                ends = energy(torch.stack((detected, result.boxes), dim=1))
                fields = dict(zip(fields, ends.unbind(dim=1), strict=True))
            normalized = NormalizedEnergy(energy, result.boxes, noise, g)
            if self.log_density is not None:
                fields["log_density"] = self.log_density(
                    normalized, result.f_final / tau, detected, self.criterion
                )
            densities = None
            if self.uncertainty is not None:
                densities = energy_distribution(self.uncertainty, normalized)
            return self._frames(boxes, scores, chosen, result.boxes, fields, densities)


def _built(name: str, cls: type[Part], config: dict[str, Any] | None) -> Part | None:
    """Build what an option of the head configures, if it does; raises for unknown arguments."""
    if config is None:
        return None
    names = list(inspect.signature(cls).parameters)
    if not isinstance(config, dict) or not set(config) <= set(names):
        expected = f"a dict of {', '.join(names)}"
        raise input_error(name, expected, repr(config), f"{name}=dict() for defaults")
    return cls(**config)


def _proposal_figures(noise: BoundProposal, result: TrainingLoss) -> dict[str, Tensor]:
    """What is logged of a learned proposal, ``(N,)`` each."""
    with torch.no_grad():
        figures = {"proposal_nll": -noise.distribution.log_prob(noise.boxes)}
        if result.samples is not None and result.f is not None:
            log_q = result.samples.log_q[:, 1:]
            figures["proposal_effective_share"] = effective_share(result.f[:, 1:], log_q)
    return figures
