from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.visualization.frames import made_up_frame


def test_corner_shift_of_a_translation_is_its_length():
    np.testing.assert_allclose(made_up_frame().corner_shift(), [0.1, 0.5, 0.0], atol=1e-12)


def test_the_most_moved_box_comes_first_and_unrefined_ones_never():
    frame = made_up_frame()
    assert frame.most_changed(3) == [1, 0]
    assert frame.most_changed(1) == [1]


def test_above_keeps_the_rows_together():
    kept = made_up_frame().above(0.5)
    assert len(kept.initial) == len(kept.refined) == len(kept.names) == 2
    np.testing.assert_array_equal(kept.scores, [0.9, 0.6])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("refined", np.zeros((2, 7))),
        ("initial", np.zeros((3, 9))),
        ("scores", np.zeros(2)),
        ("f_initial", np.zeros((3, 1))),
        ("names", ("Car",)),
        ("points", np.zeros(3)),
        ("ground_truth", np.zeros((1, 6))),
    ],
)
def test_shapes_that_do_not_fit_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} must have shape"):
        dataclasses.replace(made_up_frame(), **{field: value})
