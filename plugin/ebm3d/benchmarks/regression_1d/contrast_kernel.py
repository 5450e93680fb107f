r"""Compiled contrast of many small energy networks: the loss and its gradients in one pass.

K models; B rows (one x each); S values of y in a row, the first of them the true one.

.. math:: L = \log\sum_{s} e^{f_s - c_s} - f_0

with :math:`c = \log q` noise contrastive estimation but for :math:`\log q_0` (M-3), and with an
infinite :math:`c_0` importance-sampled likelihood but for :math:`\log M` (M-22). A row's gradient
needs nothing but the row, so its hidden units are kept for the backward pass, in the processor's
second cache, where two separate passes must compute them twice. docs/method.md, M-32.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from ebm3d.benchmarks.regression_1d.kernels import (
    BLOCK,
    ONE,
    ZERO,
    FloatArray,
    H,
    add_block_gradients,
    hidden_units,
    last_layer,
)


@njit(cache=True, error_model="numpy")
def softmax_weights(f: FloatArray, log_q: FloatArray, weights: FloatArray) -> float:
    """Write the gradient of a row's loss with respect to f, and return the loss."""
    highest = f[0] - log_q[0]
    for s in range(1, len(f)):
        highest = max(highest, f[s] - log_q[s])
    total = ZERO
    for s in range(len(f)):
        weights[s] = math.exp(f[s] - log_q[s] - highest)
        total += weights[s]
    for s in range(len(f)):
        weights[s] /= total
    weights[0] -= ONE
    return math.log(total) + highest - f[0]


@njit(cache=True, error_model="numpy")
def contrast_row(
    theta: FloatArray,
    context: FloatArray,
    y: FloatArray,
    log_q: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> float:
    """Add the gradients of one row, and return its loss."""
    num = len(y)
    f, weights = np.empty(num, np.float32), np.empty(num, np.float32)
    units = np.empty(((num + BLOCK - 1) // BLOCK, 6, H, BLOCK), np.float32)
    for block in range(len(units)):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, num)
        hidden_units(theta, context, y[start:stop], units[block])
        last_layer(theta, units[block, 5], f[start:stop])
    loss = softmax_weights(f, log_q, weights)
    scratch = np.empty((2, H, BLOCK), np.float32)
    for block in range(len(units)):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, num)
        part = weights[start:stop]
        add_block_gradients(theta, units[block], y[start:stop], part, scratch, out, context_out)
    return loss


@njit(cache=True, parallel=True, nogil=True)
def contrast_kernel(
    parameters: FloatArray,
    context: FloatArray,
    y: FloatArray,
    log_q: FloatArray,
    losses: FloatArray,
    out: FloatArray,
    context_out: FloatArray,
) -> None:
    """Fill losses ``(K, B)`` and add the gradients of each to zeroed arrays.

    log_q has the shape of y ``(K, B, S)``. Parameter gradients ``(K, B, P)`` are one for each row;
    those of the context ``(K, B, H)`` have its shape.
    """
    num_rows = y.shape[1]
    for row in prange(y.shape[0] * num_rows):
        k, b = row // num_rows, row % num_rows
        losses[k, b] = contrast_row(
            parameters[k], context[k, b], y[k, b], log_q[k, b], out[k, b], context_out[k, b]
        )
