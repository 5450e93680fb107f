"""Every box regression, with the settings that change what it computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ebm3d.regressions
from ebm3d.regressions import (
    BELBoxRegression,
    BinnedBoxRegression,
    BoxRegression,
    DirectBoxRegression,
    GaussianBoxRegression,
    LaplaceBoxRegression,
    PROPELBoxRegression,
    RLELBoxRegression,
)

CLASSES = [
    thing
    for name in ebm3d.regressions.__all__
    if isinstance(thing := getattr(ebm3d.regressions, name), type) and thing is not BoxRegression
]
EXAMPLES: dict[str, Callable[..., BoxRegression]] = {
    "direct": DirectBoxRegression,
    "direct-l1": partial(DirectBoxRegression, "l1"),
    "direct-l2": partial(DirectBoxRegression, "l2"),
    "direct-sine": partial(DirectBoxRegression, sin_difference=True),
    "gaussian": GaussianBoxRegression,
    "laplace": LaplaceBoxRegression,
    "propel": PROPELBoxRegression,
    "propel-one": partial(PROPELBoxRegression, num_components=1),
    "propel-mode": partial(PROPELBoxRegression, point_estimate="mode"),
    "propel-independent": partial(PROPELBoxRegression, joint=False),
    "bel": BELBoxRegression,
    "bel-ce": partial(BELBoxRegression, "hadamard", "gen", loss="ce"),
    "bel-counted": partial(BELBoxRegression, "unary", "custom", theta=None),
    "bel-expected": partial(BELBoxRegression, "b1jdj", loss="expected_l2"),
    "rlel": RLELBoxRegression,
    "binned": BinnedBoxRegression,
    "binned-laplace": partial(BinnedBoxRegression, soft_label="laplace", theta=10),
}
# Their loss is minus their log density, up to a constant, or nearly so: the spread is learned.
LEARN_A_SPREAD = ["direct", "gaussian", "laplace", "propel-one", "bel-ce", "rlel", "binned"]
