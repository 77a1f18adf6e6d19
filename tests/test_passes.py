"""The core's passes over K x K and flat arrays against dense NumPy; the quasi-Newton memory against its formula."""

import itertools
import math

import numpy as np
import pytest
import scipy.special

import ufm_fast as uf
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._numerics.newton import quasi_newton_descent
from ufm_fast._numerics.quasi_newton import Memory
from ufm_fast._runtime import core

LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


def at_random(K, loss="cross_entropy", seed=0, threads=1):
    """A class problem, scores and a bias, the gradient matrix there, and the softmax."""
    rng = np.random.default_rng(seed)
    q = CanonicalProblem(uf.UFM(K, K, rng.integers(1, 50, K), loss=loss, lambda_W=1e-3, lambda_H=1e-4, threads=threads))
    Z, b = 3 * rng.standard_normal((K, K)), rng.standard_normal(K)
    return q, Z, b, q.data_term(Z, b)[1], scipy.special.softmax(Z / q.root[:, None] + b, axis=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("K", "loss"), [(2, LOSSES[0]), (70, LOSSES[0]), (130, LOSSES[1]), (130, LOSSES[2])], ids=str)
def test_curvature(K, loss, threads):
    q, _, _, G, P = at_random(K, loss)
    second = np.ones((K, K)) if loss == uf.MSE() else P * (1 - P)
    total, at_labels, largest, bias, rows, columns = core.curvature_sums(q.core, G, threads)
    assert total == pytest.approx(second.sum() / q.samples, rel=1e-12)
    assert at_labels == pytest.approx(np.trace(second) / q.samples, rel=1e-11)
    assert largest == pytest.approx(second.max() / q.samples, rel=1e-12)
    np.testing.assert_allclose(bias, q.weights @ second, rtol=1e-11)
    np.testing.assert_allclose(rows, second.sum(axis=1) / q.samples, rtol=1e-11)
    np.testing.assert_allclose(columns, second.sum(axis=0) / q.samples, rtol=1e-11)
    v = np.random.default_rng(1).standard_normal(K)
    image = v if loss == uf.MSE() else (q.weights @ P) * v - P.T @ (q.weights * (P @ v))
    product = core.bias_curvature_product(q.core, G, v, threads)
    np.testing.assert_allclose(product, image, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("K", "loss"), [(2, LOSSES[0]), (3, LOSSES[1]), (70, LOSSES[0]), (131, LOSSES[1])], ids=str)
def test_dual_sums(K, loss, threads):
    q, *_ = at_random(K, loss)
    Y = np.random.default_rng(2).standard_normal((K, K)) * 10.0 ** np.random.default_rng(3).uniform(-300, 0, (K, K))
    Y[0, 1] = 0.0
    others = [[j for j in range(K) if j != k] for k in range(K)]
    base, margin = loss.label_smoothing / K, 0.01
    Q = base + Y * (q.samples / q.root)[:, None]
    logs = np.log(np.maximum(Q, np.finfo(float).tiny))
    rows = [
        [math.fsum(Y[k, others[k]]) for k in range(K)],
        [math.fsum(abs(Y[k, others[k]])) for k in range(K)],
        [Q[k, others[k]].min() for k in range(K)],
        [(Q[k, others[k]] - margin * base).min() for k in range(K)],
        [math.fsum(Q[k, others[k]]) for k in range(K)],
        [-math.fsum(Q[k, others[k]] * logs[k, others[k]]) for k in range(K)],
        [math.fsum(base * (1 - logs[k, others[k]])) for k in range(K)],
        [1 - loss.label_smoothing + base] * K,
        [math.fsum(q.root[others[j]] * Y[others[j], j]) for j in range(K)],
        [math.fsum(q.root[others[j]] * abs(Y[others[j], j])) for j in range(K)],
    ]
    for found, expected in zip(core.dual_sums(q.core, Y, margin, threads), rows, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 1023, 1024, 50_001])
def test_vectors(n, threads):
    rng = np.random.default_rng(4)
    X, Y = list(rng.standard_normal((3, n))), list(rng.standard_normal((2, n)))
    np.testing.assert_allclose(core.inner_products(X, Y, threads), np.array(X) @ np.array(Y).T, atol=1e-13 * n)
    expected = 2 * X[0] - 0.5 * X[1] + X[2]
    np.testing.assert_allclose(core.combination([2.0, -0.5, 1.0], X, threads), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 5, 2), (300, 70, 600)])
def test_products(m, k, n, threads):
    rng = np.random.default_rng(6)
    X, Y = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    for x, y in itertools.product([X, X.T.copy().T], [Y, Y.T.copy().T]):
        np.testing.assert_allclose(core.matrix_product(x, y, threads), X @ Y, rtol=1e-13, atol=1e-13)
    out = np.full((m, n), np.nan)
    assert core.matrix_product(X, Y, threads, out) is out
    np.testing.assert_allclose(out, X @ Y, rtol=1e-13, atol=1e-13)
    gram = core.gram(Y, threads)
    np.testing.assert_allclose(gram, Y.T @ Y, rtol=1e-13, atol=1e-12)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_array_equal(gram, core.gram(Y, 1))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("columns", "loss"), [(3, LOSSES[0]), (70, LOSSES[1]), (400, LOSSES[2])], ids=str)
def test_gradient_at_scores(columns, loss, threads):
    """The model with that many features, evaluated whole."""
    q, _, b, _, _ = at_random(70, loss)
    A, B = 0.3 * np.random.default_rng(7).standard_normal((2, 70, columns))
    ufm = uf.UFM(70, columns, q.ufm.counts, loss=loss, lambda_W=1e-3, lambda_H=1e-4)
    whole = CanonicalProblem(ufm)
    value, gradient = ufm.loss_and_grad(whole.point(A, B, b))
    F, G, flat = q.core.gradient_at_scores(A, B, b, B @ A.T, threads)
    assert value == pytest.approx(F, rel=1e-13)
    np.testing.assert_array_equal(G, q.data_term(B @ A.T, b)[1])
    gA, gB = flat[: -len(b)].reshape(2, 70, columns)
    np.testing.assert_allclose(gA, gradient.W * q.ufm.rho, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(gB, gradient.H / (q.ufm.rho * q.root[:, None]), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(flat[-len(b) :], gradient.b, rtol=1e-11, atol=1e-14)


def test_gradient_at_scores_that_overflows():
    q, Z, b, _, _ = at_random(3, "mse")
    with pytest.raises(FloatingPointError, match="overflows float64"):
        q.core.gradient_at_scores(np.full((3, 3), 1e300), np.eye(3), b, Z, 1)
    with pytest.raises(FloatingPointError, match="overflows float64"):
        q.core.gradient_at_scores(1e150 * np.eye(3), np.eye(3), b, 1e200 * np.ones((3, 3)), 1)


def test_refused_arguments():
    q, _, _, G, _ = at_random(4)
    x = np.ones(3)
    for call, error in (
        (lambda: core.inner_products([], [x], 1), ValueError),
        (lambda: core.inner_products([x], [np.ones(4)], 1), ValueError),
        (lambda: core.combination([1.0], [x, x], 1), ValueError),
        (lambda: core.matrix_product(G, np.ones((3, 4)), 1), ValueError),
        (lambda: core.matrix_product(G, x, 1), ValueError),
        (lambda: core.matrix_product(np.ones((8, 8))[::2, ::2], G, 1), ValueError),
        (lambda: core.matrix_product(G, G, 1, np.ones((4, 3))), ValueError),
        (lambda: core.gram(x, 1), ValueError),
        (lambda: q.core.gradient_at_scores(G, G[:3], np.zeros(4), G, 1), ValueError),
        (lambda: q.core.gradient_at_scores(x, G, np.zeros(4), G, 1), ValueError),
        (lambda: core.combination([1.0], [[1.0, 2.0]], 1), TypeError),
        (lambda: core.combination([1.0], [np.ones(6)[::2]], 1), ValueError),
        (lambda: core.curvature_sums(q.core, G.astype(np.float32), 1), TypeError),
        (lambda: core.bias_curvature_product(q.core, G, np.ones(5), 1), ValueError),
        (lambda: core.dual_sums(q.core, G[:3], 0.0, 1), ValueError),
        (lambda: core.dual_sums(at_random(4, "mse")[0].core, G, 0.0, 1), ValueError),
        (lambda: core.pair_metric(q.core, G, np.ones(32), x, x, 0.0, np.ones(32), 4, 1), ValueError),
        (lambda: core.pair_metric(q.core, G, np.ones(31), *np.ones((2, 4)), 0.0, np.ones(31), 4, 1), ValueError),
        (lambda: core.pair_metric(q.core, G, np.ones(32), *np.ones((2, 4)), 0.0, np.ones(32), 3, 1), ValueError),
    ):
        with pytest.raises(error):
            call()


def core_problem(**options):
    rows = np.ones(3)
    arguments = {"K": 3, "d": 2, "targets": np.arange(3), "weights": rows, "scales": rows, "ridges": rows, **options}
    return core.Problem64(**arguments, loss="mse", parameters={}, lambda_W=0.1, lambda_b=0.1, bias=True)


def test_sizes_that_would_wrap_are_refused():
    p, W, b = core_problem(), np.ones((3, 2)), np.zeros(3)
    for call in (
        lambda: core_problem(K=2**62),
        lambda: core_problem(d=2**62),
        lambda: core_problem(d=2**58),
        lambda: core.ClassStatistics(2**62, 1),
        lambda: core.ClassStatistics(2, 2**31),
        lambda: p.flat_hvps(np.ones(15), np.empty((0, 2**59)), None, 1),
        lambda: core.hessian_eigenpairs(p, W, W, b, np.ones((1, 15)), 1, 0, 2**61, 0.1, 9, False, False, 1),
        lambda: core.gradient_eigenpairs(p, W, W, b, np.ones((0, 3)), np.ones((1, 3)), 1, 0, 2**61, 0.1, 9, False, 1),
        lambda: core.gradient_eigenpairs(
            p, W, W, b, np.ones((0, 3)), np.ones((1, 3)), 1, 2**63 - 1, 99, 0.1, 9, False, 1
        ),
        lambda: core.leading_eigenpairs(np.eye(3), np.ones((1, 3)), 1, 2**61, 0.1, 9, 1),
        lambda: core.pair_metric(p, np.eye(3), np.ones(15), b, b, 0.0, np.ones(15), 2**62, 1),
        *(lambda threads=threads: core.gram(np.eye(3), threads) for threads in (-1, 0, 4097, 2**31 - 1)),
    ):
        with pytest.raises(ValueError, match=r"dimensions must|threads must|gradient must|basis must"):
            call()


def test_masked_arrays_are_refused():
    q, _, b, G, _ = at_random(4)
    masked = np.ma.array(G)
    for call in (
        lambda: core.gram(masked, 1),
        lambda: core.matrix_product(G, masked, 1),
        lambda: core.inner_products([masked[0]], [b], 1),
        lambda: q.core.data_term(masked, b, 1),
        lambda: q.core.row_states(G, masked, b, 1),
        lambda: q.core.flat_hvps(np.ones(36), np.ma.array(np.ones((36, 2))), None, 1),
    ):
        with pytest.raises(TypeError, match="a masked one"):
            call()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("pairs", [0, 1, 4, 9])
def test_memory_is_the_limited_memory_inverse_hessian(pairs, scaled):
    """The BFGS update of the inverse Hessian, dense, over the last six pairs (Nocedal and Wright, eq. 7.16)."""
    rng, n = np.random.default_rng(5), 12
    hessian, inverse = np.cov(rng.standard_normal((n, 40))), np.diag(rng.uniform(1, 2, n))
    points = rng.standard_normal((pairs + 1, n))
    memory = Memory(hessian @ points[0], length=6, scaled=scaled, threads=1)
    for old, new in itertools.pairwise(points):
        memory.add(new - old, hessian @ new)
    kept = list(itertools.pairwise(points))[-6:]
    H, gradient = inverse.copy(), hessian @ points[-1]
    if scaled and kept:
        s = kept[-1][1] - kept[-1][0]
        H *= (s @ hessian @ s) / (hessian @ s @ inverse @ hessian @ s)
    for old, new in kept:
        s, y = new - old, hessian @ (new - old)
        V = np.eye(n) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    direction, slope = memory.direction(lambda v: inverse @ v)
    np.testing.assert_allclose(direction, -H @ gradient, rtol=1e-9, atol=1e-11)
    assert slope == pytest.approx(-gradient @ H @ gradient, rel=1e-9)


def test_memory_leaves_out_pairs_without_curvature():
    memory = Memory(np.array([1.0, 2.0]), length=3, scaled=False, threads=1)
    memory.add(np.array([1.0, 0.0]), np.array([0.5, 2.0]))
    direction, slope = memory.direction(lambda v: v)
    np.testing.assert_array_equal(direction, [-0.5, -2.0])
    assert slope == -4.25


def test_descend_on_a_quadratic():
    class Quadratic:
        diagonal = np.geomspace(1e-3, 1, 30)

        def value_and_gradient(self, x):
            return 0.5 * float(x @ (self.diagonal * x)), self.diagonal * x

        def linearize(self, x):
            pass

        def precondition(self, gradient):
            return gradient / self.diagonal**0.5

        def scale(self, x):
            return 1.0

    x = quasi_newton_descent(Quadratic(), np.ones(30), 1e-8)
    assert np.linalg.norm(Quadratic.diagonal * x) <= 1e-8
