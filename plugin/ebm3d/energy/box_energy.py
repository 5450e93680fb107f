"""f of boxes: the energy network bound to scenes."""

from __future__ import annotations

from ebm3d.energy.bound_network import BoundNetwork


class BoxEnergy(BoundNetwork):
    """The unnormalized log density f of boxes: ``(N, D) -> (N,)``, ``(N, S, D) -> (N, S)``.

    Arguments and errors as :class:`BoundNetwork`; the network gives one value per box.
    """

    required_output_shape = ()
