r"""Compiled slopes df/dy of many small energy networks, and their parameter gradients.

The network, its parameters and the letters are those of :mod:`.kernels`. Slopes are computed
backwards from f, without parameter gradients. For the gradients of slopes the network is
differentiated forwards in y, with a prime for d/dy,

.. math::
    a_l' = W_l h_{l-1}', \quad \tanh(a)' = (1 - \tanh^2 a)\, a', \quad f' = w_4^\top h_3'

and units and slopes together backwards in the parameters. docs/method.md, M-32.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ebm3d.benchmarks.regression_1d.kernels import (
    B2,
    B3,
    BLOCK,
    FAST,
    ONE,
    W1,
    W2,
    W3,
    W4,
    ZERO,
    FloatArray,
    H,
    add_products,
    add_sums,
    add_transposed,
    hidden_units,
    last_layer,
    through_tanh,
)

_TWO = np.float32(2.0)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def first_slopes(theta: FloatArray, d: FloatArray, slopes: FloatArray) -> None:
    """Write the sum of w_j d_j into slopes ``(n,)``."""
    for s in range(len(slopes)):
        total = ZERO
        for j in range(H):
            total += theta[j] * d[j, s]
        slopes[s] = total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def unit_slopes(theta: FloatArray, units: FloatArray, a: FloatArray, h: FloatArray, n: int) -> None:
    """Write the slopes before the tanh into a ``(3, H, n)`` and those of units into h."""
    for j in range(H):
        for s in range(n):
            h[0, j, s] = (ONE - units[0, j, s] * units[0, j, s]) * theta[j]
    a[:] = 0
    add_matrix(theta[W1:W2], h[0], a[0], n)
    through_tanh(units[1], a[0], h[1], n)
    add_matrix(theta[W2:B2], h[1], a[1], n)
    add_residual_slopes(units[2], a[1], h[1], h[2], n)
    add_matrix(theta[W3:B3], h[2], a[2], n)
    add_residual_slopes(units[4], a[2], h[2], h[3], n)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_matrix(weight: FloatArray, h: FloatArray, out: FloatArray, n: int) -> None:
    """Add W h to ``out[:, :n]``."""
    for i in range(H):
        for s in range(n):
            total = out[i, s]
            for j in range(H):
                total += weight[i * H + j] * h[j, s]
            out[i, s] = total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_residual_slopes(
    t: FloatArray, a: FloatArray, h: FloatArray, out: FloatArray, n: int
) -> None:
    """Write h' + (1 - t^2) a' into ``out[:, :n]``."""
    for j in range(H):
        for s in range(n):
            out[j, s] = h[j, s] + (ONE - t[j, s] * t[j, s]) * a[j, s]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def tanh_slope_gradients(
    t: FloatArray, a: FloatArray, d: FloatArray, e: FloatArray, n: int
) -> None:
    """Turn gradients of t = tanh(x) and t' (d[0], e[0]) into those of x and x' (d[1], e[1])."""
    for j in range(H):
        for s in range(n):
            change = ONE - t[j, s] * t[j, s]
            e[1, j, s] = change * e[0, j, s]
            d[1, j, s] = change * (d[0, j, s] - _TWO * t[j, s] * a[j, s] * e[0, j, s])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def last_slope_gradients(
    theta: FloatArray, h: FloatArray, weights: FloatArray, e: FloatArray, out: FloatArray
) -> None:
    """Add the gradient of w_4, and write w_4 times the weights into ``e[:, :n]``."""
    for j in range(H):
        w, total = theta[W4 + j], ZERO
        for s in range(len(weights)):
            total += weights[s] * h[j, s]
            e[j, s] = w * weights[s]
        out[W4 + j] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def first_slope_gradients(
    theta: FloatArray, t: FloatArray, y: FloatArray, d: FloatArray, e: FloatArray, out: FloatArray
) -> None:
    """Add the gradients of w and b_0: t = tanh(w y + b_0), t' = (1 - t^2) w."""
    for j in range(H):
        w, slope, total = theta[j], ZERO, ZERO
        for s in range(len(y)):
            change = ONE - t[j, s] * t[j, s]
            inner = change * (d[j, s] - _TWO * t[j, s] * w * e[j, s])
            slope += inner * y[s] + change * e[j, s]
            total += inner
        out[j] += slope
        out[H + j] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_row_slopes(
    theta: FloatArray, context: FloatArray, y: FloatArray, f: FloatArray, slopes: FloatArray
) -> None:
    """Fill one row of f and of its slopes."""
    units = np.empty((6, H, BLOCK), np.float32)
    above, inner = np.empty((H, BLOCK), np.float32), np.empty((H, BLOCK), np.float32)
    for start in range(0, len(y), BLOCK):
        stop = min(start + BLOCK, len(y))
        n = stop - start
        hidden_units(theta, context, y[start:stop], units)
        last_layer(theta, units[5], f[start:stop])
        for j in range(H):
            above[j, :n] = theta[W4 + j]
        through_tanh(units[4], above, inner, n)
        add_transposed(theta[W3:B3], inner, above, n)
        through_tanh(units[2], above, inner, n)
        add_transposed(theta[W2:B2], inner, above, n)
        through_tanh(units[1], above, inner, n)
        above[:] = 0
        add_transposed(theta[W1:W2], inner, above, n)
        through_tanh(units[0], above, inner, n)
        first_slopes(theta, inner, slopes[start:stop])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_row_slope_gradients(
    theta: FloatArray,
    context: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Add the gradients of one row.

    ``a`` are the slopes before the tanh of layers 1, 2, 3, ``h`` those of h_0 to h_3; ``d`` and
    ``e`` are gradients with respect to units and to their slopes, after and before a tanh.
    """
    units = np.empty((6, H, BLOCK), np.float32)
    a, h = np.empty((3, H, BLOCK), np.float32), np.empty((4, H, BLOCK), np.float32)
    d, e = np.empty((2, H, BLOCK), np.float32), np.empty((2, H, BLOCK), np.float32)
    for start in range(0, len(y), BLOCK):
        stop = min(start + BLOCK, len(y))
        n = stop - start
        hidden_units(theta, context, y[start:stop], units)
        unit_slopes(theta, units, a, h, n)
        d[0] = 0
        last_slope_gradients(theta, h[3], weights[start:stop], e[0], out)
        for level, of_weight, of_bias in ((2, W3, B3), (1, W2, B2)):
            tanh_slope_gradients(units[2 * level], a[level], d, e, n)
            add_products(e[1], h[level], out[of_weight:of_bias], n)
            add_products(d[1], units[2 * level - 1], out[of_weight:of_bias], n)
            add_sums(d[1], out[of_bias : of_bias + H], n)
            add_transposed(theta[of_weight:of_bias], d[1], d[0], n)
            add_transposed(theta[of_weight:of_bias], e[1], e[0], n)
        tanh_slope_gradients(units[1], a[0], d, e, n)
        add_products(e[1], h[0], out[W1:W2], n)
        add_products(d[1], units[0], out[W1:W2], n)
        add_sums(d[1], context_out, n)
        d[0], e[0] = 0, 0
        add_transposed(theta[W1:W2], d[1], d[0], n)
        add_transposed(theta[W1:W2], e[1], e[0], n)
        first_slope_gradients(theta, units[0], y[start:stop], d[0], e[0], out)


@njit(cache=True, parallel=True, nogil=True)
def slopes_kernel(
    parameters: FloatArray, context: FloatArray, y: FloatArray, f: FloatArray, slopes: FloatArray
) -> None:
    """Fill f and df/dy ``(K, B, S)``; arguments as of :func:`.kernels.values_kernel`."""
    num_rows = y.shape[1]
    for row in prange(y.shape[0] * num_rows):
        k, b = row // num_rows, row % num_rows
        fill_row_slopes(parameters[k], context[k, b], y[k, b], f[k, b], slopes[k, b])


@njit(cache=True, parallel=True, nogil=True)
def slope_gradients_kernel(
    parameters: FloatArray,
    context: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Add the gradients of sum(weights df/dy); see :func:`.kernels.gradients_kernel`."""
    num_rows = y.shape[1]
    for row in prange(y.shape[0] * num_rows):
        k, b = row // num_rows, row % num_rows
        add_row_slope_gradients(
            parameters[k], context[k, b], y[k, b], weights[k, b], out[k, b], context_out[k, b]
        )
