r"""Temperature scaling: one factor per dimension by which predicted densities are widened.

D residuals of a coding, 7 or with velocities 9. docs/method.md, M-17.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ebm3d.datasets.atomic import write_atomically
from ebm3d.errors import input_error, is_number
from ebm3d.evaluation.calibration import DIMENSIONS, VELOCITIES, dimensions_of

FloatArray = NDArray[np.float64]

MAX_FACTOR = 50.0  # factors are sought from 1 / 50 to 50


@dataclass(frozen=True)
class Temperature:
    """Fitted factors, and what they were fitted on.

    Args:
        factors: by which the spread about the point estimate grows, D of them, by dimension.
        num_pairs: pairs of a predicted density and a true box.
        nll_before: mean NLL of these pairs without scaling, nats.
        nll_after: with scaling.
    """

    factors: tuple[float, ...]
    num_pairs: int
    nll_before: float
    nll_after: float


def fit_temperature(
    nll: Callable[[FloatArray], float], num_pairs: int, num_factors: int = len(DIMENSIONS)
) -> Temperature:
    r"""Fit the factors that minimize the mean NLL; never worse on these pairs than no scaling.

    .. math:: \hat s = \arg\min_s -\frac1n \sum_n \log p_n^{(s)}(y_n), \qquad s \in [1/50, 50]^D

    with :math:`p^{(s)}` the density of :math:`a + s\,(t - a)`, a the point estimate. Source:
    Guo, Pleiss, Sun, Weinberger, ICML 2017; for box regression Feng et al., arXiv 1909.12358, here
    with a factor per dimension. Powell's method over log s, because the density of a histogram is
    piecewise constant. docs/method.md, M-17.

    Args:
        nll: mean NLL in nats of ``num_pairs`` calibration pairs with factors ``(D,)``.
        num_pairs: of how many pairs ``nll`` is the mean.
        num_factors: D.

    Raises:
        ValueError: if there are no pairs, or their NLL is not finite without scaling.
    """
    before = nll(np.ones(num_factors)) if num_pairs else math.nan
    if not math.isfinite(before):
        expected, got = "one or more, with a finite mean NLL", f"{num_pairs} with mean {before}"
        remedy = "fit on a split with matched boxes"
        raise input_error("calibration pairs", expected, got, remedy)
    bound = math.log(MAX_FACTOR) * (1 - 1e-12)  # so that what is written can be read
    result = minimize(
        lambda logs: nll(np.exp(logs)),
        np.zeros(num_factors),
        method="Powell",
        bounds=[(-bound, bound)] * num_factors,
        options={"xtol": 1e-4, "ftol": 1e-9},
    )
    factors, after = np.exp(result.x), float(result.fun)
    if not after < before:
        factors, after = np.ones(num_factors), before
    return Temperature(tuple(factors.tolist()), num_pairs, float(before), after)


def write_temperature(path: str | Path, temperature: Temperature) -> None:
    """Write fitted factors as JSON; whole or not at all. The folder is made if absent."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = dimensions_of(len(temperature.factors))
    factors = dict(zip(names, temperature.factors, strict=True))
    tree = vars(temperature) | {"factors": factors}
    write_atomically(path, (json.dumps(tree, indent=1) + "\n").encode())


def read_temperature(path: str | Path) -> FloatArray:
    """Read the factors ``(D,)`` of a file of :func:`write_temperature`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold seven or nine factors in [1 / 50, 50].
    """
    path = Path(path)
    if not path.is_file():
        expected = "a file that --fit-temperature wrote"
        raise FileNotFoundError(f"temperature: expected {expected}: {path}")
    remedy = "write it with tools/test.py --fit-temperature"
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise input_error(f"temperature {path}", "a JSON file", str(error), remedy) from error
    factors = tree.get("factors") if isinstance(tree, dict) else None
    names = dimensions_of(len(factors)) if isinstance(factors, dict) else ()
    if not isinstance(factors, dict) or set(factors) != set(names):
        expected = f"factors of {', '.join(DIMENSIONS)}, and {' and '.join(VELOCITIES)} or not"
        raise input_error(f"temperature {path}", expected, repr(factors), remedy)
    for name, value in factors.items():
        if not (is_number(value) and 1 / MAX_FACTOR <= value <= MAX_FACTOR):
            name = f"factor of {name} in temperature {path}"
            expected = f"a number from {1 / MAX_FACTOR:g} to {MAX_FACTOR:g}"
            raise input_error(name, expected, repr(value), remedy)
    return np.array([factors[name] for name in names], dtype=np.float64)
