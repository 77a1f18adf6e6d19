"""What automatic differentiation needs beside `linear_cross_entropy`: slopes of the rows' losses, weights below zero.

Along V = (V_W, V_H, v_b) the loss of row i, whose derivative in its logits is r_i, changes by
``r_i W V_H[i] + r_i V_W h_i + r_i v_b``. More columns of W, where the features have zeros, change no logit: with
``[W, V_W, v_b]`` for W and ``[H, 0, 0]`` for H the gradient in H is ``[r_i W, r_i V_W, r_i v_b]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def widened(
    W: NDArray[Any], H: NDArray[Any], V_W: NDArray[Any], v_b: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``[W, V_W, v_b]`` and ``[H, 0, 0]``; v_b is zeros where it is None."""
    column = np.zeros((len(W), 1), W.dtype) if v_b is None else v_b[:, None]
    return np.hstack([W, V_W, column]), np.hstack([H, np.zeros((len(H), H.shape[1] + 1), H.dtype)])


def row_slopes(to_wide_H: NDArray[Any], H: NDArray[Any], V_H: NDArray[Any]) -> NDArray[Any]:
    """Return the change of the rows' losses along V, (N,), from the gradient in the widened H."""
    d = H.shape[1]
    slopes: NDArray[Any] = row_products(to_wide_H[:, :d], V_H) + row_products(to_wide_H[:, d : 2 * d], H)
    slopes += to_wide_H[:, 2 * d]
    return slopes


def row_products(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    """Return the inner products of the rows, (N,)."""
    products: NDArray[Any] = np.einsum("ij,ij->i", A, B)
    return products


def of_any_sign(weights: NDArray[Any] | None, linear: Callable[[Any], Sequence[Any]]) -> Sequence[Any]:
    """Return arrays (or None) that are linear in weights, from a function that takes no weights below zero."""
    if weights is None or not (weights < 0).any():
        return linear(weights)
    parts = zip(linear(np.maximum(weights, 0)), linear(np.maximum(-weights, 0)), strict=True)
    return [None if plus is None else plus - minus for plus, minus in parts]
