"""Labels of nuScenes' tables, of all categories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.nuscenes.classes import ATTRIBUTES, CLASS_OF_CATEGORY, CLASSES
from ebm3d.datasets.nuscenes.poses import FARTHEST
from ebm3d.datasets.nuscenes.records import Rows
from ebm3d.datasets.nuscenes.table_reader import Columns, TableReader
from ebm3d.datasets.nuscenes.velocities import velocities

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
LABEL_TABLES = ("attribute", "category", "instance", "sample_annotation")
_TABLE = LABEL_TABLES[3]
_INVALID = -2  # more than one attribute, or none of the detection task


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels of all categories, by sample, and within one in the order of the table.

    Args:
        samples: ``(A,)``, ascending.
        starts: rows of sample ``i`` are ``starts[i]`` to ``starts[i + 1]``, ``(N + 1,)``.
        instances: index of the instance, ``(A,)``.
        categories: index of the category, ``(A,)``.
        labels: index in ``CLASSES``, -1 for categories of no class, ``(A,)``.
        translations: of the center, global frame, ``(A, 3)``.
        sizes: width, length, height, ``(A, 3)``.
        rotations: global frame, ``(A, 4)``.
        attributes: index in ``ATTRIBUTES``, ``(A,)``.
        num_lidar_points: of the key frame, ``(A,)``.
        num_radar_points: ``(A,)``.
        previous: of the same instance in the sample before, ``(A,)``.
        next: in the sample after, ``(A,)``.
        velocities: m/s, global frame, NaN where unknown, ``(A, 3)``.
    """

    samples: IntArray
    starts: IntArray
    instances: IntArray
    categories: IntArray
    labels: IntArray
    translations: FloatArray
    sizes: FloatArray
    rotations: FloatArray
    attributes: IntArray
    num_lidar_points: IntArray
    num_radar_points: IntArray
    previous: IntArray
    next: IntArray
    velocities: FloatArray

    def rows_of(self, sample: int) -> slice:
        """Rows of a sample."""
        return slice(int(self.starts[sample]), int(self.starts[sample + 1]))


def read_annotations(
    reader: TableReader, timestamps: IntArray, sample_rows: Rows
) -> tuple[list[str], list[str], Annotations]:
    """Read names of categories, tokens of instances, and annotations; none without tables.

    Args:
        reader: of the tables.
        timestamps: of the samples, ``(N,)``.
        sample_rows: by token.

    Raises:
        DataError: if tokens do not fit together; other defects are noted by ``reader``.
    """
    attributes = reader.read("attribute", name=str)
    numbers = [ATTRIBUTES.index(n) if n in ATTRIBUTES else _INVALID for n in attributes["name"]]
    attribute = dict(zip(attributes["token"], numbers, strict=True))
    categories = reader.read("category", name=str)
    category_rows = reader.rows("category", categories)
    instances = reader.read("instance", category_token=category_rows.__getitem__)
    instance_rows = reader.rows("instance", instances)
    columns = reader.read_linked(
        _TABLE,
        sample_token=sample_rows.__getitem__,
        instance_token=instance_rows.__getitem__,
        attribute_tokens=partial(_attribute, attribute),
        translation=3,
        size=3,
        rotation=4,
        num_lidar_pts=int,
        num_radar_pts=int,
    )
    reader.check_once(_TABLE, columns, "token")
    reader.check_links("instance", instances, "category_token")
    reader.check_links(_TABLE, columns, "sample_token", "instance_token")
    reader.check_poses(_TABLE, columns)
    size = columns["size"]
    bad = ~((size > 0) & (size < FARTHEST)).all(axis=1)
    reader.check(_TABLE, bad, columns, "positive finite 'size'", size)
    bad = (columns["num_lidar_pts"] < 0) | (columns["num_radar_pts"] < 0)
    reader.check(_TABLE, bad, columns, "no negative numbers of points")
    reader.stop_at_problems()
    names = [CLASS_OF_CATEGORY.get(name) for name in categories["name"]]
    label_of = [-1 if name is None else CLASSES.index(name) for name in names]
    category = instances["category_token"][columns["instance_token"]]
    labels = np.array(label_of, np.int64)[category]
    bad = (labels >= 0) & (columns["attribute_tokens"] == _INVALID)
    reader.check(_TABLE, bad, columns, "at most one attribute, and one of the detection task")
    times = 1e-6 * timestamps[columns["sample_token"]]  # rounded as the devkit does
    previous, next = columns["prev"], columns["next"]
    bad = (previous >= 0) & (times[previous] >= times) | (next >= 0) & (times[next] <= times)
    reader.check(_TABLE, bad, columns, "'prev' of an earlier sample, 'next' of a later one")
    velocity = velocities(columns["translation"], times, previous, next)
    return (
        categories["name"],
        instances["token"],
        _sorted(columns, category, labels, velocity, len(timestamps)),
    )


def _sorted(
    columns: Columns, categories: IntArray, labels: IntArray, velocity: FloatArray, num_samples: int
) -> Annotations:
    """Annotations in the order of the samples."""
    order = np.argsort(columns["sample_token"], kind="stable")
    place = np.full(len(order) + 1, -1)
    place[order] = np.arange(len(order))
    samples = columns["sample_token"][order]
    return Annotations(
        samples=samples,
        starts=np.searchsorted(samples, np.arange(num_samples + 1)),
        instances=columns["instance_token"][order],
        categories=categories[order],
        labels=labels[order],
        translations=columns["translation"][order],
        sizes=columns["size"][order],
        rotations=columns["rotation"][order],
        attributes=columns["attribute_tokens"][order],
        num_lidar_points=columns["num_lidar_pts"][order],
        num_radar_points=columns["num_radar_pts"][order],
        previous=place[columns["prev"][order]],
        next=place[columns["next"][order]],
        velocities=velocity[order],
    )


def _attribute(indices: dict[str, int], tokens: list[str]) -> int:
    """Index in ``ATTRIBUTES``, -1 for none, or that there is no such."""
    if len(tokens) > 1:
        return _INVALID
    return indices.get(tokens[0], _INVALID) if tokens else -1
