r"""Compiled evaluation of many small energy networks: values, and their parameter gradients.

K models; B rows (one x each); S values of y in a row; H = 10 units in every layer; P parameters.

The network after the branch of x, whose part of the joining layer arrives as the context c:

.. math::
    h_0 = \tanh(w y + b_0), \quad h_1 = \tanh(W_1 h_0 + c), \quad
    h_2 = h_1 + \tanh(W_2 h_1 + b_2), \quad h_3 = h_2 + \tanh(W_3 h_2 + b_3), \quad
    f = w_4^\top h_3 + b_4

The parameters of a model are one row of P numbers in the order w, b_0, W_1, W_2, b_2, W_3, b_3,
w_4, b_4, the matrices by rows. A row of y is worked through in blocks whose hidden units stay in
the cache; the backward pass computes them again, which is cheaper than to fetch them from memory.
The sums over S are reassociated, so results differ from torch's by rounding; they do not depend on
the number of threads. docs/method.md, M-32.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

NUM_UNITS = 10
NUM_PARAMETERS = 2 * NUM_UNITS + 3 * NUM_UNITS**2 + 3 * NUM_UNITS + 1

H = NUM_UNITS
BLOCK = 256
# Where the parts of a row of parameters begin.
W1 = 2 * H
W2 = W1 + H * H
B2 = W2 + H * H
W3 = B2 + H
B3 = W3 + H * H
W4 = B3 + H
B4 = W4 + H

# tanh(x) = x P(x^2) / Q(x^2) up to 6e-9 on [-8, 8], fitted to the least maximal error; 3e-7 in
# float32. Beyond, 1 - tanh is below 3e-7.
_CLAMP = np.float32(8.0)
_P0, _P1, _P2, _P3, _P4 = (
    np.float32(c)
    for c in (0.9999999700, 0.1343818904, 3.564153646e-3, 2.177320542e-5, 1.506175391e-8)
)
_Q1, _Q2, _Q3, _Q4 = (
    np.float32(c) for c in (0.4677150982, 2.613600622e-2, 3.399175356e-4, 8.453638986e-7)
)
ONE = np.float32(1.0)
ZERO = np.float32(0.0)

# Sums may be reordered and a division may become a product, so that loops over y become vector
# instructions; NaN and infinity keep their meaning.
FAST = {"contract", "reassoc", "arcp", "nsz"}

FloatArray = NDArray[np.float32]


@njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent of a float32 number, with an error of at most 4e-7."""
    x = _CLAMP if x > _CLAMP else (-_CLAMP if x < -_CLAMP else x)
    z = x * x
    numerator = (((_P4 * z + _P3) * z + _P2) * z + _P1) * z + _P0
    denominator = (((_Q4 * z + _Q3) * z + _Q2) * z + _Q1) * z + ONE
    return x * numerator / denominator


@njit(cache=True, error_model="numpy", fastmath=FAST)
def first_layer(theta: FloatArray, y: FloatArray, h: FloatArray) -> None:
    """Write tanh(w y + b) of n values into ``h[:, :n]``."""
    for j in range(H):
        w, b = theta[j], theta[H + j]
        for s in range(len(y)):
            h[j, s] = tanh(w * y[s] + b)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def layer(weight: FloatArray, bias: FloatArray, h: FloatArray, out: FloatArray, n: int) -> None:
    """Write tanh(W h + b) into ``out[:, :n]``; the weight is flat, by rows."""
    for i in range(H):
        for s in range(n):
            total = bias[i]
            for j in range(H):
                total += weight[i * H + j] * h[j, s]
            out[i, s] = tanh(total)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add(a: FloatArray, b: FloatArray, out: FloatArray, n: int) -> None:
    """Write a + b into ``out[:, :n]``."""
    for j in range(H):
        for s in range(n):
            out[j, s] = a[j, s] + b[j, s]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def hidden_units(theta: FloatArray, context: FloatArray, y: FloatArray, units: FloatArray) -> None:
    """Write h_0, h_1, h_2 - h_1, h_2, h_3 - h_2 and h_3 into ``units`` ``(6, H, n)``."""
    n = len(y)
    first_layer(theta, y, units[0])
    layer(theta[W1:W2], context, units[0], units[1], n)
    layer(theta[W2:B2], theta[B2:W3], units[1], units[2], n)
    add(units[1], units[2], units[3], n)
    layer(theta[W3:B3], theta[B3:W4], units[3], units[4], n)
    add(units[3], units[4], units[5], n)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def last_layer(theta: FloatArray, h: FloatArray, f: FloatArray) -> None:
    """Write w_4 h + b_4 into f ``(n,)``."""
    for s in range(len(f)):
        total = theta[B4]
        for j in range(H):
            total += theta[W4 + j] * h[j, s]
        f[s] = total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def through_tanh(h: FloatArray, d: FloatArray, out: FloatArray, n: int) -> None:
    """Write (1 - h^2) d into ``out[:, :n]``, where h is the tanh."""
    for j in range(H):
        for s in range(n):
            out[j, s] = (ONE - h[j, s] * h[j, s]) * d[j, s]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_transposed(weight: FloatArray, d: FloatArray, out: FloatArray, n: int) -> None:
    """Add W^T d to ``out[:, :n]``."""
    for j in range(H):
        for s in range(n):
            total = out[j, s]
            for i in range(H):
                total += weight[i * H + j] * d[i, s]
            out[j, s] = total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_products(d: FloatArray, h: FloatArray, out: FloatArray, n: int) -> None:
    """Add the sums over n of d_i h_j to ``out[i H + j]``."""
    for i in range(H):
        # Ten sums at once: d is read once for all of them.
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = ZERO
        for s in range(n):
            x = d[i, s]
            s0 += x * h[0, s]
            s1 += x * h[1, s]
            s2 += x * h[2, s]
            s3 += x * h[3, s]
            s4 += x * h[4, s]
            s5 += x * h[5, s]
            s6 += x * h[6, s]
            s7 += x * h[7, s]
            s8 += x * h[8, s]
            s9 += x * h[9, s]
        for j, total in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8, s9)):
            out[i * H + j] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_sums(d: FloatArray, out: FloatArray, n: int) -> None:
    """Add the sums over n of d_i to ``out[i]``."""
    for i in range(H):
        total = ZERO
        for s in range(n):
            total += d[i, s]
        out[i] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_last_gradients(
    theta: FloatArray, h: FloatArray, weights: FloatArray, d: FloatArray, out: FloatArray
) -> None:
    """Add the gradients of w_4 and b_4, and write w_4 times the weights into ``d[:, :n]``."""
    for j in range(H):
        w, total = theta[W4 + j], ZERO
        for s in range(len(weights)):
            total += weights[s] * h[j, s]
            d[j, s] = w * weights[s]
        out[W4 + j] += total
    total = ZERO
    for s in range(len(weights)):
        total += weights[s]
    out[B4] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_first_gradients(d: FloatArray, y: FloatArray, out: FloatArray) -> None:
    """Add the gradients of w and b_0."""
    for j in range(H):
        slope, total = ZERO, ZERO
        for s in range(len(y)):
            slope += d[j, s] * y[s]
            total += d[j, s]
        out[j] += slope
        out[H + j] += total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_row_values(theta: FloatArray, context: FloatArray, y: FloatArray, f: FloatArray) -> None:
    """Fill one row of f."""
    units = np.empty((6, H, BLOCK), np.float32)
    for start in range(0, len(y), BLOCK):
        stop = min(start + BLOCK, len(y))
        hidden_units(theta, context, y[start:stop], units)
        last_layer(theta, units[5], f[start:stop])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_block_gradients(
    theta: FloatArray,
    units: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    scratch: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Add the gradients of n values, whose hidden units are known; ``scratch`` is (2, H, BLOCK)."""
    n, above, inner = len(y), scratch[0], scratch[1]
    add_last_gradients(theta, units[5], weights, above, out)
    through_tanh(units[4], above, inner, n)
    add_products(inner, units[3], out[W3:B3], n)
    add_sums(inner, out[B3:W4], n)
    add_transposed(theta[W3:B3], inner, above, n)
    through_tanh(units[2], above, inner, n)
    add_products(inner, units[1], out[W2:B2], n)
    add_sums(inner, out[B2:W3], n)
    add_transposed(theta[W2:B2], inner, above, n)
    through_tanh(units[1], above, inner, n)
    add_products(inner, units[0], out[W1:W2], n)
    add_sums(inner, context_out, n)
    above[:] = 0
    add_transposed(theta[W1:W2], inner, above, n)
    through_tanh(units[0], above, inner, n)
    add_first_gradients(inner, y, out)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_row_gradients(
    theta: FloatArray,
    context: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Add the gradients of one row."""
    units, scratch = np.empty((6, H, BLOCK), np.float32), np.empty((2, H, BLOCK), np.float32)
    for start in range(0, len(y), BLOCK):
        stop = min(start + BLOCK, len(y))
        hidden_units(theta, context, y[start:stop], units)
        part = weights[start:stop]
        add_block_gradients(theta, units, y[start:stop], part, scratch, out, context_out)


@njit(cache=True, parallel=True, nogil=True)
def values_kernel(
    parameters: FloatArray, context: FloatArray, y: FloatArray, f: FloatArray
) -> None:
    """Fill f ``(K, B, S)`` from parameters ``(K, P)``, context ``(K, B, H)``, y ``(K, B, S)``."""
    num_rows = y.shape[1]
    for row in prange(y.shape[0] * num_rows):
        k, b = row // num_rows, row % num_rows
        fill_row_values(parameters[k], context[k, b], y[k, b], f[k, b])


@njit(cache=True, parallel=True, nogil=True)
def gradients_kernel(
    parameters: FloatArray,
    context: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Add the gradients of sum(weights f) to zeroed arrays.

    Weights have the shape of f. Parameter gradients ``(K, B, P)`` are one for each row; those of
    the context have its shape.
    """
    num_rows = y.shape[1]
    for row in prange(y.shape[0] * num_rows):
        k, b = row // num_rows, row % num_rows
        add_row_gradients(
            parameters[k], context[k, b], y[k, b], weights[k, b], out[k, b], context_out[k, b]
        )
