"""Outer and inner boxes that hold a true box, and lie in it, with a promised probability.

N boxes, P calibration pairs of a refined and a true box; LiDAR frame, meters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebm3d.boxes.faces import containment_scale, face_excess, with_margins
from ebm3d.errors import input_error, shape_error
from ebm3d.evaluation.conformal import check_coverage, conformal_threshold, coverage_interval
from ebm3d.evaluation.localization import DISTANCE_BANDS, bands

FloatArray = NDArray[np.float64]

KINDS = ("outer", "inner")
"""Scores: how far faces move outwards and inwards, in ``spread``."""
_LEAST_BEYOND = 2  # frames expected beyond the threshold of a group


@dataclass(frozen=True, eq=False)
class CoverageTable:
    r"""Scores of calibration pairs, from which thresholds follow for any coverage.

    Outer boxes: :math:`O(c)`, the refined box with its faces moved outwards by :math:`c\,\sigma_j`;
    the score of a pair is the least c whose :math:`O(c)` holds the true box. Inner boxes: inwards,
    the least c whose box lies in the true one. Each holds by itself with the promised probability.
    docs/method.md, M-37.

    Args:
        names: predicted classes ``(P,)``.
        distances: of refined boxes from the sensor, ``(P,)``, meters.
        frames: ``(P,)``, a number for each frame.
        scores: ``(P,)`` by name of ``KINDS``.
        borders: of the bands of distance.
    """

    names: NDArray[np.str_]
    distances: FloatArray
    frames: NDArray[np.int64]
    scores: Mapping[str, FloatArray]
    borders: tuple[float, ...]

    def thresholds(
        self, kind: str, boxes: FloatArray, names: Sequence[str], coverage: float
    ) -> FloatArray:
        """Thresholds ``(N,)`` of the groups of refined boxes ``(N, 7)`` of predicted classes.

        The group is class and band of distance; a band joins the next nearer one (the nearest the
        next farther) where two frames are not expected beyond its threshold. Infinite where the
        class has too few frames, or none.
        """
        if kind not in KINDS:
            raise input_error("kind", f"one of {', '.join(KINDS)}", repr(kind))
        if len(names) != len(boxes):
            raise input_error("names", f"{len(boxes)}, one per box", len(names))
        groups = list(zip(names, self._bands(_distances(boxes)).tolist(), strict=True))
        of_group = {g: self._threshold(kind, *g, coverage) for g in set(groups)}
        return np.array([of_group[group] for group in groups], dtype=np.float64)

    def outer(
        self, boxes: FloatArray, spread: FloatArray, names: Sequence[str], coverage: float
    ) -> FloatArray:
        """Boxes ``(N, 7)`` that hold the true box; of infinite size where nothing is promised.

        Args:
            boxes: refined, ``(N, 7)``; the outer box has their heading.
            spread: of the faces ``(N, 6)``, as in :func:`fit_coverage`; NaN where it is unknown.
            names: predicted classes.
            coverage: probability, in (0, 1).
        """
        return self._moved("outer", boxes, spread, names, coverage, 1.0)

    def inner(
        self, boxes: FloatArray, spread: FloatArray, names: Sequence[str], coverage: float
    ) -> FloatArray:
        """Boxes ``(N, 7)`` that lie in the true box; with a size of 0, empty, where none is known.

        Arguments as :meth:`outer`.
        """
        return self._moved("inner", boxes, spread, names, coverage, -1.0)

    def summary(self, coverage: float) -> dict[str, dict[str, dict[str, Any]]]:
        """By class and band: counts, group, thresholds, interval of the coverage to expect."""
        check_coverage(coverage)
        tree: dict[str, dict[str, dict[str, Any]]] = {}
        for name in np.unique(self.names).tolist():
            tree[name] = {}
            for band, (title, _, _) in enumerate(bands(self.borders)):
                mask, group = self._group(name, band, coverage)
                num_frames = len(np.unique(self.frames[mask]))
                tree[name][title] = {
                    "group": group,
                    "num_frames": num_frames,
                    "num_boxes": int(mask.sum()),
                    **{kind: self._threshold(kind, name, band, coverage) for kind in KINDS},
                    "interval": coverage_interval(num_frames, coverage),
                }
        return tree

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, as JSON and ``torch.load`` take them."""
        return {
            "borders": [None if math.isinf(border) else border for border in self.borders],
            "names": self.names.tolist(),
            "distances": self.distances.tolist(),
            "frames": self.frames.tolist(),
            "scores": {kind: scores.tolist() for kind, scores in self.scores.items()},
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> CoverageTable:
        """Read what :meth:`as_dict` returned.

        Raises:
            ValueError: for what it did not return.
        """
        try:
            borders = tuple(math.inf if b is None else float(b) for b in tree["borders"])
            return cls(
                np.array(tree["names"], dtype=np.str_),
                np.array(tree["distances"], dtype=np.float64),
                np.array(tree["frames"], dtype=np.int64),
                {k: np.array(v, dtype=np.float64) for k, v in tree["scores"].items()},
                borders,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            expected = "what CoverageTable.as_dict returned"
            raise input_error("coverage table", expected, repr(error), "fit it again") from error

    def __post_init__(self) -> None:
        """Check that there is one value per pair."""
        bands(self.borders)
        columns = {"distances": self.distances, "frames": self.frames, **self.scores}
        for name, values in columns.items():
            if values.shape != self.names.shape:
                raise shape_error(name, f"{self.names.shape}, one per pair", values)
            if np.isnan(values).any():
                raise input_error(name, "numbers", "NaN", "leave out pairs without a density")
        if set(self.scores) != set(KINDS):
            raise input_error("scores", f"those of {', '.join(KINDS)}", sorted(self.scores))

    def _moved(
        self,
        kind: str,
        boxes: FloatArray,
        spread: FloatArray,
        names: Sequence[str],
        coverage: float,
        sign: float,
    ) -> FloatArray:
        """The boxes with their faces moved by the thresholds of a kind."""
        if spread.shape != (len(boxes), 6):
            raise shape_error("spread", f"({len(boxes)}, 6), one per face", spread)
        thresholds = self.thresholds(kind, boxes, names, coverage)[:, None]
        known = np.isfinite(spread).all(axis=1, keepdims=True) & np.isfinite(thresholds)
        margins = np.where(known, np.where(known, thresholds, 0.0) * spread, math.inf)
        return with_margins(boxes, sign * margins)

    def _threshold(self, kind: str, name: str, band: int, coverage: float) -> float:
        """Threshold of a class and band."""
        mask, _ = self._group(name, band, coverage)
        return conformal_threshold(self.scores[kind][mask], coverage, self.frames[mask])

    def _group(self, name: str, band: int, coverage: float) -> tuple[NDArray[np.bool_], str]:
        """Pairs of the group of a class and band ``(P,)``, and its range of distances."""
        of_class, bands_of = self.names == name, self._bands(self.distances)
        edges = [len(self.borders) - 1]  # of groups, from the farthest on
        for first in reversed(range(edges[0])):
            frames = self.frames[of_class & (first <= bands_of) & (bands_of < edges[-1])]
            if (len(np.unique(frames)) + 1) * (1 - coverage) >= _LEAST_BEYOND - 1e-9:
                edges.append(first)
        edges = [*(edges[:-1] or edges), 0]
        first = max(edge for edge in edges if edge <= band)
        last = min(edge for edge in edges if edge > band)
        title = bands((self.borders[first], self.borders[last]))[0][0]
        return of_class & (first <= bands_of) & (bands_of < last), title

    def _bands(self, distances: FloatArray) -> NDArray[np.int64]:
        """Index of the band of each distance; beyond the borders, the nearest."""
        return np.digitize(distances, self.borders[1:-1])


def fit_coverage(
    boxes: FloatArray,
    true_boxes: FloatArray,
    spread: FloatArray,
    names: Sequence[str],
    frames: Sequence[int | str],
    borders: Sequence[float] = DISTANCE_BANDS,
) -> CoverageTable:
    """Score calibration pairs for outer and inner boxes of any coverage.

    The promise is of new pairs, formed by the same rule in frames that are exchangeable with these:
    of none that ``boxes``, ``spread`` or their energy were fitted on. docs/method.md, M-37.

    Args:
        boxes: refined, ``(P, 7)``.
        true_boxes: their partners, ``(P, 7)``; a heading flipped by pi is the same box.
        spread: ``(P, 6)``, positive: how uncertain each face is, see :mod:`ebm3d.boxes.faces`; the
            promise holds for any that is computed alike for new boxes, a good one saves volume.
        names: predicted classes, P.
        frames: ids or numbers, P, equal for boxes of one frame.
        borders: of the bands of distance, chosen before looking at the pairs.

    Raises:
        ValueError: for shapes that do not fit, NaN, or a spread that is not positive.
    """
    num = len(boxes)
    if true_boxes.shape != (num, 7):
        raise shape_error("true_boxes", f"({num}, 7), as boxes", true_boxes)
    if spread.shape != (num, 6):
        raise shape_error("spread", f"({num}, 6), one per face", spread)
    if not (np.isfinite(spread) & (spread > 0)).all():
        expected, remedy = "positive and finite", "leave out pairs without a density"
        raise input_error("spread", expected, "other values", remedy)
    excess = face_excess(boxes, true_boxes[:, None])[:, 0]
    scores = {
        "outer": (excess / spread).max(axis=1, initial=0.0),
        "inner": containment_scale(boxes, true_boxes[:, None], spread)[:, 0],
    }
    labels = np.array(names, dtype=np.str_)
    _, numbers = np.unique(frames, return_inverse=True)
    return CoverageTable(labels, _distances(boxes), numbers, scores, tuple(borders))


def _distances(boxes: FloatArray) -> FloatArray:
    """Horizontal distances of boxes from the sensor, meters."""
    return np.hypot(boxes[:, 0], boxes[:, 1])
