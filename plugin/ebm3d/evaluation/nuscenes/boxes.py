"""Boxes of many samples as columns, in nuScenes' global frame.

S samples; N boxes; R bicycle racks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.errors import input_error, shape_error

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NuScenesBoxes:
    """Labels or detections; of equal scores the *later* row is matched first.

    Args:
        sample: index of the sample, ``(N,)``.
        translation: centers, global frame, ``(N, 3)``, meters.
        size: width, length, height, ``(N, 3)``, meters.
        yaw: heading in the xy plane, global frame, ``(N,)``, radians.
        velocity: x and y, global frame, ``(N, 2)``, m/s; NaN where unknown.
        class_index: in ``datasets.nuscenes.classes.CLASSES``, ``(N,)``.
        attribute: index in ``ATTRIBUTES``, -1 for none, ``(N,)``.
        score: ``(N,)``; NaN of labels.
        num_points: LiDAR and radar points, -1 where unknown, ``(N,)``; boxes with 0 do not count.

    Raises:
        ValueError: if a shape does not fit.
    """

    sample: IntArray
    translation: FloatArray
    size: FloatArray
    yaw: FloatArray
    velocity: FloatArray
    class_index: IntArray
    attribute: IntArray
    score: FloatArray
    num_points: IntArray

    def __post_init__(self) -> None:
        """Check the shapes."""
        for field in fields(self):
            value = getattr(self, field.name)
            width = _WIDTHS.get(field.name)
            expected = (len(self.sample),) if width is None else (len(self.sample), width)
            if np.shape(value) != expected:
                raise shape_error(field.name, f"{expected} for {len(self.sample)} boxes", value)

    def __len__(self) -> int:
        """N."""
        return len(self.sample)

    def select(self, which: BoolArray | IntArray) -> NuScenesBoxes:
        """Return the boxes chosen by a mask ``(N,)`` or by indices."""
        return NuScenesBoxes(**{name: values[which] for name, values in vars(self).items()})

    @property
    def upright_boxes(self) -> FloatArray:
        """Boxes ``(N, 7)`` in the global frame, ``z`` at the bottom, rolls and pitches dropped."""
        bottom = self.translation - np.outer(self.size[:, 2] / 2, [0, 0, 1])
        return np.column_stack([bottom, self.size[:, [1, 0, 2]], self.yaw])


_WIDTHS = {"translation": 3, "size": 3, "velocity": 2}
_RANGES = (  # of detections
    ("translation", "finite", -np.inf),
    ("size", "finite and positive", np.nextafter(0, 1)),
    ("yaw", "finite", -np.inf),
    ("velocity", "finite, or NaN where unknown", -np.inf),
    ("score", "finite and at least 0", 0.0),
)


def join_boxes(parts: Sequence[NuScenesBoxes]) -> NuScenesBoxes:
    """Return the rows of all parts, one after the other."""
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(NuScenesBoxes)
    }
    return NuScenesBoxes(**columns)


def check_detections(boxes: NuScenesBoxes) -> None:
    """Raise a ``ValueError`` for values that neither evaluation nor a result file takes."""
    for name, expected, least in _RANGES:
        values = getattr(boxes, name)
        is_unknown = np.isnan(values) if name == "velocity" else False
        bad = ~(np.isfinite(values) & (values >= least) | is_unknown)
        if bad.any():
            row = int(np.argwhere(bad)[0, 0])
            got = f"{values[row].tolist()} in row {row}"
            raise input_error(name, expected, got, "leave the box out")


def no_boxes() -> NuScenesBoxes:
    """Return an empty table."""
    integers = np.zeros(0, dtype=np.int64)
    numbers = np.zeros(0)
    return NuScenesBoxes(
        sample=integers,
        translation=np.zeros((0, 3)),
        size=np.zeros((0, 3)),
        yaw=numbers,
        velocity=np.zeros((0, 2)),
        class_index=integers,
        attribute=integers,
        score=numbers,
        num_points=integers,
    )


@dataclass(frozen=True, eq=False)
class Racks:
    """Bicycle racks: ``sample`` ``(R,)``, ``translation`` and ``size`` (w, l, h) ``(R, 3)``.

    ``rotation`` ``(R, 3, 3)`` turns the rack's axes (x along the length) into the global frame.
    """

    sample: IntArray
    translation: FloatArray
    size: FloatArray
    rotation: FloatArray


NO_RACKS = Racks(
    np.zeros(0, dtype=np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))
)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What results of one split are evaluated against.

    Args:
        tokens: of the S samples.
        scene: index of the scene of each sample, ``(S,)``.
        ego_translation: of the ego pose at the LiDAR's key frame, global frame, ``(S, 3)``, meters.
        labels: boxes of the ten classes; all columns but ``score`` are used.
        racks: bicycle racks.
        version: of the data set; empty if unknown.
        split: its name; empty if unknown.
        follows_samples: whether equal scores are told apart by the order of ``tokens`` instead of
            the order of the results, as the development kit does for splits of the user's own.
        has_attributes: whether the labels' attributes are known.
        notes: what the source of the labels does not hold.
    """

    tokens: tuple[str, ...]
    scene: IntArray
    ego_translation: FloatArray
    labels: NuScenesBoxes
    racks: Racks = NO_RACKS
    version: str = ""
    split: str = ""
    follows_samples: bool = False
    has_attributes: bool = True
    notes: tuple[str, ...] = ()

    @property
    def num_scenes(self) -> int:
        """Largest index of a scene, plus 1."""
        return int(self.scene.max(initial=-1)) + 1

    def ego_distances(self, boxes: NuScenesBoxes) -> FloatArray:
        """Return horizontal distances from the ego pose, ``(N,)``, meters."""
        delta = boxes.translation[:, :2] - self.ego_translation[boxes.sample, :2]
        distances: FloatArray = np.sqrt(np.square(delta).sum(axis=1))
        return distances
