"""What every refinement head shares: pools, a network, a noise."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from ebm3d.adapters.refinement_heads.border import frame_index
from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.energy import BoundNetwork
from ebm3d.errors import check_count, input_error, is_number
from ebm3d.pooling import Scenes


class BaseRefinementHead(RefinementHead):
    """Pools features of boxes and binds frames to a network.

    Args:
        in_channels: channels of the bird's-eye-view map.
        point_cloud_range: what the map covers, six numbers, meters.
        pooling: configs of pools (``BEVGridPool``, ``PointBoxPool``); their features are joined.
        network: config of the network, less its number of inputs (and outputs).
        noise: config of the noise (``BoxNoise``, ``DetectionNoise``, ``LearnedProposal``).
        max_refined: largest number of boxes refined in a frame, those of the highest scores; the
            rest stay as detected.
        max_evaluations: see :class:`ebm3d.energy.BoundNetwork`.
        init_cfg: as in mmengine.

    Attributes:
        num_classes: how many the tables of the parts have a row for; None for any number.

    Raises:
        ValueError: if there is no pool, or a count is below one.
    """

    binding: type[BoundNetwork] = BoundNetwork

    def __init__(
        self,
        in_channels: int,
        point_cloud_range: Sequence[float],
        pooling: Sequence[dict[str, Any]],
        network: dict[str, Any],
        noise: dict[str, Any],
        max_refined: int,
        max_evaluations: int,
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
        check_count("max_evaluations", max_evaluations)
        self.point_cloud_range = tuple(point_cloud_range)
        pools: list[Any] = [
            build_with(f"pooling[{index}]", pool, in_channels=in_channels)
            for index, pool in enumerate(pooling)
        ]
        self.pools = torch.nn.ModuleList(pools)
        self._of_features = {"in_channels": sum(pool.out_channels for pool in pools)}
        if isinstance(network, dict) and "mean_sizes" in network:
            self._of_features["mean_sizes"] = network["mean_sizes"]
        self.network = self.build_on_features("network", network, "output_shape")
        self.noise = self.build_on_features("noise", noise, "around", "base")
        self.max_refined, self.max_evaluations = max_refined, max_evaluations
        sizes = getattr(self.network, "log_mean_sizes", None)
        self.num_classes = None if sizes is None else len(sizes)
        base = getattr(self.noise, "base", None)
        self._check_rows("noise.stds", getattr(base, "stds", None))

    def build_on_features(self, name: str, config: dict[str, Any], *parts: str) -> Any:
        """Build a part that may read pooled features; its ``base``, if it has one, first.

        Args:
            name: of the argument, for messages.
            config: of a network, a noise or a loss; ``in_channels`` (the length of the pooled
                features) and ``mean_sizes`` (the network's) are handed in where the class names
                them and the config does not.
            *parts: names of what such a part has.

        Raises:
            ValueError: for no config, a class that is not registered, other arguments than its
                own, or a class that lacks a part.
        """
        if isinstance(config, dict) and "base" in config:
            config = {**config, "base": self.build_on_features(f"{name}.base", config["base"])}
        built = build_with(name, config, **self._of_features)
        missing = [part for part in parts if not hasattr(built, part)]
        if missing:
            got = f"{config['type']} without {', '.join(missing)}"
            raise input_error(f"{name}.type", f"that of a {name}", got)
        return built

    def bind(
        self,
        bev: Tensor,
        points: Sequence[Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> BoundNetwork:
        """Bind frames to the network; values are not looked at (``border.py`` does that).

        Args:
            bev: ``(B, C, H, W)``.
            points: B clouds, or none.
            boxes: B tensors ``(N_b, 7)``, near which the network will be evaluated.
            labels: B tensors ``(N_b,)``.

        Returns:
            The network's outputs for boxes in the order of the frames.
        """
        pools: list[Any] = list(self.pools)
        return self.binding(
            pools,
            self.network,
            Scenes.from_range(bev.float(), self.point_cloud_range, points),
            torch.cat(list(boxes)),
            torch.cat(list(labels)),
            frame_index([len(own) for own in boxes], bev.device),
            self.max_evaluations,
        )

    def mean_over_boxes(self, per_box: Tensor) -> Tensor:
        """Return the mean over the true boxes of all processes, touching every parameter.

        Args:
            per_box: ``(N,)`` losses of this process.
        """
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
            raise input_error(
                f"rows of {name}", f"1 or {self.num_classes}, as network.mean_sizes", len(table)
            )


def _is_range(values: Any) -> bool:
    """Whether values are six numbers, the last three above the first three."""
    if not isinstance(values, list | tuple) or len(values) != 6:
        return False
    return all(map(is_number, values)) and all(values[i] < values[i + 3] for i in range(3))


def build_with(name: str, config: dict[str, Any], **offered: Any) -> Any:
    """Build a registered class.

    Args:
        name: of the argument that holds the config, for messages.
        config: its config.
        **offered: arguments it gets if its constructor names them and the config does not.

    Raises:
        ValueError: for no config, a class that is not registered, or other arguments than its own.
    """
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise input_error(name, "a config: a dict with the name of a class as 'type'", repr(config))
    built = MODELS.get(config["type"])
    if built is None:
        remedy = "add the module that registers it to custom_imports"
        raise input_error(f"{name}.type", "the name of a registered class", config["type"], remedy)
    signature = inspect.signature(built)
    config = {**{k: v for k, v in offered.items() if k in signature.parameters}, **config}
    try:
        signature.bind(**{k: v for k, v in config.items() if k not in ("type", "_scope_")})
    except TypeError as error:
        raise input_error(name, f"arguments of {config['type']}", str(error)) from error
    return MODELS.build(config)
