"""A network on pooled features bound to scenes: a callable from boxes to outputs.

N boxes; S variants of each (noise samples, or one while refining); P outputs per box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ebm3d.errors import (
    can_read,
    check_count,
    check_floating_boxes,
    check_index_type,
    check_labels,
    input_error,
    shape_error,
)
from ebm3d.pooling.scene import BoxPool, Scenes


class Network(Protocol):
    """From features ``(N, S, F)`` and boxes ``(N, S, D)`` to outputs ``(N, S, *output_shape)``."""

    output_shape: tuple[int, ...]

    @property
    def num_classes(self) -> int | None:
        """What labels ``(N,)`` must be below; None if the class does not enter."""
        ...

    def __call__(self, pooled: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the outputs."""
        ...


class BoundNetwork:
    """Outputs of a network for boxes near N bound ones.

    What does not depend on the exact boxes (projected maps, cropped points) is computed once here.

    Args:
        pools: their features are joined.
        network: from features to outputs.
        scenes: frames that the pools read.
        boxes: ``(N, 7)`` boxes near which the network will be evaluated, or ``(N, 9)``.
        labels: ``(N,)`` class indices.
        scene_index: ``(N,)`` frame of each box; all zero if left out.
        max_evaluations: about how many boxes are evaluated at a time; activations are recomputed
            in the backward pass, which bounds the memory of many variants. All N boxes of one
            variant go together. None: what fits the cache of a CPU or the memory of another device.

    Raises:
        ValueError: for wrong shapes, types and devices; in main memory, where values can be read
            without waiting, also for labels or frames that do not exist.
    """

    required_output_shape: ClassVar[tuple[int, ...] | None] = None

    def __init__(
        self,
        pools: Sequence[BoxPool],
        network: Network,
        scenes: Scenes,
        boxes: Tensor,
        labels: Tensor,
        scene_index: Tensor | None = None,
        max_evaluations: int | None = None,
    ) -> None:
        required, shape = self.required_output_shape, network.output_shape
        if required is not None and shape != required:
            raise input_error("network.output_shape", str(required), shape, "use EnergyNetwork")
        check_floating_boxes(boxes, columns=(7, 9))
        check_labels(labels, len(boxes), network.num_classes or 1, "mean_sizes")
        if scene_index is None:
            scene_index = torch.zeros_like(labels)
        else:
            _check_scene_index(scene_index, len(boxes), len(scenes.bev))
        if max_evaluations is not None:
            check_count("max_evaluations", max_evaluations)
        _check_devices(scenes, boxes, labels, scene_index)
        self.labels, self._bound_boxes = labels, boxes
        self._pools, self._network = tuple(pools), network
        self._contexts: list[Any] = []
        if len(boxes) == 0:  # perhaps without a frame, too: nothing will be read
            return
        self._contexts = [pool.prepare(scenes, boxes, scene_index) for pool in pools]
        self._max_evaluations = max_evaluations or min(
            pool.evaluations_at_once(context)
            for pool, context in zip(pools, self._contexts, strict=True)
        )

    def __call__(self, boxes: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            boxes: ``(N, D)``, or ``(N, S, D)`` for S variants of each, D as of the bound boxes; or
                D = 7 where that is nine: these variants have the velocities of the bound boxes.

        Returns:
            ``(N, *output_shape)`` or ``(N, S, *output_shape)``; differentiable in boxes,
            parameters and maps.

        Raises:
            ValueError: if the number or the type of boxes is not the bound one.
        """
        if boxes.ndim == 2:
            return self(boxes[:, None])[:, 0]
        boxes = self._variants(boxes)
        if boxes.numel() == 0:
            return boxes.new_zeros((*boxes.shape[:2], *self._network.output_shape))
        parts = self._split(boxes)
        if len(parts) == 1:
            return self._evaluate(boxes)
        evaluate = self._evaluate_twice if torch.is_grad_enabled() else self._evaluate
        return torch.cat([evaluate(part) for part in parts], dim=1)

    @torch.no_grad()
    def pooled(self, boxes: Tensor) -> Tensor:
        """Return the joined features ``(N, S, F)`` of boxes ``(N, S, D)``, without a graph.

        Raises:
            ValueError: if the number or the type of boxes is not the bound one.
        """
        boxes = self._variants(boxes)
        if boxes.numel() == 0:
            return boxes.new_zeros(*boxes.shape[:2], sum(p.out_channels for p in self._pools))
        return torch.cat([self._pool(part) for part in self._split(boxes)], dim=1)

    def _variants(self, boxes: Tensor) -> Tensor:
        """Variants of the bound type and number, with the bound velocities where they have none."""
        num, columns = self._bound_boxes.shape
        if boxes.ndim != 3 or boxes.shape[0] != num or boxes.shape[2] not in (7, columns):
            raise shape_error("boxes", f"({num}, S, {columns})", boxes)
        if boxes.dtype != self._bound_boxes.dtype:
            expected = f"of the type of the boxes bound to, {self._bound_boxes.dtype}"
            raise input_error("boxes", expected, boxes.dtype, "pass boxes.to(that type)")
        if boxes.shape[2] == columns:
            return boxes
        velocities = self._bound_boxes[:, None, 7:].expand(-1, boxes.shape[1], -1)
        return torch.cat((boxes, velocities), dim=-1)

    def _split(self, boxes: Tensor) -> tuple[Tensor, ...]:
        """Variants ``(N, S, D)``, N at least 1, in parts of about the bound on evaluations."""
        return boxes.split(max(1, self._max_evaluations // len(boxes)), dim=1)

    def _pool(self, boxes: Tensor) -> Tensor:
        """Features of ``(N, S, D)`` boxes."""
        pooled = [p(c, boxes) for p, c in zip(self._pools, self._contexts, strict=True)]
        return torch.cat(pooled, dim=-1)

    def _evaluate(self, boxes: Tensor) -> Tensor:
        """Outputs of ``(N, S, D)`` boxes at once."""
        return self._network(self._pool(boxes), boxes, self.labels)

    def _evaluate_twice(self, boxes: Tensor) -> Tensor:
        """The same without keeping activations; nothing here draws random numbers."""
        outputs: Tensor = checkpoint(
            self._evaluate, boxes, use_reentrant=False, preserve_rng_state=False
        )
        return outputs


def _check_devices(scenes: Scenes, boxes: Tensor, labels: Tensor, scene_index: Tensor) -> None:
    """Raise unless all is on the device of the boxes, and the map of their type."""
    if scenes.bev.dtype != boxes.dtype:
        expected = f"of the type of scenes.bev, {scenes.bev.dtype}"
        raise input_error("boxes", expected, boxes.dtype, "pass boxes.to(scenes.bev.dtype)")
    others = {"scenes.bev": scenes.bev, "labels": labels, "scene_index": scene_index}
    others.update((f"scenes.points[{i}]", cloud) for i, cloud in enumerate(scenes.points))
    for name, tensor in others.items():
        if tensor.device != boxes.device:
            expected, got = f"on {boxes.device}, as the boxes", f"on {tensor.device}"
            raise input_error(name, expected, got, f"move it by {name}.to(boxes.device)")


def _check_scene_index(scene_index: Tensor, num_boxes: int, num_scenes: int) -> None:
    """Raise unless each of N boxes lies in one of the frames of the map."""
    if scene_index.shape != (num_boxes,):
        raise shape_error("scene_index", f"({num_boxes},)", scene_index)
    check_index_type("scene_index", scene_index)
    if num_boxes and can_read(scene_index):
        low, high = (int(end) for end in scene_index.aminmax())
        if not 0 <= low <= high < num_scenes:
            expected = f"in [0, {num_scenes}), the frames of the map"
            raise input_error("scene_index", expected, f"{low} to {high}")
