"""The energy-based refinement head: scores boxes, learns by contrast with noise, climbs f."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.base_refinement_head import BaseRefinementHead
from ebm3d.adapters.refinement_heads.border import take_detected, take_true
from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution
from ebm3d.densities.uncertainty import decayed_where_known
from ebm3d.devices import seeded_generator
from ebm3d.energy import (
    BoundNetwork,
    BoundProposal,
    BoxEnergy,
    ImportanceSamples,
    LearnedProposal,
)
from ebm3d.energy.log_density import LogDensity
from ebm3d.energy.normalized_energy import NormalizedEnergy
from ebm3d.energy.uncertainty import METHODS, energy_distribution
from ebm3d.errors import check_count, input_error, is_number
from ebm3d.losses.importance_sampling import effective_share
from ebm3d.losses.training import TrainingLoss
from ebm3d.noise import BoundDetectionNoise, BoundNoise, DetectionNoise, Detections
from ebm3d.refiners import Modes, RefinementResult

_PREDICTIONS = ("refined", "importance_mean")
_OF_METHODS = ("is_density", "draws_noise", "returns_samples")


class _Prediction(NamedTuple):
    """Boxes ``(N, 7)`` with f ``(N,)`` where they came from and where they are.

    No :class:`ebm3d.refiners.RefinementResult`: f of a mean may lie below that of the box.
    """

    boxes: Tensor
    f_initial: Tensor
    f_final: Tensor
    modes: Modes | None = None


@MODELS.register_module()
class EBMRefinementHead(BaseRefinementHead):
    """Energy f(x, y) of features x and box y, trained on true boxes, climbed from detected ones.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers, six numbers, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the energy network (``EnergyNetwork``, ``Paper2020EnergyNetwork``).
        noise: config of the noise: ``BoxNoise``; ``DetectionNoise``, whose hard negatives are what
            the detector finds; ``LearnedProposal``, trained beside f by a loss of its own.
        loss: config of the training method (``NCELoss``, ``ConfidenceLoss`` and others).
        refiner: config of the refiner: ``GradientAscent``, ``QuasiNewtonAscent``, or ``MultiStart``
            with one of them as ``base``.
        prediction: "refined": boxes climb f by the refiner; "importance_mean": the mean of
            samples of the noise around the detected box, weighted by exp f over their density.
            With a ``LearnedProposal`` that mean needs no box near the truth to start from.
        num_prediction_samples: of that mean.
        log_density: arguments of :class:`ebm3d.energy.log_density.LogDensity`,
            by which refined boxes also get their normalized ``log_density``; None for none.
        uncertainty: how refined boxes also get a density, as those of ``RegressionRefinementHead``:
            "laplace", from the curvature of f, or "importance", from weighted samples; see
            :func:`ebm3d.energy.uncertainty.energy_distribution`. None for none.
        score_decay: kappa of M-18; above 0, scores become ``score * exp(-kappa * u)`` with the
            relative uncertainty u of the refined box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            rest stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        loss_weight: factor of the loss.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no pool, a count is below one, the prediction is unknown, a method
            whose f is no log density is to teach a proposal or to weigh samples, or one that draws
            nothing of the noise is to learn from hard negatives or is a proposal's only teacher.
    """

    binding = BoxEnergy

    def __init__(
        self,
        in_channels: int,
        point_cloud_range: Sequence[float],
        pooling: Sequence[dict[str, Any]],
        network: dict[str, Any],
        noise: dict[str, Any],
        loss: dict[str, Any],
        refiner: dict[str, Any],
        prediction: str = "refined",
        num_prediction_samples: int = 256,
        log_density: dict[str, Any] | None = None,
        uncertainty: str | None = None,
        score_decay: float = 0.0,
        max_refined: int = 100,
        max_evaluations: int | None = None,
        loss_weight: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            point_cloud_range,
            pooling,
            network,
            noise,
            max_refined,
            max_evaluations,
            init_cfg,
        )
        if prediction not in _PREDICTIONS:
            raise input_error("prediction", f"one of {_PREDICTIONS}", repr(prediction))
        check_count("num_prediction_samples", num_prediction_samples)
        if not is_number(loss_weight) or loss_weight < 0:
            raise input_error("loss_weight", "at least 0 and finite", repr(loss_weight))
        self.criterion = self.build_on_features("loss", loss, *_OF_METHODS)
        self.refiner = self.build_on_features("refiner", refiner, "__call__")
        weighs = prediction == "importance_mean" or isinstance(self.noise, LearnedProposal)
        if weighs and not self.criterion.is_density:
            raise input_error(
                "loss",
                "one that makes f a log density, for a LearnedProposal or an importance mean",
                loss["type"],
            )
        self._check_noise(loss["type"])
        self.prediction, self.num_prediction_samples = prediction, num_prediction_samples
        self.loss_weight = loss_weight
        self.log_density = None if log_density is None else _log_density(log_density)
        if self.log_density is not None:
            self.log_density.check(self.criterion)
        self._take_uncertainty(uncertainty, score_decay, loss["type"])
        base = getattr(self.refiner, "base", None)  # of several starts
        for name, part, table in (
            ("step_scale", self.refiner, "scale"),
            ("noise_std", self.refiner, "noise_std"),
            ("base.step_scale", base, "scale"),
        ):
            self._check_rows(f"refiner.{name}", getattr(part, table, None))

    def _check_noise(self, loss: str) -> None:
        """Raise where the loss makes no use of what the noise is chosen for."""
        if isinstance(self.noise, DetectionNoise) and not self.criterion.draws_noise:
            raise input_error(
                "loss",
                "one that draws the noise it is given, for a DetectionNoise",
                loss,
                "use the DetectionNoise's base, a BoxNoise, as noise",
            )
        untaught = isinstance(self.noise, LearnedProposal) and self.noise.nll_weight == 0
        if untaught and not self.criterion.returns_samples:
            raise input_error(
                "loss",
                "one that gives samples, for a LearnedProposal of nll_weight=0",
                loss,
                "give the proposal an nll_weight above 0, or use a BoxNoise",
            )

    def _take_uncertainty(self, method: str | None, score_decay: float, loss: str) -> None:
        """Keep the options of that name; raises if they do not fit together."""
        if method not in (None, *METHODS):
            raise input_error("uncertainty", f"None or one of {METHODS}", repr(method))
        if method is not None and not self.criterion.is_density:
            raise input_error("loss", "one that makes f a log density, for an uncertainty", loss)
        if not is_number(score_decay) or score_decay < 0:
            raise input_error("score_decay", "at least 0 and finite", score_decay)
        if score_decay > 0 and method is None:
            raise input_error("uncertainty", f"one of {METHODS}, for a score_decay", None)
        self.uncertainty, self.score_decay = method, score_decay

    @property
    def wants_detections(self) -> bool:
        """Whether ``loss`` is to be given what the detector finds in the training frames."""
        return isinstance(self._direct_noise, DetectionNoise)

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        detections: Sequence[Detections] = (),
    ) -> dict[str, Tensor]:
        """Contrast the true boxes with noise.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds ``(P, F)``, or none.
            boxes: B tensors of true boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``; boxes with a negative label are left out.
            detections: what the detector found in the B frames, where ``wants_detections``.

        Returns:
            ``loss_ebm``: mean over the true boxes of all processes; ``loss_proposal`` likewise,
            with a ``LearnedProposal``; and what the training method logs, such as
            ``ebm_rank_first`` of NCE, the share of true boxes ranked before all their noise
            samples.
        """
        with torch.autocast(bev.device.type, enabled=False):
            true, classes = take_true(boxes, labels, self.num_classes)
            f = self.bind(bev, points, true, classes)
            noise = self.noise_around(f, true, classes, detections)
            result = self.criterion(f, noise)
            losses = {"loss_ebm": self.loss_weight * self.mean_over_boxes(result.per_box)}
            logged = {f"ebm_{name}": value for name, value in result.logged.items()}
            if isinstance(noise, BoundProposal):
                taught = noise.loss(result.samples, result.f)
                losses["loss_proposal"] = self.mean_over_boxes(taught)
                logged.update(_figures_of(noise, result))
        for name, value in logged.items():
            share = value.mean() if len(value) else value.new_zeros(())
            losses[name] = share.detach()
        return losses

    def noise_around(
        self,
        f: BoundNetwork,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        detections: Sequence[Detections] = (),
    ) -> BoundNoise | BoundDetectionNoise | BoundProposal:
        """Bind the noise to true boxes.

        Args:
            f: energy bound to the same boxes.
            boxes: B tensors ``(N_b, 7)``.
            labels: B tensors ``(N_b,)``.
            detections: of the B frames, where ``wants_detections``; none otherwise.
        """
        joined, classes = torch.cat(list(boxes)), torch.cat(list(labels))
        sizes, direct = [len(b) for b in boxes], self._direct_noise
        around: BoundNoise | BoundDetectionNoise
        if isinstance(direct, DetectionNoise):
            around = direct.around(joined, classes, detections, sizes)
        else:
            around = direct.around(joined, classes, sizes)
        if isinstance(self.noise, LearnedProposal):
            return self.noise.around(around, f)
        return around

    @property
    def _direct_noise(self) -> Any:
        """The noise that is no network's: a ``BoxNoise`` or a ``DetectionNoise``."""
        return self.noise.base_noise if isinstance(self.noise, LearnedProposal) else self.noise

    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Any]]:
        """Climb f from detected boxes, or weigh samples around them.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``.
            scores: B tensors ``(N_b,)``; the ``max_refined`` highest are refined. A box that is
                not finite or has a size that is not positive stays as it was detected.

        Returns:
            Per frame ``boxes`` ``(N_b, 7)``, ``f_initial`` and ``f_refined`` ``(N_b,)``, which is
            nowhere lower where boxes climb and may be where they are means, and with the option
            of that name ``log_density`` ``(N_b,)`` of the refined boxes. With
            ``uncertainty`` also ``box_std`` ``(N_b, 7)`` in meters and radians, ``box_covariance``
            ``(N_b, 7, 7)`` and ``box_distribution`` (a :class:`ebm3d.densities.BoxDistribution` of
            length N_b). With a ``MultiStart`` also ``modes``, all maxima that were found (a
            :class:`ebm3d.refiners.Modes` of length N_b; the box is the first). NaN where a box was
            not refined. With ``score_decay`` also ``scores_3d``; a box without a density keeps its
            score. The same for the same box, whatever others are refined with it, but for rounding:
            samples are of a fixed seed, and the same for all.
        """
        # Tensors of inference mode cannot take part in a gradient; copies made outside it can.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(bev.device.type, enabled=False),
        ):
            bev, *rest = (t.clone() if t.is_inference() else t for t in (bev, *points))
            chosen = take_detected(boxes, labels, scores, self.max_refined, self.num_classes)
            start = [b[i, :7].float() for b, i in zip(boxes, chosen, strict=True)]
            classes = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            energy = self.bind(bev, rest, start, classes)
            detected = torch.cat(start)
            result = self._predicted(energy, detected, torch.cat(classes))
            values = {"f_initial": result.f_initial, "f_refined": result.f_final}
            normalized = NormalizedEnergy(energy, result.boxes, self.noise.base)
            if self.log_density is not None:
                values["log_density"] = self.log_density(
                    normalized, result.f_final, detected, self.criterion
                )
            distribution = None
            if self.uncertainty is not None:
                distribution = energy_distribution(self.uncertainty, normalized)
        refined, begin = [], 0
        for box, score, index in zip(boxes, scores, chosen, strict=True):
            own, begin = slice(begin, begin + len(index)), begin + len(index)
            out = box[:, :7].clone()
            out[index] = result.boxes[own].to(out.dtype)
            blank = box.new_full((len(box),), float("nan"))
            of_frame: dict[str, Any] = {
                name: blank.index_copy(0, index, value[own].to(blank.dtype))
                for name, value in values.items()
            }
            if result.modes is not None:
                of_frame["modes"] = result.modes[own].scatter(index, len(box))
            if distribution is not None:
                scatter = distribution[own].scatter(index, len(box))
                of_frame.update(self._density_fields(scatter, out, score))
            refined.append({"boxes": out, **of_frame})
        return refined

    def _density_fields(
        self, distribution: BoxDistribution, boxes: Tensor, scores: Tensor
    ) -> dict[str, Any]:
        """What densities add to a frame of refined boxes ``(N_b, 7)``."""
        fields = {
            "box_std": distribution.std,
            "box_covariance": distribution.covariance,
            "box_distribution": distribution,
        }
        if self.score_decay > 0:
            fields["scores_3d"] = decayed_where_known(
                scores, distribution.std, boxes.float(), self.score_decay
            )
        return fields

    def _predicted(self, f: BoundNetwork, boxes: Tensor, labels: Tensor) -> _Prediction:
        """Refine detected boxes ``(N, 7)``."""
        if self.prediction == "importance_mean":
            return self._importance_means(f, boxes, labels)
        found: RefinementResult = self.refiner(f, boxes, labels)
        return _Prediction(found.boxes, found.f_initial, found.f_final, found.modes)

    def _importance_means(self, f: BoundNetwork, boxes: Tensor, labels: Tensor) -> _Prediction:
        """Means of noise samples around detected boxes, weighted by exp f over their density."""
        generator = seeded_generator(boxes.device, 0)
        # Other boxes of the frame, and how many they are, say nothing of a box.
        around = self.noise.base.shared().around(
            boxes, labels, reference=boxes, generator=generator
        )
        noise: BoundNoise | BoundProposal = around
        if isinstance(self.noise, LearnedProposal):
            noise = self.noise.around(around, f, generator, shared=True)
        drawn = noise.sample(self.num_prediction_samples)
        values, coding = f(drawn.boxes), LocalCoding(boxes, noise.noise_std)
        posterior = ImportanceSamples(coding, drawn.boxes[:, 1:], values[:, 1:], drawn.log_q[:, 1:])
        means = posterior.boxes
        sound = torch.isfinite(means).all(dim=1)
        means = torch.where(sound[:, None], means, boxes)
        return _Prediction(means, values[:, 0], f(means))


def _log_density(config: dict[str, Any]) -> LogDensity:
    """Build what normalizes f; raises for other arguments than its own."""
    names = list(inspect.signature(LogDensity).parameters)
    if not isinstance(config, dict) or not set(config) <= set(names):
        expected = f"a dict of {', '.join(names)}"
        raise input_error("log_density", expected, repr(config), "log_density=dict() for defaults")
    return LogDensity(**config)


def _figures_of(noise: BoundProposal, result: TrainingLoss) -> dict[str, Tensor]:
    """What is logged of a learned proposal, ``(N,)`` each."""
    with torch.no_grad():
        figures = {"proposal_nll": -noise.distribution.log_prob(noise.boxes)}
        if result.samples is not None and result.f is not None:
            log_q = result.samples.log_q[:, 1:]
            figures["proposal_effective_share"] = effective_share(result.f[:, 1:], log_q)
    return figures
