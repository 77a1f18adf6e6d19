"""Slopes of the rows' losses along a direction, against the formula in the logits; weights below zero, against sums."""

import numpy as np
import pytest
from scipy.special import softmax

import ufm_fast as uf
from ufm_fast._networks.row_losses import of_any_sign, row_slopes, widened


@pytest.mark.parametrize("bias", [True, False])
def test_slopes(bias):
    rng = np.random.default_rng(0)
    K, d, N = 4, 3, 6
    W, V_W, H, V_H = (rng.standard_normal(shape) for shape in ((K, d), (K, d), (N, d), (N, d)))
    b, v_b = rng.standard_normal((2, K)) if bias else (None, None)
    labels = rng.integers(0, K, N)
    logits, moved = H @ W.T, H @ V_W.T + V_H @ W.T
    if bias:
        logits, moved = logits + b, moved + v_b
    expected = ((softmax(logits, axis=1) - np.eye(K)[labels]) * moved).sum(axis=1)
    wide_W, wide_H = widened(W, H, V_W, v_b)
    _, gradient = uf.linear_cross_entropy(wide_W, wide_H, labels, b, reduction="sum")
    np.testing.assert_allclose(row_slopes(gradient[1], H, V_H), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_of_any_sign(sign):
    rng = np.random.default_rng(1)
    X, weights = rng.standard_normal((5, 3)), sign * np.array([1.0, 2.0, 0.0, sign * 3.0, 0.5])

    def linear(w):
        assert (w >= 0).all()
        return [w @ X, None, X * w[:, None]]

    total, nothing, each = of_any_sign(weights, linear)
    np.testing.assert_allclose(total, weights @ X, rtol=1e-14)
    assert nothing is None
    np.testing.assert_array_equal(each, X * weights[:, None])
