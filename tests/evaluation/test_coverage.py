from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import binom

from ebm3d.boxes.faces import containment_scale, face_excess, face_std
from ebm3d.evaluation.conformal import conformal_threshold, coverage_interval
from ebm3d.evaluation.coverage import CoverageTable, fit_coverage

_STD = np.array([0.2, 0.1, 0.05, 0.2, 0.1, 0.05, 0.05])
_DRAWS = 2000


def _scene(rng, num_frames=200, per_frame=4):
    """Refined boxes whose errors are shared in a frame, true boxes, frames."""
    num = num_frames * per_frame
    boxes = np.column_stack(
        [rng.uniform(5, 50, num), rng.uniform(-10, 10, num), rng.normal(-1.7, 0.1, num)]
        + [rng.uniform(3.5, 4.5, num), rng.uniform(1.5, 1.9, num), rng.uniform(1.4, 1.7, num)]
        + [rng.uniform(-np.pi, np.pi, num)]
    )
    frames = np.repeat(np.arange(num_frames), per_frame)
    common = rng.standard_t(4, (num_frames, 7))[frames]
    true = boxes + _STD * (0.6 * common + 0.6 * rng.normal(size=(num, 7)))
    return boxes, true, frames


def _table(rng):
    boxes, true, frames = _scene(rng)
    spread = face_std(boxes, np.broadcast_to(_STD, boxes.shape))
    names = ["Car"] * len(boxes)
    return fit_coverage(boxes, true, spread, names, [f"frame {frame}" for frame in frames])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("num", [9, 20, 99])
@pytest.mark.parametrize("has_ties", [False, True])
def test_a_new_score_is_covered_as_often_as_promised(rng, num, coverage, has_ties):
    scores = rng.exponential(size=(_DRAWS, num + 1))
    scores = np.ceil(3 * scores) if has_ties else scores
    thresholds = np.array([conformal_threshold(row[:-1], coverage) for row in scores])
    covered = (scores[:, -1] <= thresholds).sum()
    rank = math.ceil((num + 1) * coverage - 1e-9)
    low, high = binom.ppf([1e-5, 1 - 1e-5], _DRAWS, min(1.0, rank / (num + 1)))
    assert low <= covered
    assert has_ties or covered <= high


def test_a_box_drawn_from_a_new_frame_is_covered_as_often_as_promised(rng):
    covered = 0
    for _ in range(_DRAWS):
        counts = rng.integers(1, 9, 31)
        frames = np.repeat(np.arange(31), counts)
        # Crowded frames are easy, boxes of a frame nearly copies: pooled boxes would cover less.
        scores = (rng.exponential(size=31) / counts)[frames] + 1e-3 * rng.random(len(frames))
        known = frames < 30
        threshold = conformal_threshold(scores[known], 0.8, frames[known])
        covered += rng.choice(scores[~known]) <= threshold
    assert covered >= binom.ppf(1e-5, _DRAWS, 0.8)
    assert covered <= binom.ppf(1 - 1e-5, _DRAWS, 0.8 + 2 / 31)


@pytest.mark.parametrize(("coverage", "least"), [(0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_scores_promise_nothing(coverage, least):
    assert conformal_threshold(np.arange(least - 1.0), coverage) == math.inf
    assert conformal_threshold(np.arange(float(least)), coverage) == least - 1
    assert conformal_threshold(np.empty(0), coverage) == math.inf


def test_measured_coverage_has_the_interval_that_is_told(rng):
    low, high = coverage_interval(60, 0.9, 200)
    scores = rng.random((_DRAWS, 260))
    thresholds = [conformal_threshold(row[:60], 0.9) for row in scores]
    share = (scores[:, 60:] <= np.array(thresholds)[:, None]).mean(axis=1)
    assert abs(((low <= share) & (share <= high)).mean() - 0.955) < 0.025
    long_low, long_high = coverage_interval(60, 0.9)
    assert low < long_low < 0.9 < long_high < high
    assert coverage_interval(8, 0.9) == (1.0, 1.0)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_boxes_that_are_written_hold_the_promise(rng, coverage):
    table = _table(rng)
    boxes, true, _ = _scene(rng, 800)
    spread = face_std(boxes, np.broadcast_to(_STD, boxes.shape))
    names = ["Car"] * len(boxes)
    outer = table.outer(boxes, spread, names, coverage)
    inner = table.inner(boxes, spread, names, coverage)
    holds = face_excess(outer, true[:, None]).max(axis=(1, 2)) <= 1e-9
    lies = face_excess(true, inner[:, None]).max(axis=(1, 2)) <= 1e-9
    low, high = coverage_interval(60, coverage, 800, 0.9999)  # of the smallest band
    for covered in (holds, lies | (inner[:, 3:6] <= 0).any(axis=1)):
        assert low <= covered.mean() <= high
    assert (face_excess(outer, boxes[:, None]) <= 1e-9).all()


def test_scores_are_of_the_box_that_is_written(rng):
    boxes, true, frames = _scene(rng, 50)
    spread = rng.uniform(0.05, 0.2, (len(boxes), 6))
    table = fit_coverage(boxes, true, spread, ["Car"] * len(boxes), frames)
    np.testing.assert_array_equal(
        table.scores["inner"], containment_scale(boxes, true[:, None], spread)[:, 0]
    )
    excess = face_excess(boxes, true[:, None])[:, 0]
    assert (excess <= table.scores["outer"][:, None] * spread + 1e-12).all()


def test_perfect_boxes_are_their_own_outer_and_inner_boxes(rng):
    boxes, _, frames = _scene(rng, 50)
    spread, names = np.ones((len(boxes), 6)), ["Car"] * len(boxes)
    table = fit_coverage(boxes, boxes, spread, names, frames)
    for moved in (table.outer(boxes, spread, names, 0.9), table.inner(boxes, spread, names, 0.9)):
        np.testing.assert_allclose(moved, boxes, atol=1e-12)


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ((60, 60, 60), ["0-20", "20-40", "40-"]),
        ((60, 30, 20), ["0-20", "20-", "20-"]),
        ((10, 60, 60), ["0-40", "0-40", "40-"]),
        ((60, 10, 20), ["0-", "0-", "0-"]),
        ((5, 0, 5), ["0-", "0-", "0-"]),
    ],
)
def test_bands_of_few_frames_join_the_next_and_share_its_threshold(rng, counts, groups):
    boxes = np.tile([0, 0, -1.7, 4, 1.6, 1.5, 0.0], (sum(counts), 1))
    boxes[:, 0] = np.repeat([10, 30, 50], counts)
    true = boxes + 0.3 * rng.normal(size=boxes.shape)
    spread, names = np.ones((len(boxes), 6)), ["Car"] * len(boxes)
    borders = (0, 20, 40, np.inf)
    table = fit_coverage(boxes, true, spread, names, range(len(boxes)), borders=borders)
    rows = list(table.summary(0.95)["Car"].values())
    assert [row["group"] for row in rows] == groups
    of_group = np.repeat(groups, counts)
    for row in rows:
        scores = table.scores["outer"][of_group == row["group"]]
        assert (row["num_frames"], row["outer"]) == (len(scores), conformal_threshold(scores, 0.95))


def test_nothing_is_promised_where_nothing_is_known(rng):
    table = _table(rng)
    boxes = _scene(rng, 1)[0]
    spread = np.ones((len(boxes), 6))
    spread[0] = np.nan
    names = ["Car", "Tram", "Car", "Car"]
    outer, inner = table.outer(boxes, spread, names, 0.9), table.inner(boxes, spread, names, 0.9)
    assert table.thresholds("outer", boxes, names, 0.9)[1] == math.inf
    assert np.isinf(outer[:2, 3:6]).all()
    assert (inner[:2, 3:6] == 0).all()
    assert np.isfinite(outer[2:]).all()
    assert np.isfinite(inner).all()
    assert np.isfinite(outer[:, :2]).all()


def test_a_table_goes_through_json_and_comes_back(rng):
    table = _table(rng)
    copy = CoverageTable.from_dict(json.loads(json.dumps(table.as_dict())))
    boxes = _scene(rng)[0]
    names = ["Car"] * len(boxes)
    for kind in ("outer", "inner"):
        for coverage in (0.8, 0.95):
            first, second = (t.thresholds(kind, boxes, names, coverage) for t in (table, copy))
            np.testing.assert_array_equal(first, second)
    assert copy.summary(0.9) == table.summary(0.9)


def _fit(**changes):
    arguments = {
        "boxes": np.ones((3, 7)),
        "true_boxes": np.ones((3, 7)),
        "spread": np.ones((3, 6)),
        "names": ["Car"] * 3,
        "frames": np.arange(3),
    }
    return fit_coverage(**(arguments | changes))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: _fit(true_boxes=np.ones((2, 7))), "true_boxes"),
        (lambda: _fit(spread=np.ones((3, 7))), "spread"),
        (lambda: _fit(spread=np.zeros((3, 6))), "spread"),
        (lambda: _fit(frames=np.arange(2)), "frames"),
        (lambda: _fit(borders=(3, 1)), "borders"),
        (lambda: _fit().outer(np.ones((3, 7)), np.ones((3, 6)), ["Car"], 0.9), "names"),
        (lambda: _fit().outer(np.ones((3, 7)), np.ones((3, 7)), ["Car"] * 3, 0.9), "spread"),
        (lambda: _fit().thresholds("middle", np.ones((3, 7)), ["Car"] * 3, 0.9), "kind"),
        (lambda: _fit().summary(95), "coverage"),
        (lambda: CoverageTable.from_dict({"names": []}), "coverage table"),
        (lambda: conformal_threshold(np.array([np.nan]), 0.9), "scores"),
        (lambda: conformal_threshold(np.ones(3), 0.9, np.ones(2)), "frames"),
        (lambda: conformal_threshold(np.ones(3), 1.0), "coverage"),
        (lambda: coverage_interval(-1, 0.9), "num_frames"),
    ],
)
def test_what_does_not_fit_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
