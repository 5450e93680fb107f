"""An energy on points alone: f(x, y) of the points x in and around a box y.

B frames of P points; N boxes; C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from ebm3d.energy import BoxEnergy, EnergyNetwork
from ebm3d.errors import input_error
from ebm3d.noise import BoxNoise
from ebm3d.pooling import PointBoxPool, Scenes

Row = tuple[float, ...]


@dataclass(frozen=True)
class EnergySettings:
    """What a :class:`PointsEnergy` is built from; plain numbers and names.

    Attributes:
        class_names: of the C classes, in the order of the labels.
        mean_sizes: C rows of length, width, height, meters.
        noise_stds: C rows of the standard deviations of :class:`ebm3d.noise.BoxNoise`.
        uses_intensity: whether f sees the intensity of the points, in [0, 1], beside x, y, z.
        channels: widths of the two layers on points.
        hidden_channels: widths of the hidden layers on pooled features.
        max_points: largest number of points of a crop.
    """

    class_names: tuple[str, ...]
    mean_sizes: tuple[Row, ...]
    noise_stds: tuple[Row, ...]
    uses_intensity: bool = False
    channels: tuple[int, int] = (32, 64)
    hidden_channels: tuple[int, ...] = (256, 256)
    max_points: int = 192

    def __post_init__(self) -> None:
        for name in ("mean_sizes", "noise_stds"):
            rows = getattr(self, name)
            if not self.class_names or len(rows) != len(self.class_names):
                expected = f"a row for each of {len(self.class_names)} classes, at least one"
                raise input_error(name, expected, f"{len(rows)} rows")

    def as_dict(self) -> dict[str, object]:
        """Plain values, from which ``EnergySettings(**values)`` is the same."""
        return asdict(self)


class PointsEnergy(nn.Module):
    """Energy of boxes from clouds, for detectors of which nothing but their boxes is known.

    The parts of the refinement head without its map: ``PointBoxPool``, ``EnergyNetwork``,
    ``BoxNoise``.

    Args:
        settings: sizes of the parts, tables by class.
    """

    def __init__(self, settings: EnergySettings) -> None:
        super().__init__()
        self.settings = settings
        self.pool = PointBoxPool(
            settings.channels,
            max_points=settings.max_points,
            num_features=4 if settings.uses_intensity else 3,
        )
        self.network = EnergyNetwork(
            self.pool.out_channels, settings.mean_sizes, settings.hidden_channels
        )
        self.noise = BoxNoise(settings.noise_stds)

    def around(
        self,
        points: Sequence[Tensor],
        boxes: Tensor,
        labels: Tensor,
        frame_index: Tensor | None = None,
    ) -> BoxEnergy:
        """Return f for boxes near ``boxes``.

        Args:
            points: B clouds ``(P, 4)``: x, y, z (m, LiDAR frame), intensity in [0, 1].
            boxes: ``(N, 7)``, LiDAR frame, z at the bottom.
            labels: ``(N,)`` class indices.
            frame_index: ``(N,)`` cloud of each box; all the first if left out.
        """
        scenes = Scenes.from_points([cloud.to(boxes.dtype) for cloud in points])
        return BoxEnergy([self.pool], self.network, scenes, boxes, labels, frame_index)
