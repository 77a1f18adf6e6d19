"""Closed forms against the oracle: critical, certified by their own gradient, and with the right value."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from oracle import Oracle
from ufm_fast._exact.closed_form import closed_form
from ufm_fast._model.losses import MSE, CrossEntropy
from ufm_fast._model.model import UFM

LONG_TAIL = (11, 5, 5, 2, 1)
BIASES = [{"bias": True, "lambda_b": 0.0}, {"bias": True, "lambda_b": 0.05}, {"bias": False}]
DECAYS = [(5e-3, 2e-4), (2e-2, 1e-2), (0.5, 0.3)]  # signal, weaker signal, none
BALANCED = [
    {"K": K, "d": d, "n": n, "loss": loss, "lambda_W": lambda_W, "lambda_H": lambda_H, **bias}
    for (K, d), n, loss, (lambda_W, lambda_H), bias in itertools.product(
        [(2, 1), (3, 3), (5, 4), (6, 9)],
        [1, 3],
        [CrossEntropy(), CrossEntropy(label_smoothing=0.1), MSE()],
        DECAYS,
        BIASES,
    )
]
IMBALANCED = [
    {"K": 5, "d": d, "n": LONG_TAIL, "loss": loss, "lambda_W": lambda_W, "lambda_H": lambda_H, **bias}
    for d, (loss, bias), (lambda_W, lambda_H) in itertools.product(
        [5, 8],
        [(MSE(), BIASES[0]), (MSE(), BIASES[2])],
        [(5e-3, 2e-4), (1e-2, 6e-3), (0.03, 0.01), (0.5, 0.3)],
    )
] + [
    {"K": 5, "d": 2, "n": LONG_TAIL, "loss": loss, "lambda_W": 0.5, "lambda_H": 0.3, **bias}
    for loss, bias in [
        (CrossEntropy(), BIASES[0]),
        (CrossEntropy(label_smoothing=0.3), BIASES[0]),
        (CrossEntropy(label_smoothing=0.3), BIASES[2]),
        (MSE(), BIASES[1]),
    ]
]


def point(ufm, form):
    """(W, H, b) with one row of H a class, from the definition of the canonical coordinates."""
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    return rho * form.A, form.B / (rho * np.sqrt(ufm.counts))[:, None], form.b


def gradient_norm(oracle, point):
    """Spectral norm of the gradient with respect to W h of every sample."""
    isometric = oracle.residuals(*point) / np.sqrt(oracle.multiplicities)[:, None]
    return np.linalg.norm(isometric, 2)


@pytest.mark.parametrize("arguments", BALANCED + IMBALANCED, ids=str)
def test_is_a_global_minimum(arguments):
    ufm = UFM(**arguments)
    oracle = Oracle.of(ufm)
    form = closed_form(ufm)
    if form is None:  # rank K with d = K - 1
        assert ufm.d == ufm.K - 1
        assert closed_form(UFM(**{**arguments, "d": ufm.K})).rank == ufm.K
        return
    at = point(ufm, form)
    assert form.value == pytest.approx(oracle.loss(*at), rel=1e-13, abs=0)
    assert max(np.abs(part).max() for part in oracle.gradient(*at)) <= 1e-14
    # A critical point is global exactly when this norm is at most tau (convexity).
    assert gradient_norm(oracle, at) <= ufm.tau * (1 + 1e-12)
    assert np.abs(form.A.T @ form.A - form.B.T @ form.B).max() <= 1e-13
    assert np.linalg.matrix_rank(form.A, tol=1e-10) == form.rank
    if ufm.loss_function.name == "cross_entropy":
        assert abs(form.b.sum()) <= 1e-14


@pytest.mark.parametrize("arguments", [case for case in BALANCED + IMBALANCED if case["K"] <= 5][::5], ids=str)
def test_no_descent_ends_lower(arguments):
    ufm = UFM(**{**arguments, "d": arguments["K"]})
    oracle = Oracle.of(ufm).full()
    result = scipy.optimize.minimize(
        lambda x: (oracle.loss(*oracle.unpack(x)), oracle.pack(*oracle.gradient(*oracle.unpack(x)))),
        oracle.pack(*oracle.random_point(7)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10000, "ftol": 0, "gtol": 1e-10, "maxcor": 30},
    )
    assert -1e-14 <= result.fun - closed_form(ufm).value <= 1e-12


@pytest.mark.parametrize("loss", [CrossEntropy(), MSE()], ids=str)
@pytest.mark.parametrize("decay", [1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("n", [2, LONG_TAIL], ids=str)
def test_tiny_values_keep_their_digits(loss, decay, n):
    ufm = UFM(5, 5, n, loss=loss, lambda_W=decay, lambda_H=decay / 3)
    form = closed_form(ufm)
    if form is None:
        assert loss == CrossEntropy()
        assert n == LONG_TAIL
        return
    # Rounding moves the point by 1e-16, hence the exact loss there from its minimum by the square of that.
    assert form.value == pytest.approx(float(Oracle.of(ufm).decimal_loss(*point(ufm, form))), rel=1e-13, abs=0)


def test_vanishing_decay_leaves_the_rank_alone():
    form = closed_form(UFM(5, 5, LONG_TAIL, loss="mse", lambda_W=1e-20, lambda_H=1e-20))
    assert form.rank == 4


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.25), MSE()], ids=str)
def test_signal_appears_at_the_threshold(loss):
    threshold = (1 - getattr(loss, "label_smoothing", 0.0)) / 5 / np.sqrt(2)
    below, above = (UFM(5, 5, 2, loss=loss, lambda_W=x, lambda_H=x) for x in threshold * np.array([0.9999, 1.0001]))
    assert closed_form(below).rank == 4
    assert closed_form(above).rank == 0
    assert (closed_form(above).A == 0).all()
    assert closed_form(above).value == pytest.approx(closed_form(below).value, rel=1e-6, abs=0)


def test_dominating_class_keeps_its_digits():
    ufm = UFM(2, 1, (10**9, 1), lambda_W=1.0, lambda_H=1.0)
    form = closed_form(ufm)
    p = 1 / (1 + 1e9)
    assert form.value == pytest.approx(-p * np.log(p) + p - p * p / 2, rel=1e-14, abs=0)


def test_value_of_the_thousand_class_problem():
    ufm = UFM(1000, 1000, 4, lambda_W=1e-4, lambda_H=1e-5, lambda_b=1e-2)
    form = closed_form(ufm)
    assert form.value == pytest.approx(0.6720201281, abs=1e-10)  # by an independent solver
    assert form.value == pytest.approx(Oracle.of(ufm).loss(*point(ufm, form)), rel=1e-12, abs=0)


@pytest.mark.parametrize("d", [5, 6, 8])
def test_is_a_simplex_frame(d):
    ufm = UFM(6, d, 2, lambda_W=1e-2, lambda_H=1e-3)
    W, H, b = point(ufm, closed_form(ufm))
    lengths = np.linalg.norm(W, axis=1)
    cosines = W @ W.T / np.outer(lengths, lengths)
    assert np.abs(cosines + 1 / 5 - 6 / 5 * np.eye(6)).max() <= 1e-14
    assert np.abs(H - np.sqrt(ufm.lambda_W / (2 * ufm.lambda_H)) * W).max() <= 1e-14
    assert (b == 0).all()


@pytest.mark.parametrize("d", [6, 8])
def test_factors_are_symmetric_where_they_can_be(d):
    form = closed_form(UFM(6, d, 2, lambda_W=1e-2, lambda_H=1e-3))
    assert (form.A[:, :6] == form.A[:, :6].T).all()
    assert (form.A[:, 6:] == 0).all()
    assert (form.A == form.B).all()


@pytest.mark.parametrize(
    ("loss", "bias"),
    [
        (CrossEntropy(), BIASES[0]),
        (CrossEntropy(), BIASES[2]),
        (CrossEntropy(label_smoothing=0.2), BIASES[0]),
        (CrossEntropy(label_smoothing=0.2), BIASES[2]),
        (MSE(), BIASES[1]),
    ],
    ids=str,
)
def test_zero_is_given_exactly_where_it_is_optimal(loss, bias):
    arguments = {"K": 5, "d": 5, "n": LONG_TAIL, "loss": loss, **bias}
    zero = UFM(**arguments, lambda_W=10.0, lambda_H=10.0)
    form = closed_form(zero)
    at = point(zero, form)
    threshold = gradient_norm(Oracle.of(zero), at)
    above = closed_form(UFM(**arguments, lambda_W=1.001 * threshold, lambda_H=1.001 * threshold))
    assert above.rank == 0
    assert above.value == pytest.approx(Oracle.of(zero).loss(*at), rel=1e-14, abs=0)
    assert closed_form(UFM(**arguments, lambda_W=0.999 * threshold, lambda_H=0.999 * threshold)) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"K": 5, "d": 3, "n": 2},
        {"K": 5, "d": 4, "n": 2, "loss": "mse", "bias": False},
        {"K": 5, "d": 3, "n": 2, "loss": "mse"},
        {"K": 5, "d": 3, "n": LONG_TAIL, "loss": "mse"},
        {"K": 5, "d": 9, "n": LONG_TAIL, "lambda_b": 0.1},
        {"K": 5, "d": 9, "n": LONG_TAIL, "lambda_b": 0.1, "loss": "mse"},
        {"K": 5, "d": 9, "n": LONG_TAIL},
    ],
    ids=str,
)
def test_none_where_none_is_known(arguments):
    assert closed_form(UFM(**arguments, lambda_W=1e-3, lambda_H=1e-3)) is None


@given(
    K=st.integers(2, 12),
    extra=st.integers(0, 3),
    n=st.integers(1, 50),
    loss=st.sampled_from([CrossEntropy(), CrossEntropy(label_smoothing=0.4), MSE()]),
    bias=st.sampled_from(BIASES),
    logarithms=st.tuples(st.floats(-6, 1), st.floats(-6, 1)),
)
def test_is_critical_and_certified_for_any_balanced_problem(K, extra, n, loss, bias, logarithms):
    lambda_W, lambda_H = 10.0 ** np.array(logarithms)
    ufm = UFM(K, K + extra, n, loss=loss, lambda_W=float(lambda_W), lambda_H=float(lambda_H), **bias)
    oracle, form = Oracle.of(ufm), closed_form(ufm)
    at = point(ufm, form)
    size = 1 + max(np.abs(part).max() for part in at)
    assert form.value == pytest.approx(float(oracle.decimal_loss(*at)), rel=1e-12, abs=0)
    assert max(np.abs(part).max() for part in oracle.gradient(*at)) <= 1e-14 * size
    assert gradient_norm(oracle, at) <= ufm.tau * (1 + 1e-11) + 1e-15
