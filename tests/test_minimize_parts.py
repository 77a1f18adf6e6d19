"""The parts of minimize: objective, metrics, escapes, balancing."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special
from scipy.optimize import minimize_scalar

import ufm_fast as uf
from reference import LONG_TAIL, long_tail
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._optimize.balance import rebalance
from ufm_fast._optimize.escape import convex_step, escape
from ufm_fast._optimize.metrics import KroneckerMetric, PairMetric
from ufm_fast._optimize.objective import Objective
from ufm_fast._optimize.work import Work

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-4}, {"lambda_b": 1.0}, {"bias": False}]
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


def parts(ufm, columns, scale=1.0, seed=0):
    q = CanonicalProblem(ufm)
    objective = Objective(q, columns, Work(q.K, q.d, 10**6))
    A, B = scale * np.random.default_rng(seed).standard_normal((2, q.K, columns))
    return q, objective, objective.at(A, B, np.zeros(q.K))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_objective_gradient(loss, bias):
    ufm = uf.UFM(5, 3, LONG_TAIL, loss=loss, lambda_W=3e-3, lambda_H=1e-4, **bias)
    _, objective, state = parts(ufm, 3)
    direction = np.random.default_rng(1).standard_normal(state.x.size)
    steps = np.array([1e-4, -1e-4])
    ahead, behind = (objective.evaluate(state.x + t * direction, state.b).loss for t in steps)
    assert state.gradient @ direction == pytest.approx((ahead - behind) / 2e-4, rel=1e-6)


def logit_curvature(q, state):
    """Diagonal second derivatives of the data term with respect to Z, from the logits."""
    logits = state.Z / q.root[:, None] + state.b
    P = scipy.special.softmax(logits, axis=1)
    return P * (1 - P) / q.samples


@pytest.mark.parametrize(("K", "extra"), [(5, 0), (5, 2), (71, 0), (71, 3)])
def test_pair_metric_inverts_every_pair(K, extra):
    """The 4 x 4 block of each pair of classes, at exactly diagonal factors, where the model is the Hessian itself."""
    rng = np.random.default_rng(2)
    ufm = long_tail(lambda_b=1.0, d=K + extra, counts=rng.integers(3, 40, K))
    q, objective, _ = parts(ufm, K + extra)
    A, B = (np.pad(np.diag(rng.uniform(1, 2, K)), ((0, 0), (0, extra))) for _ in range(2))
    state = objective.at(A, B, rng.standard_normal(K))
    metric = PairMetric(objective)
    metric.damping = 0.7
    metric.update(state)
    w = logit_curvature(q, state)
    c, m = np.clip(np.diag(state.G) / q.tau, -0.5, 0), 1.7
    gradient = np.zeros_like(state.x)
    gA, gB, gb = objective.split(gradient)
    gA[:, :K], gB[:, :K] = rng.standard_normal((2, K, K))
    gb[:] = rng.standard_normal(K)
    A, B, b = objective.split(metric.apply(gradient))
    np.testing.assert_allclose(b * (w * q.rows.ridges[:, None]).sum(axis=0) + b * q.lambda_b, gb, rtol=1e-12)
    assert not A[:, K:].any()
    assert not B[:, K:].any()
    for j in range(K):
        for k in range(j + 1, K):
            block = np.zeros((4, 4))  # A_jk, B_jk, A_kj, B_kj
            block[:2, :2] = q.tau * np.array([[m, c[j]], [c[j], m]])
            block[2:, 2:] = q.tau * np.array([[m, c[k]], [c[k], m]])
            for sample, logit, place in ((k, j, (0, 3)), (j, k, (2, 1))):  # dZ[sample, logit] = B_ss dA_ls + A_ll dB_sl
                v = np.zeros(4)
                v[list(place)] = state.B[sample, sample], state.A[logit, logit]
                block += max(w[sample, logit], 1e-8 * w.max()) * np.outer(v, v)
            right = [gA[j, k], gB[j, k], gA[k, j], gB[k, j]]
            np.testing.assert_allclose([A[j, k], B[j, k], A[k, j], B[k, j]], np.linalg.solve(block, right), rtol=1e-9)


def test_kronecker_metric_is_the_inverse_of_its_blocks():
    q, objective, state = parts(long_tail(lambda_b=1.0), 3)
    metric = KroneckerMetric(objective)
    metric.update(state)
    w = logit_curvature(q, state)
    rows, columns = w.sum(axis=1), w.sum(axis=0) / w.sum()
    gradient = np.random.default_rng(3).standard_normal(state.x.size)
    (gA, gB, _), (A, B, _) = objective.split(gradient), objective.split(metric.apply(gradient))
    inner_A, inner_B = state.B.T @ (rows[:, None] * state.B), state.A.T @ (columns[:, None] * state.A)
    for k in range(q.K):
        np.testing.assert_allclose((columns[k] * inner_A + q.tau * np.eye(3)) @ A[k], gA[k], rtol=1e-9)
        np.testing.assert_allclose((rows[k] * inner_B + q.tau * np.eye(3)) @ B[k], gB[k], rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_convex_step(loss):
    ufm = long_tail(loss)
    q, _, state = parts(ufm, 5, scale=0.1)
    U, sigma, Vt = np.linalg.svd(state.G)
    excess = sigma[:2] - q.tau
    dZ, slope = (U[:, :2] * -excess) @ Vt[:2], q.tau * excess.sum()
    r = convex_step(q, state.Z, state.b, dZ, slope)
    best = minimize_scalar(
        lambda r: q.data_term(state.Z + r * dZ, state.b)[0] + slope * r, bounds=(0, 10 * r), method="bounded",
        options={"xatol": 1e-9 * r},
    )  # fmt: skip
    assert r == pytest.approx(best.x, rel=1e-3)
    h = 1e-3 * r
    slopes = [np.vdot(q.data_term(state.Z + t * dZ, state.b)[1], dZ) for t in (h, -h)]
    assert q.curvature_along(state.G, dZ) == pytest.approx((slopes[0] - slopes[1]) / (2 * h), rel=1e-4)


@pytest.mark.parametrize("columns", [5, 8])
def test_escape_far_from_saddles_is_a_step_in_the_scores(columns):
    """Cross-entropy: the best multiple of all pairs, each with as much as changes the logits by the same size."""
    q, objective, state = parts(long_tail(d=columns, lambda_b=1.0), columns, scale=0.1)
    U, sigma, Vt = np.linalg.svd(state.G)
    down = sigma > q.tau
    shares = np.linalg.norm(q.root[:, None] * U, axis=0)
    dZ = -(U * np.where(down, shares, 0)) @ Vt
    slope = q.tau * shares[down].sum()
    best = minimize_scalar(lambda r: q.data_term(state.Z + r * dZ, state.b)[0] + slope * r, bracket=(0, 1)).x
    new = escape(objective, state, 0.0, aligned=False)
    np.testing.assert_allclose(new.Z, state.Z + best * dZ, rtol=0, atol=2e-3 * best * np.abs(dZ).max())
    least = q.data_term(new.Z, new.b)[0] + q.tau * np.linalg.norm(new.Z, "nuc") + 0.5 * q.lambda_b * new.b @ new.b
    assert new.loss == pytest.approx(least, rel=1e-12)
    assert escape(objective, state, 1.001 * (state.loss - new.loss), aligned=False) is None


def test_escape_is_the_minimum_of_squared_error_without_a_bias():
    """Its curvature is the same everywhere, so one proximal gradient step from anywhere is enough."""
    ufm = uf.UFM(5, 5, LONG_TAIL, loss="mse", lambda_W=3e-3, lambda_H=1e-4, bias=False)
    q = CanonicalProblem(ufm)
    objective = Objective(q, 5, Work(5, 5, 10))
    A, B = np.random.default_rng(0).standard_normal((2, 5, 5))
    new = escape(objective, objective.at(A, B, np.zeros(0)), 0.0, aligned=False)
    assert new.loss == pytest.approx(uf.global_minimum(ufm).value, rel=1e-13)


@pytest.mark.parametrize(("columns", "aligned"), [(3, False), (5, False), (8, False), (5, True), (8, True)])
def test_rebalancing_keeps_the_product_and_attains_the_nuclear_norm(columns, aligned):
    q, objective, state = parts(long_tail(d=columns), columns)
    new = rebalance(objective, state, 0.0, aligned)
    np.testing.assert_allclose(new.Z, state.Z, rtol=0, atol=1e-13 * np.abs(state.Z).max())
    np.testing.assert_allclose(new.A.T @ new.A, new.B.T @ new.B, rtol=0, atol=1e-12 * np.abs(state.Z).max())
    saved = q.tau * (0.5 * (np.vdot(state.A, state.A) + np.vdot(state.B, state.B)) - np.linalg.norm(state.Z, "nuc"))
    assert state.loss - new.loss == pytest.approx(saved, rel=1e-9)
    assert rebalance(objective, state, 1.001 * saved, aligned) is None
    assert rebalance(objective, new, 1e-12 * new.loss, aligned) is None


def test_gauge_of_rebalanced_factors():
    """Aligned: the symmetric root of a symmetric Z. Else: no turn where the factors are balanced but for scale."""
    _, objective, state = parts(long_tail(d=7), 7)
    S = np.random.default_rng(4).standard_normal((5, 5))
    S = S @ S.T
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((7, 7)))[0][:5]
    new = rebalance(objective, objective.at(2 * S @ turn, 0.5 * turn, state.b), 0.0, True)
    root = np.pad(scipy.linalg.sqrtm(S), ((0, 0), (0, 2)))
    np.testing.assert_allclose(new.A, root, rtol=0, atol=1e-12)
    np.testing.assert_allclose(new.B, root, rtol=0, atol=1e-12)
    scaled = rebalance(objective, objective.at(3 * new.A @ state.A.T @ state.A, new.B, state.b), 0.0, False)
    again = rebalance(objective, objective.at(3 * scaled.A, scaled.B / 3, state.b), 0.0, False)
    np.testing.assert_allclose(again.A, scaled.A, rtol=0, atol=1e-10 * np.abs(scaled.A).max())
    np.testing.assert_allclose(again.B, scaled.B, rtol=0, atol=1e-10 * np.abs(scaled.B).max())


def test_polish_of_a_state_agrees_with_its_loss():
    _, objective, state = parts(long_tail(lambda_b=1e-4), 5)
    polished = objective.polished(state)
    assert polished.loss <= state.loss
    assert polished.loss == pytest.approx(objective.at(polished.A, polished.B, polished.b).loss, rel=1e-13)
