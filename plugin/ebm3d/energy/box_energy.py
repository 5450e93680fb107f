"""One scene bound to an energy network: a callable from boxes to f."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ebm3d.energy.bound_network import BoundNetwork, FeaturesToOutputs
from ebm3d.errors import input_error
from ebm3d.pooling.scene import BoxPool, Scenes


class BoxEnergy(BoundNetwork):
    """The unnormalized log density of boxes near given boxes: ``(N, 7) -> (N,)``.

    Called with ``(N, S, 7)`` it gives ``(N, S)``. Arguments and errors as
    :class:`ebm3d.energy.bound_network.BoundNetwork`; the network gives one value per box.
    """

    def __init__(
        self,
        pools: Sequence[BoxPool],
        network: FeaturesToOutputs,
        scenes: Scenes,
        boxes: Tensor,
        labels: Tensor,
        scene_index: Tensor | None = None,
        max_evaluations: int | None = None,
    ) -> None:
        if network.output_shape != ():
            raise input_error(
                "network.output_shape",
                "(), one value per box",
                network.output_shape,
                "use EnergyNetwork",
            )
        super().__init__(pools, network, scenes, boxes, labels, scene_index, max_evaluations)
