"""The energy-based refinement head: scores boxes, learns by contrast with noise, climbs f."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from ebm3d.energy import BoxEnergy
from ebm3d.errors import input_error
from ebm3d.pooling import Scenes


@MODELS.register_module()
class EBMRefinementHead(BaseModule):
    """Energy f(x, y) of features x and box y, trained on true boxes, climbed from detected ones.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers, six numbers, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the energy network (``EnergyNetwork``, ``Paper2020EnergyNetwork``).
        noise: config of the noise (``BoxNoise``).
        loss: config of the training method (``NCELoss``).
        refiner: config of the refiner (``GradientAscent``).
        num_noise_samples: M per true box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            rest stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoxEnergy`.
        loss_weight: factor of the loss.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no pool, or a count is below one.
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
        num_noise_samples: int = 128,
        max_refined: int = 100,
        max_evaluations: int = 2048,
        loss_weight: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not pooling:
            raise input_error("pooling", "a list of at least one pool", pooling)
        if min(num_noise_samples, max_refined, max_evaluations) < 1:
            raise input_error(
                "num_noise_samples, max_refined, max_evaluations",
                "at least 1",
                (num_noise_samples, max_refined, max_evaluations),
            )
        self.point_cloud_range = tuple(point_cloud_range)
        pools: list[Any] = [
            MODELS.build({"in_channels": in_channels, **p} if _reads_map(p) else p) for p in pooling
        ]
        self.pools = torch.nn.ModuleList(pools)
        channels = sum(pool.out_channels for pool in pools)
        self.network = MODELS.build({"in_channels": channels, **network})
        self.noise, self.criterion = MODELS.build(noise), MODELS.build(loss)
        self.refiner = MODELS.build(refiner)
        self._check_rows()
        self.num_noise_samples, self.max_refined = num_noise_samples, max_refined
        self.max_evaluations, self.loss_weight = max_evaluations, loss_weight

    def energy(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> BoxEnergy:
        """Bind frames to the network.

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors ``(N_b, 7)``, near which f will be evaluated.
            labels: B tensors ``(N_b,)``.

        Returns:
            f of boxes in the order of the frames, ``(N, 7) -> (N,)``.
        """
        scenes = Scenes.from_range(bev.float(), self.point_cloud_range, points)
        counts = torch.tensor([len(b) for b in boxes], device=bev.device)
        scene_index = torch.repeat_interleave(torch.arange(len(boxes), device=bev.device), counts)
        pools: list[Any] = list(self.pools)
        return BoxEnergy(
            pools,
            self.network,
            scenes,
            torch.cat(list(boxes)),
            torch.cat(list(labels)),
            scene_index,
            self.max_evaluations,
        )

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
            ``loss_ebm``: mean over the true boxes of all processes; ``ebm_rank_first``: share of
            true boxes ranked before all their noise samples (logged only).
        """
        with torch.autocast(bev.device.type, enabled=False):
            kept = [lab >= 0 for lab in labels]
            true = [b[k, :7].float() for b, k in zip(boxes, kept, strict=True)]
            classes = [lab[k] for lab, k in zip(labels, kept, strict=True)]
            samples = [
                self.noise.sample(b, c, self.num_noise_samples)
                for b, c in zip(true, classes, strict=True)
            ]
            energy = self.energy(bev, points, true, classes)
            f = energy(torch.cat([s.boxes for s in samples]))
            log_q = torch.cat([s.log_q for s in samples])
            per_box = self.criterion(f, log_q)
        count = per_box.new_tensor(float(len(per_box)))
        all_reduce(count)
        # The host averages gradients over processes; the mean over all boxes needs the sum.
        mean = per_box.sum() * get_world_size() / count.clamp_min(1)
        unused = sum(p.sum() for p in self.parameters()) * 0 if len(per_box) == 0 else 0
        ranked = ((f - log_q).argmax(dim=1) == 0).float()
        share = ranked.mean() if len(ranked) else ranked.new_zeros(())
        return {"loss_ebm": self.loss_weight * (mean + unused), "ebm_rank_first": share.detach()}

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
            chosen = [self._choose(b, s) for b, s in zip(boxes, scores, strict=True)]
            start = [b[i, :7].float() for b, i in zip(boxes, chosen, strict=True)]
            classes = [lab[i] for lab, i in zip(labels, chosen, strict=True)]
            energy = self.energy(bev, rest, start, classes)
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

    def _check_rows(self) -> None:
        """Raise unless tables by class have one row for all, or as many as the network."""
        sizes = getattr(self.network, "log_mean_sizes", None)
        tables = {
            "noise.stds": getattr(self.noise, "stds", None),
            "refiner.step_scale": getattr(self.refiner, "scale", None),
        }
        for name, table in tables.items():
            if sizes is not None and table is not None and len(table) not in (1, len(sizes)):
                raise input_error(
                    f"rows of {name}", f"1 or {len(sizes)}, as network.mean_sizes", len(table)
                )

    def _choose(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Indices of the boxes to refine: sound, of the highest scores, at most ``max_refined``."""
        order = scores.argsort(descending=True, stable=True)
        sound = torch.isfinite(boxes[:, :7]).all(dim=1) & (boxes[:, 3:6] > 0).all(dim=1)
        return order[sound[order]][: self.max_refined]


def _reads_map(pool: dict[str, Any]) -> bool:
    """Whether the pool of a config wants to know the channels of the map."""
    pool_class = MODELS.get(pool["type"])
    return pool_class is not None and "in_channels" in inspect.signature(pool_class).parameters
