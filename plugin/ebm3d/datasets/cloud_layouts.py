"""The columns of a file of points, and whether its values fit them.

The values of one column are alike and the columns differ; read with a wrong number of columns, each
is a mixture. The evidence of a layout is the log likelihood of its columns' histograms in nats
(Dirichlet-multinomial), with prior counts for x, y, z and intensity: these decide where there are
few points, the histograms where there are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ebm3d.errors import check_positive, input_error

MAX_RANGE = 1000.0  # meters from the sensor
METERS = "bring x, y, z to meters in the sensor's frame"
STANDARD = ("x", "y", "z", "intensity")
_ALIASES = ("intensity", "reflectance", "reflectivity", "remission", "scalar_intensity", "i")
_WORDS_PER_WINDOW, _NUM_WINDOWS = 840, 5  # a multiple of all candidates' points, as 4-byte words
_DENORMAL = 1e-38  # integers, read as float32, are smaller
_MAX_OUTLIERS = 0.01  # share of points beyond MAX_RANGE that a sensor may return
_MARGIN = 12.0  # nats
_TIDY_MARGIN = 3.0  # where all intensities lie in [0, 1]
_MIN_MANY = 100  # points, to say more of columns than their number
_MIN_SHIFTED = 500  # points, to say that columns stand in another order
_PER_MULTIPLE = 0.3  # nats per value
_LOW_WORD = 1.0  # nats of the second half of a float64

_EDGES = np.array([1e-30, 1e-6, 0.01, 0.1, 0.3, 1.0001, 3, 10, 30, 100, 256, MAX_RANGE, 65536])
_ZERO = len(_EDGES) + 1  # bins: by magnitude and sign, exact zero in their middle, NaN at the end
_ACROSS = (1e-4, 1e-3, 0.02, 0.1, 0.2, 0.7, 1, 1, 1, 0.5, 0.1, 0.02, 1e-4, 1e-5)
_UP = (1e-4, 1e-3, 0.02, 0.2, 0.5, 1, 1, 0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
_RETURNED = (1e-3, 1e-2, 0.5, 1, 1, 1, 0.1, 0.1, 0.2, 0.2, 0.2, 1e-3, 1e-3, 1e-6)
_DARK = tuple(1e-3 * count for count in _RETURNED)
_ANY = (0.1,) * _ZERO


def _counts(
    negative: Sequence[float], zero: float, positive: Sequence[float]
) -> NDArray[np.float64]:
    """Prior counts of all bins, from those by magnitude."""
    return np.array([*reversed(negative), zero, *positive, 1e-3])


_PRIORS = {
    "x": _counts(_ACROSS, 0.1, _ACROSS),
    "y": _counts(_ACROSS, 0.1, _ACROSS),
    "z": _counts(_UP, 0.1, _UP),
    "intensity": _counts(_DARK, 1.0, _RETURNED),
}
_OTHER = _counts(_ANY, 0.2, _ANY)


def column_names(columns: str) -> tuple[str, ...]:
    """Names from ``"x,y,z,intensity,ring"``, or from ``"5"``: x, y, z, intensity and further ones.

    Raises:
        ValueError: if x, y or z is missing, or a name comes twice.
    """
    if columns.strip().isdigit() and (number := int(columns)) >= 3:
        return CloudLayout(STANDARD[:number] + tuple(map(str, range(5, number + 1)))).columns
    return CloudLayout(tuple(columns.replace(",", " ").split()) or ("",)).columns


@dataclass(frozen=True)
class CloudLayout:
    """What the columns of a data set's clouds are.

    Args:
        columns: their names in order, x, y, z among them (:func:`column_names`); what is neither
            these nor intensity is left out. By default those of the file's type.
        dtype: ``"float32"`` or ``"float64"``, of ``.bin`` files.
        max_intensity: the largest that the sensor returns; intensities are divided by it.

    Raises:
        ValueError: if there are no such columns or type.
    """

    columns: tuple[str, ...] = ()
    dtype: str = "float32"
    max_intensity: float = 1.0

    def __post_init__(self) -> None:
        """Check, and name the intensity so."""
        names = [name.lower() for name in self.columns]
        alias = next((alias for alias in _ALIASES if alias in names), None)
        names = ["intensity" if name == alias else name for name in names]
        if names and (not {"x", "y", "z"} <= set(names) or len(set(names)) < len(names)):
            expected = "a number from 3, or names, x, y, z among them, none twice"
            got = ",".join(self.columns)
            raise input_error("columns", expected, got, 'for example "x,y,z,intensity,ring"')
        if self.dtype not in ("float32", "float64"):
            raise input_error("dtype", "float32 or float64", repr(self.dtype))
        check_positive("max_intensity", self.max_intensity)
        object.__setattr__(self, "columns", tuple(names))

    @property
    def point_bytes(self) -> int:
        """Bytes of one point."""
        return len(self.columns) * np.dtype(self.dtype).itemsize

    @property
    def brief(self) -> str:
        """Number and type of the columns."""
        return f"{len(self.columns)} {self.dtype} columns"

    @property
    def option(self) -> str:
        """What to give to read it."""
        number = len(self.columns)
        if self.dtype == "float32":
            return f"columns={number} (--cloud-columns {number})"
        return (
            f'columns={number}, dtype="{self.dtype}" '
            f"(--cloud-columns {number} --cloud-dtype {self.dtype})"
        )

    def select(self, table: NDArray[Any]) -> NDArray[np.float32]:
        """X, y, z and intensity, ``(P, 4)``, of a table ``(P, C)``; intensity 0 where none is."""
        points = np.zeros((len(table), len(STANDARD)), dtype=np.float32)
        for column, name in enumerate(STANDARD):
            if name in self.columns:
                points[:, column] = table[:, self.columns.index(name)]
        points[:, 3] /= np.float32(self.max_intensity)
        return points


KITTI_LAYOUT = CloudLayout(STANDARD)
_CANDIDATES = tuple(
    CloudLayout(column_names(str(number)), dtype)
    for dtype, numbers in (("float32", range(3, 9)), ("float64", range(3, 8)))
    for number in numbers
)


@np.errstate(all="ignore")
def find_doubt(content: bytes, assumed: CloudLayout, is_asked: bool) -> tuple[str, str] | None:
    """Say what a ``.bin`` file looks like, and the remedy, where it may not have its layout.

    Args:
        content: of the file; some thousand values of it are looked at.
        assumed: its layout, columns included.
        is_asked: whether it was asked for: then only clear evidence contradicts. Otherwise it must
            be the likeliest, and clearly so with intensities beyond [0, 1].
    """
    words = _sample(np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4"), assumed)
    points = assumed.select(_table(words, assumed))
    if not len(points):
        return None
    fits = len(content) % assumed.point_bytes == 0
    far = is_far(points)
    is_tidy = not far and not ((points[:, 3] < 0) | (points[:, 3] > 1)).any()
    if fits and is_tidy and is_asked and "intensity" in assumed.columns:
        return None
    halves = _has_halves(words)
    evidence = {
        other: _score(words, other, halves) - _cost(other, assumed) * len(words)
        for other in _CANDIDATES
        if (len(other.columns), other.dtype) != (len(assumed.columns), assumed.dtype)
        and len(content) % other.point_bytes == 0
        and (len(other.columns) < 8 or len(points) >= _MIN_MANY)
        and _may_be(_table(words, other), other, halves)
    }
    best = max(evidence.values(), default=-np.inf)
    if far and best == -np.inf:
        largest = np.nanmax(np.abs(points[:, :3]))
        if not 1e-30 < largest < 1e9:
            remedy = "store little-endian float32 or float64"
            return "bits of another kind of number (integers? big-endian? compressed?)", remedy
        return f"coordinates up to {largest:.6g}, in no layout of 3 to 8 columns smaller", METERS
    own = -np.inf
    if not far and (assumed.dtype == "float64" or not halves):
        own = _score(words, assumed, halves)
    is_many = len(points) >= _MIN_MANY and not is_tidy
    if is_many and max(own, best) < _evidence(words[:, None], ("any",)) + _MARGIN:
        return "columns that are all alike", "store point after point, not column after column"
    if len(points) >= _MIN_SHIFTED and not is_asked and own > best and _is_shifted(points):
        got = "intensities in the place of a coordinate, and values below 0 in theirs"
        return got, "name the columns in their order (--cloud-columns intensity,x,y,z)"
    needed = -_MARGIN if is_asked or not fits else _TIDY_MARGIN if is_tidy else _MARGIN
    if own >= best + needed:
        return None
    if fits:
        evidence[assumed] = own
    best = max(evidence.values())
    likely = sorted(
        (e for e in evidence if evidence[e] > best - _MARGIN), key=lambda e: -evidence[e]
    )
    got = f"what looks like {' or '.join(e.brief for e in likely)}"
    return got, f"if that is right, give {' or '.join(e.option for e in likely)}"


def _cost(other: CloudLayout, assumed: CloudLayout) -> float:
    """Nats per value to explain that every second point differs, as lasers in turn do too."""
    is_multiple = other.point_bytes % assumed.point_bytes == 0 and other.dtype == assumed.dtype
    return _PER_MULTIPLE if is_multiple else 0.0


def _has_halves(words: NDArray[np.float32]) -> bool:
    """Whether every other word holds the last bits of a float64 that once was a float32."""
    bits = words[: len(words) // 2 * 2].view(np.uint32).reshape(-1, 2)
    first, second = ((bits & 0x1FFFFFFF) == 0).mean(axis=0)
    return bool(first > 0.75 > second)


def _sample(words: NDArray[np.float32], layout: CloudLayout) -> NDArray[np.float32]:
    """Some windows of a file, each starting with a point of every layout."""
    num_windows = len(words) // _WORDS_PER_WINDOW
    if num_windows <= _NUM_WINDOWS:
        return words
    if _WORDS_PER_WINDOW % (layout.point_bytes // 4):
        return words[: _NUM_WINDOWS * _WORDS_PER_WINDOW]
    windows = words[: num_windows * _WORDS_PER_WINDOW].reshape(num_windows, -1)
    return windows[np.linspace(0, num_windows - 1, _NUM_WINDOWS).astype(np.int64)].ravel()


def _table(words: NDArray[np.float32], layout: CloudLayout) -> NDArray[Any]:
    """Whole points of a layout, ``(P, C)``, from words of 4 bytes."""
    num_words = layout.point_bytes // 4
    whole = words[: len(words) // num_words * num_words]
    return whole.view(f"<f{np.dtype(layout.dtype).itemsize}").reshape(-1, len(layout.columns))


def _is_shifted(points: NDArray[np.float32]) -> bool:
    """Whether one of x, y, z holds only fractions or whole numbers, and intensity negative ones."""
    fraction = (points[:, :3] >= 0) & (points[:, :3] <= 1)
    whole = (points[:, :3] >= 0) & (points[:, :3] == np.round(points[:, :3]))
    alike = (fraction.all(axis=0) | whole.all(axis=0)) & (np.ptp(points[:, :3], axis=0) > 0)
    return bool(alike.any() and (points[:, 3] < 0).mean() > _MAX_OUTLIERS)


def is_far(points: NDArray[Any]) -> bool:
    """Whether more coordinates than a sensor may err by are too large for one, or denormal."""
    size = np.abs(points[:, :3])
    is_off = ((size > MAX_RANGE) & np.isfinite(size)) | ((size > 0) & (size < _DENORMAL))
    return bool(is_off.any(axis=1).mean() > _MAX_OUTLIERS)


def _may_be(table: NDArray[Any], layout: CloudLayout, halves: bool) -> bool:
    """Whether coordinates are in range and values no halves, nor pairs, of others."""
    if is_far(table) or (halves and layout.dtype == "float32"):
        return False
    size = np.abs(table[:, :4])
    is_usual = (size == 0) | ((size > 1e-6) & (size < 1e5))
    return layout.dtype == "float32" or bool(is_usual.mean() > 1 - _MAX_OUTLIERS)


def _score(words: NDArray[np.float32], layout: CloudLayout, halves: bool) -> float:
    """Evidence of a layout; the last bits of float64, unless they are halves, are random."""
    low_words = len(words) // 2 if layout.dtype == "float64" and not halves else 0
    return _evidence(_table(words, layout), layout.columns) - _LOW_WORD * low_words


def _evidence(table: NDArray[Any], columns: Sequence[str]) -> float:
    """Log likelihood of the histograms of all columns, nats."""
    bins = np.searchsorted(_EDGES, np.abs(table), side="right") + 1
    bins = np.where(np.isnan(table), _ZERO + 1, np.sign(table) * bins).astype(np.int64) + _ZERO
    total = 0.0
    for column, name in enumerate(columns):
        prior = _PRIORS.get(name, _OTHER)
        counts = np.bincount(bins[:, column], minlength=len(prior))
        total += gammaln(prior.sum()) - gammaln(prior.sum() + len(table))
        total += (gammaln(prior + counts) - gammaln(prior)).sum()
    return float(total)
