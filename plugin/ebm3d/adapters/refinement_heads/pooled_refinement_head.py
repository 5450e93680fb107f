"""What the heads that read pooled features share: pools, a network, a noise."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from mmdet3d.registry import MODELS
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from ebm3d.adapters.refinement_heads.inputs import frame_index
from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.densities import BoxDistribution
from ebm3d.densities.uncertainty import decayed_scores
from ebm3d.energy import BoundNetwork
from ebm3d.errors import check_count, input_error, is_number
from ebm3d.pooling import Scenes

Bound = TypeVar("Bound", bound=BoundNetwork)
_TABLES = ("mean_sizes", "stds", "step_scale")


class PooledRefinementHead(RefinementHead):
    """Base of heads with a network on features pooled at a box.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers: x, y, z from and to, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the network, without its number of inputs.
        noise: config of the noise (``BoxNoise``, ``LearnedProposal``).
        score_decay: kappa of M-18; above 0, scores become ``score * exp(-kappa * u)`` with the
            relative uncertainty u of the refined box.
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            others stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        class_names: in the order of the labels; tables by class (``mean_sizes``, ``stds``,
            ``step_scale``) may then be dicts of rows by class name.
        init_cfg: as in mmengine.

    Raises:
        ValueError: if there is no pool, a config does not fit its class, tables by class differ
            in their number of rows, lack a class, or differ from the network in velocities.
    """

    def __init__(
        self,
        in_channels: int,
        point_cloud_range: Sequence[float],
        pooling: Sequence[dict[str, Any]],
        network: dict[str, Any],
        noise: dict[str, Any],
        score_decay: float,
        max_refined: int,
        max_evaluations: int | None,
        class_names: Sequence[str] | None,
        init_cfg: dict[str, Any] | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not isinstance(pooling, list | tuple) or not pooling:
            raise input_error("pooling", "a list of at least one pool", repr(pooling))
        if not _is_range(point_cloud_range):
            expected = "six numbers, x, y, z from and to, meters"
            raise input_error("point_cloud_range", expected, repr(point_cloud_range))
        check_count("in_channels", in_channels)
        check_count("max_refined", max_refined)
        if max_evaluations is not None:
            check_count("max_evaluations", max_evaluations)
        if not is_number(score_decay) or score_decay < 0:
            raise input_error("score_decay", "at least 0 and finite", score_decay)
        self.point_cloud_range = tuple(point_cloud_range)
        self.max_refined, self.max_evaluations = max_refined, max_evaluations
        self.score_decay = score_decay
        self.class_names = None if class_names is None else tuple(class_names)
        pools: list[Any] = [
            build(f"pooling[{index}]", pool, in_channels=in_channels)
            for index, pool in enumerate(pooling)
        ]
        self.pools = torch.nn.ModuleList(pools)
        self._features: dict[str, Any] = {"in_channels": sum(pool.out_channels for pool in pools)}
        self._features["velocities"] = columns_of(noise) == 9
        if isinstance(network, dict) and "mean_sizes" in network:
            network = rows_by_class("network", network, self.class_names)
            self._features["mean_sizes"] = network["mean_sizes"]
        self.network = self.build_on_features("network", network, "output_shape")
        self.noise = self.build_on_features("noise", noise, "around", "base")
        sizes = getattr(self.network, "log_mean_sizes", None)
        self.num_classes = None if sizes is None else len(sizes)
        stds = getattr(getattr(self.noise, "base", None), "stds", None)
        self._check_rows("noise.stds", stds)
        self.box_columns = 7 if stds is None else stds.shape[1]
        if (self.box_columns == 9) != getattr(self.network, "velocities", False):
            expected = f"{self.box_columns == 9} for rows of {self.box_columns} noise.stds"
            raise input_error("network.velocities", expected, self.box_columns != 9)

    def build_on_features(self, name: str, config: dict[str, Any], *attributes: str) -> Any:
        """Build a part that may read pooled features, its ``base`` first.

        Args:
            name: of the argument, for messages.
            config: of a network, a noise, a loss or a refiner; gets ``in_channels`` (the length of
                the pooled features), ``velocities`` (whether the noise has nine columns) and the
                network's ``mean_sizes`` where its class takes them.
            *attributes: that such a part has.

        Raises:
            ValueError: if the config does not fit its class, or the class lacks an attribute.
        """
        if isinstance(config, dict):
            config = rows_by_class(name, config, self.class_names)
        if isinstance(config, dict) and "base" in config:
            config = {**config, "base": self.build_on_features(f"{name}.base", config["base"])}
        part = build(name, config, **self._features)
        missing = [attribute for attribute in attributes if not hasattr(part, attribute)]
        if missing:
            got = f"{config['type']} without {', '.join(missing)}"
            raise input_error(f"{name}.type", f"that of a {name}", got)
        return part

    def _bound(
        self,
        cls: type[Bound],
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> Bound:
        """The network on B frames, for boxes near ``boxes``; see :class:`BoundNetwork`."""
        pools: list[Any] = list(self.pools)
        return cls(
            pools,
            self.network,
            Scenes.from_range(bev.float(), self.point_cloud_range, points),
            torch.cat(list(boxes)),
            torch.cat(list(labels)),
            frame_index([len(rows) for rows in boxes], bev.device),
            self.max_evaluations,
        )

    def _frames(
        self,
        boxes: Sequence[Tensor],
        scores: Sequence[Tensor],
        chosen: Sequence[Tensor],
        refined: Tensor,
        fields: dict[str, Tensor],
        densities: BoxDistribution | None,
    ) -> list[dict[str, Any]]:
        """Return per frame what ``refine`` returns: the chosen boxes refined, the others as input.

        Args:
            boxes: B tensors ``(N_b, >= 7)``.
            scores: B tensors ``(N_b,)``.
            chosen: indices of the refined boxes of each frame.
            refined: ``(N, D)``, frame after frame.
            fields: ``(N,)`` each; NaN where a box was not refined.
            densities: N of them, likewise, or None.
        """
        frames, begin = [], 0
        for frame_boxes, frame_scores, index in zip(boxes, scores, chosen, strict=True):
            rows, begin = slice(begin, begin + len(index)), begin + len(index)
            new = frame_boxes[:, : refined.shape[1]].clone()
            new[index] = refined[rows].to(new.dtype)
            frame: dict[str, Any] = {"boxes": new}
            for name, value in fields.items():
                blank = value.new_full((len(new),), float("nan"))
                frame[name] = blank.index_copy(0, index, value[rows])
            if densities is not None:
                density = densities[rows].scatter(index, len(new))
                frame["box_std"], frame["box_covariance"] = density.std, density.covariance
                frame["box_distribution"] = density
                if self.score_decay > 0:
                    frame["scores_3d"] = decayed_scores(
                        frame_scores, density.std, new.float(), self.score_decay
                    )
            frames.append(frame)
        return frames

    def mean_over_boxes(self, per_box: Tensor) -> Tensor:
        """Return the mean of ``(N,)`` losses over the boxes of all processes."""
        count = per_box.new_full((), len(per_box))
        all_reduce(count)
        # The host averages gradients over processes; the mean over all boxes needs the sum.
        mean = per_box.sum() * get_world_size() / count.clamp_min(1)
        # Data-parallel training waits for every parameter; score matching has no use of f's bias.
        return mean + torch.cat([p.flatten() for p in self.parameters()]).sum() * 0

    def _check_rows(self, name: str, table: Tensor | None) -> None:
        """Raise unless a table by class has one row for all, or as many as there are classes."""
        if table is None or len(table) == 1:
            return
        if self.num_classes is None:  # the network knows no classes, and the first table decides
            self.num_classes = len(table)
        if len(table) != self.num_classes:
            expected = f"1 or {self.num_classes}, as network.mean_sizes"
            raise input_error(f"rows of {name}", expected, len(table))


def columns_of(noise: dict[str, Any]) -> int:
    """D of the boxes of a noise's config, 7 where it does not say."""
    part = noise.get("base", noise) if isinstance(noise, dict) else {}
    stds = part.get("stds", ()) if isinstance(part, dict) else ()
    rows = list(stds.values() if isinstance(stds, dict) else stds)
    row = rows[0] if rows and isinstance(rows[0], list | tuple) else rows
    return 9 if len(row) == 9 else 7


def rows_by_class(
    name: str, config: dict[str, Any], class_names: Sequence[str] | None
) -> dict[str, Any]:
    """Return a config whose tables by class name are lists in the order of the labels.

    Raises:
        ValueError: if there are no class names, or a class has no row.
    """
    tables = {k: v for k, v in config.items() if k in _TABLES and isinstance(v, dict)}
    for key, table in tables.items():
        if class_names is None:
            expected = f"given, for the rows of {name}.{key} by class name"
            raise input_error("class_names", expected, None, "list the classes of the labels")
        missing = [repr(c) for c in class_names if c not in table]
        if missing:
            got = f"none for {', '.join(missing)}"
            raise input_error(f"{name}.{key}", "a row for each of class_names", got)
        config = {**config, key: [table[c] for c in class_names]}
    return config


def _is_range(values: Any) -> bool:
    """Whether values are six numbers, the last three above the first three."""
    if not isinstance(values, list | tuple) or len(values) != 6:
        return False
    return all(map(is_number, values)) and all(values[i] < values[i + 3] for i in range(3))


def build(name: str, config: dict[str, Any], **defaults: Any) -> Any:
    """Build a registered class, with ``defaults`` for arguments it takes and the config lacks.

    Raises:
        ValueError: for no config, a class that is not registered, or arguments it does not take.
    """
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise input_error(name, "a config: a dict with the name of a class as 'type'", repr(config))
    cls = MODELS.get(config["type"])
    if cls is None:
        remedy = "add the module that registers it to custom_imports"
        raise input_error(f"{name}.type", "the name of a registered class", config["type"], remedy)
    signature = inspect.signature(cls)
    config = {**{k: v for k, v in defaults.items() if k in signature.parameters}, **config}
    try:
        signature.bind(**{k: v for k, v in config.items() if k not in ("type", "_scope_")})
    except TypeError as error:
        raise input_error(name, f"arguments of {config['type']}", str(error)) from error
    return MODELS.build(config)
