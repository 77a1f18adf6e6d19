"""Logits that overflow are an error, whichever logits they are: no loss takes them for exponentials of nothing."""

import numpy as np
import pytest

import ufm_fast as uf

K = 40  # full packets and a remainder
LOSSES = {
    "cross_entropy": "cross_entropy",
    "smoothed": uf.CrossEntropy(label_smoothing=0.1),
    "affine": uf.CrossEntropy(scale=[2.0] * K, shift=[1.0] * K, margin=[0.5] * K),
    "mse": "mse",
    "bce": "bce",
    "focal": uf.Focal(2.0),
    "ordinal": uf.Ordinal(np.linspace(-1, 1, K - 1)),
}
HUGE = {"float32": 1e25, "float64": 1e200}
ROWS = {"+": (1, 0), "-": (-1, 0), "undefined": (1, -1)}  # times features (1, 1): infinity, and infinities that cancel


@pytest.mark.parametrize("dtype", HUGE)
@pytest.mark.parametrize("where", [0, 5, 35])
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("d", [2, 40])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_logit_that_overflows(loss, d, row, where, dtype):
    """That of the label for sample 0; another one for the rest."""
    ufm = uf.UFM(K, d, loss=LOSSES[loss], lambda_W=1e-3, lambda_H=1e-3, dtype=dtype)
    small = uf.Point(*(0.1 * part for part in ufm.random_point(0, scale=0.1)))
    p = ufm.unpack(ufm.pack(small))
    huge = HUGE[dtype]
    p.W[min(where, len(p.W) - 1), :2] = huge * np.array(ROWS[row])
    p.H[:, :2] = huge
    for function in (ufm.loss, ufm.loss_and_grad, lambda p: ufm.hvp(p, small)):
        with pytest.raises(FloatingPointError, match=f"overflows {dtype}"):
            function(p)
    x = ufm.pack(p)
    assert ufm.fun(x, overflow="inf") == np.inf
    assert ufm.fun_and_grad(x, overflow="inf")[0] == np.inf


@pytest.mark.parametrize("loss", LOSSES)
def test_large_logits_that_do_not_overflow_are_taken(loss):
    """Single precision agrees with double at logits of 1e12."""
    values = []
    for dtype in ("float32", "float64"):
        ufm = uf.UFM(K, 2, loss=LOSSES[loss], lambda_W=1e-3, lambda_H=1e-3, dtype=dtype)
        p = uf.UFM(K, 2, loss=LOSSES[loss], lambda_W=1e-3, lambda_H=1e-3).random_point(1, scale=1e6)
        values.append(ufm.loss(uf.Point(*(np.ascontiguousarray(part, dtype) for part in p))))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
