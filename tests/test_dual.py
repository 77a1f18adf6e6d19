"""The dual bounds one by one: feasibility, values in decimal arithmetic, validity and order of tightness."""

import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle
from reference import as_point, global_minimum
from ufm_fast._certify.duals import dual_of
from ufm_fast._exact.closed_form import closed_form
from ufm_fast._model.canonical import CanonicalProblem

LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.1), uf.MSE()]
BIASES = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 1e-2}]
LONG_TAIL = (40, 12, 12, 3, 1)


def probabilities(q, G):
    """Softmax rows from a gradient matrix of the cross-entropy."""
    return G * (q.root / q.weights)[:, None] + q.targets


def class_problem(counts, loss, bias, tau):
    return CanonicalProblem(uf.UFM(len(counts), len(counts), counts, loss=loss, lambda_W=tau, lambda_H=tau, **bias))


def all_bounds(q, A, B, b):
    """Bounds at the best bias for the scores."""
    dual = dual_of(q)
    Z = B @ A.T
    _, G, _ = q.data_term(Z, q.best_bias(Z, b))
    return {
        "scaled": dual.scaled_bound(G, dual.norm(G)),
        "newton_schulz": dual.newton_schulz_bound(G),
        "polar": dual.polar_bound(G),
        "prox": dual.prox_bound(Z, G),
    }


def minimum(q):
    point, value = global_minimum(Oracle.of(q.ufm))
    return value, q.coordinates(as_point(point))


def objective(q, A, B, b):
    value, _, _ = q.data_term(B @ A.T, b)
    return value + q.tau / 2 * ((A**2).sum() + (B**2).sum()) + q.lambda_b / 2 * (b @ b)


def moved(q, size, A, B, b, seed=0):
    rng = np.random.default_rng(seed)
    scale = size * max(np.abs(A).max(), 1e-3)
    return A + scale * rng.standard_normal(A.shape), B + scale * rng.standard_normal(B.shape), b


@pytest.mark.parametrize("tau", [1e-5, 1e-3, 2e-2, 0.5])
@pytest.mark.parametrize(("loss", "bias"), list(itertools.product(LOSSES, BIASES)), ids=str)
def test_each_bound_holds_and_is_attained(loss, bias, tau):
    q = class_problem(LONG_TAIL, loss, bias, tau)
    value, at = minimum(q)
    for size in (0, 1e-9, 1e-6, 1e-3, 1e-1, 10, 1e4):
        assert max(all_bounds(q, *moved(q, size, *at)).values()) <= value
    at_minimum = all_bounds(q, *at)
    assert at_minimum["prox"] >= value * (1 - 1e-11)
    assert at_minimum["scaled"] >= value * (1 - 1e-4)  # first order in what is left of the gradient
    assert at_minimum["polar"] >= at_minimum["scaled"] - 1e-14 * value


@pytest.mark.parametrize(("loss", "bias"), list(itertools.product(LOSSES, BIASES[:2])), ids=str)
@pytest.mark.parametrize("tau", [1e-9, 1e-6])
def test_far_outside_the_ball(loss, bias, tau):
    """|G|_2 / tau up to 1e9: noise of G's zero singular values must not count as signal."""
    for K in (2, 7):
        q = class_problem((1,) * K, loss, bias, tau)
        exact = closed_form(q.ufm).value
        for seed in range(10):
            A, B, b = q.coordinates(q.ufm.random_point(seed, 1.0))
            assert max(all_bounds(q, A, B, b).values()) <= exact


@pytest.mark.parametrize(("loss", "bias"), list(itertools.product(LOSSES, BIASES)), ids=str)
@pytest.mark.parametrize("counts", [(4, 4, 4, 4, 4), LONG_TAIL], ids=str)
def test_orders(loss, bias, counts):
    """Certificate A is first order, the others second order; prox stays within twice the true gap."""
    q = class_problem(counts, loss, bias, 1e-3)
    value, at = minimum(q)
    sizes = (1e-5, 1e-4)
    gaps = []
    for size in sizes:
        A, B, b = moved(q, size, *at)
        b = q.best_bias(B @ A.T, b)
        gaps.append({name: value - bound for name, bound in all_bounds(q, A, B, b).items()})
        assert gaps[-1]["prox"] <= objective(q, A, B, b) - value + 1e-12 * value
    order = {name: np.log10(gaps[1][name] / gaps[0][name]) for name in gaps[0]}
    assert order["scaled"] == pytest.approx(1, abs=0.1)
    if not (loss == uf.MSE() and q.lambda_b > 0):  # there G has a singular value below tau that should stay there
        assert order["polar"] == pytest.approx(2, abs=0.1)
        assert order["newton_schulz"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("loss", LOSSES[:2], ids=str)
def test_rank_deficient_minimum(loss):
    """Minority collapse: the singular values of G under tau must stay there, as in the proximal bound."""
    q = class_problem((40, 40, 1, 1, 1), loss, {"lambda_b": 1e-2}, 2e-2)
    value, at = minimum(q)
    assert np.linalg.matrix_rank(at[0], tol=1e-6) in (1, 2)
    A, B, b = moved(q, 1e-4, *at)
    b = q.best_bias(B @ A.T, b)
    true_gap = objective(q, A, B, b) - value
    bounds = all_bounds(q, A, B, b)
    assert value - bounds["prox"] <= 0.5 * true_gap
    assert value - bounds["newton_schulz"] >= 100 * true_gap


@given(
    K=st.integers(2, 6),
    loss=st.sampled_from(LOSSES[:2]),
    tau=st.floats(-9, -2).map(lambda x: 10**x),
    seed=st.integers(0, 99),
)
def test_value_in_decimal_arithmetic(K, loss, tau, seed):
    """The value is below the exact dual value of the matrix with the given off-diagonal entries, by a few roundings."""
    rng = np.random.default_rng(seed)
    q = class_problem(rng.integers(1, 50, K), loss, {"bias": False}, tau)
    Y = tau / K * rng.random((K, K))
    np.fill_diagonal(Y, 0)
    np.fill_diagonal(Y, -Y.sum(axis=1))
    Y /= max(1, np.linalg.norm(Y, 2) / tau, q.root.max() / q.weights.min() * np.abs(Y).max())
    with localcontext() as context:
        context.prec = 50
        N, exact = Decimal(int(q.samples)), Decimal(0)
        base = Decimal(getattr(loss, "label_smoothing", 0.0)) / K
        for k in range(K):
            n = Decimal(int(q.rows.ridges[k]))
            row = [base + Decimal(float(y)) * N / n.sqrt() for j, y in enumerate(Y[k]) if j != k]
            row.append(1 - sum(row))
            exact -= n / N * sum(x * x.ln() for x in row)
        exact = float(exact)
    assert exact * (1 - 1e-13) <= dual_of(q).value(Y) <= exact


def test_value_outside_the_simplex():
    q = class_problem((5, 3, 2), uf.CrossEntropy(), {"bias": False}, 1.0)
    Y = np.array([[-0.1, 0.2, -0.1], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert dual_of(q).value(Y) == -np.inf  # a negative probability
    assert dual_of(q).value(np.abs(Y) * [[-1, 1, 1]] * 10) == -np.inf  # more than one


@given(
    counts=st.lists(st.integers(1, 1000), min_size=2, max_size=8),
    loss=st.sampled_from(LOSSES),
    scale=st.floats(-6, 2).map(lambda x: 10**x),
    seed=st.integers(0, 99),
)
def test_feasible(counts, loss, scale, seed):
    """No net flow to any class, zero row sums and probabilities, at any bias; at the best bias hardly a change."""
    q = class_problem(counts, loss, {"lambda_b": 0.0}, 1e-3)
    rng = np.random.default_rng(seed)
    Z, b = scale * rng.standard_normal((q.K, q.K)), scale * rng.standard_normal(q.K)
    _, G, _ = q.data_term(Z, b)
    F = dual_of(q).feasible(G)
    np.testing.assert_allclose(q.root @ F, 0, atol=1e-14 * (q.root @ np.abs(G)).max())
    if loss != uf.MSE():
        np.testing.assert_allclose(F.sum(axis=1), 0, atol=1e-14)
        assert probabilities(q, F).min() >= -1e-15
    _, G, grad_b = q.data_term(Z, q.best_bias(Z, b))
    assert np.abs(dual_of(q).feasible(G) - G).sum() <= 10 * q.K * (np.abs(grad_b).sum() + 1e-15)


@pytest.mark.parametrize("bias", [BIASES[0], BIASES[2]], ids=str)
def test_feasible_changes_nothing_without_the_constraint(bias):
    q = class_problem((5, 3, 2), uf.CrossEntropy(), bias, 1e-2)
    G = np.random.default_rng(0).standard_normal((3, 3))
    assert dual_of(q).feasible(G) is G


@pytest.mark.parametrize(("loss", "bias"), list(itertools.product(LOSSES, [*BIASES, {"lambda_b": 1e-6}])), ids=str)
def test_polish(loss, bias):
    """No higher loss, the same fit up to the best bias, and nothing left to gain."""
    q = class_problem(LONG_TAIL, loss, bias, 1e-3)
    A, B, b = q.coordinates(q.ufm.random_point(0, 0.3))
    before = objective(q, A, B, b)
    polished = q.polish(A, B, b)
    after = objective(q, A, *polished)
    if not q.bias:
        assert polished[0] is B
        assert polished[1] is b
        return
    assert after < before
    again = q.polish(A, *polished)
    assert after - 0.02 * (before - after) <= objective(q, A, *again) <= after * (1 + 1e-14)
    if q.lambda_b == 0:
        np.testing.assert_allclose(q.root @ polished[0], 0, atol=1e-12)


def test_polish_makes_small_bias_decay_harmless():
    """Without it the proximal bound of a problem with lambda_b << tau is off by orders of magnitude."""
    q = class_problem(LONG_TAIL, uf.CrossEntropy(), {"lambda_b": 1e-7}, 1e-3)
    value, at = minimum(q)
    A, B, b = moved(q, 1e-4, *at)
    true_gap = objective(q, A, B, q.best_bias(B @ A.T, b)) - value
    assert value - all_bounds(q, A, B, b)["prox"] > 20 * true_gap
    B, b = q.polish(A, B, b)
    assert value - all_bounds(q, A, B, b)["prox"] < 0.5 * true_gap


def test_work_is_counted():
    q = class_problem((4, 4, 4), uf.CrossEntropy(), {"lambda_b": 1e-2}, 1e-3)
    _, (A, B, b) = minimum(q)
    _, G, _ = q.data_term(B @ A.T, b)
    dual = dual_of(q)
    dual.newton_schulz_bound(G)
    assert dual.products == 2
    dual.prox_bound(B @ A.T, G)
    assert dual.products == 2 + 11
    dual.prox_bound(B @ A.T, 1e6 * G)  # far outside the ball: a singular value decomposition
    assert dual.products == 2 + 11 + 22
