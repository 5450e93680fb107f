"""The energy-based refinement head: scores boxes, learns by contrast with noise, climbs f."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.registry import MODELS
from torch import Tensor

from ebm3d.adapters.refinement_heads.base_refinement_head import BaseRefinementHead
from ebm3d.energy import BoxEnergy


@MODELS.register_module()
class EBMRefinementHead(BaseRefinementHead):
    """Energy f(x, y) of features x and box y, trained on true boxes, climbed from detected ones.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers, six numbers, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the energy network (``EnergyNetwork``, ``Paper2020EnergyNetwork``).
        noise: config of the noise (``BoxNoise``).
        loss: config of the training method (``NCELoss``, ``ConfidenceLoss``).
        refiner: config of the refiner (``GradientAscent``).
        num_noise_samples: M per true box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            rest stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        loss_weight: factor of the loss.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no pool, or a count is below one.
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
        num_noise_samples: int = 128,
        max_refined: int = 100,
        max_evaluations: int = 2048,
        loss_weight: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            point_cloud_range,
            pooling,
            network,
            noise,
            num_noise_samples,
            max_refined,
            max_evaluations,
            init_cfg,
        )
        self.criterion, self.refiner = MODELS.build(loss), MODELS.build(refiner)
        self.loss_weight = loss_weight
        self._check_rows("refiner.step_scale", getattr(self.refiner, "scale", None))

    def loss(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Contrast the true boxes with noise.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds ``(P, F)``, or none.
            boxes: B tensors of true boxes ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``; boxes with a negative label are left out.

        Returns:
            ``loss_ebm``: mean over the true boxes of all processes; and what the training method
            logs, such as ``ebm_rank_first`` of NCE, the share of true boxes ranked before all
            their noise samples.
        """
        with torch.autocast(bev.device.type, enabled=False):
            true, classes, samples = self.contrast(boxes, labels)
            result = self.criterion(self.bind(bev, points, true, classes), samples)
        losses = {"loss_ebm": self.loss_weight * self.mean_over_boxes(result.per_box)}
        for name, value in result.logged.items():
            share = value.mean() if len(value) else value.new_zeros(())
            losses[f"ebm_{name}"] = share.detach()
        return losses

    def refine(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scores: Sequence[Tensor],
    ) -> list[dict[str, Tensor]]:
        """Climb f from detected boxes.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors ``(N_b, >= 7)``.
            labels: B tensors ``(N_b,)``.
            scores: B tensors ``(N_b,)``; the ``max_refined`` highest are refined. A box that is
                not finite or has a size that is not positive stays as it was detected.

        Returns:
            Per frame ``boxes`` ``(N_b, 7)``, ``f_initial`` and ``f_refined`` ``(N_b,)``, NaN where
            a box was not refined.
        """
        # Tensors of inference mode cannot take part in a gradient; copies made outside it can.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(bev.device.type, enabled=False),
        ):
            bev, *rest = (t.clone() if t.is_inference() else t for t in (bev, *points))
            chosen = [self.choose(b, s) for b, s in zip(boxes, scores, strict=True)]
            start = [b[i, :7].float() for b, i in zip(boxes, chosen, strict=True)]
            classes = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            energy = self.bind(bev, rest, start, classes)
            result = self.refiner(energy, torch.cat(start), torch.cat(classes))
        sizes = [len(i) for i in chosen]
        parts = zip(
            result.boxes.split(sizes),
            result.f_initial.split(sizes),
            result.f_final.split(sizes),
            strict=True,
        )
        refined = []
        for box, index, (new, f_initial, f_final) in zip(boxes, chosen, parts, strict=True):
            out = box[:, :7].clone()
            out[index] = new.to(out.dtype)
            blank = box.new_full((len(box),), float("nan"))
            refined.append(
                {
                    "boxes": out,
                    "f_initial": blank.index_copy(0, index, f_initial.to(blank.dtype)),
                    "f_refined": blank.index_copy(0, index, f_final.to(blank.dtype)),
                }
            )
        return refined
