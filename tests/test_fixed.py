"""minimize(fixed=): against SciPy, dense and extended-precision Newton, exact minima; its bounds under attack."""

import numpy as np
import pytest
import scipy.optimize
from mpmath import mp

import ufm_fast as uf
from oracle import Oracle
from reference import LONG_TAIL
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._model.model import rows_model
from ufm_fast._model.rows import Rows

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-18}, {"lambda_b": 1e-4}, {"lambda_b": 1.0}, {"bias": False}]
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


def free_part(ufm, p, fixed):
    """The free variables as one vector, and the way back to a point."""
    if fixed == "W":
        return p.H.ravel(), lambda x: p._replace(H=x.reshape(p.H.shape))
    size = p.W.size

    def back(x):
        return p._replace(W=x[:size].reshape(p.W.shape), b=x[size:] if ufm.bias else p.b)

    return np.concatenate([p.W.ravel(), p.b]) if ufm.bias else p.W.ravel(), back


def best_by_scipy(ufm, p, fixed):
    """The least value that SciPy finds from the free part of p and from zero, by the model's loss and gradient."""
    x, back = free_part(ufm, p, fixed)

    def value_and_slope(y):
        value, gradient = ufm.loss_and_grad(uf.Point(*map(np.ascontiguousarray, back(y))))
        return value, free_part(ufm, gradient, fixed)[0]

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-300, "gtol": 1e-13, "maxcor": 40}
    return min(
        scipy.optimize.minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options=options).fun
        for start in (x, 0 * x)
    )


@pytest.mark.parametrize("fixed", ["W", "H"])
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_reaches_scipys_minimum(loss, bias, fixed):
    for d, collapse in ((7, True), (2, True), (4, False)):
        ufm = uf.UFM(5, d, LONG_TAIL, loss=loss, lambda_W=3e-3, lambda_H=1e-4, collapse=collapse, **bias)
        start = ufm.random_point(d, scale=0.7)
        result = uf.minimize(ufm, start, fixed=fixed, tol=1e-10)
        assert result.success, result.message
        assert result.certificate.fixed == fixed
        best = best_by_scipy(ufm, result.point, fixed)
        assert result.fun <= best * (1 + 1e-10)
        assert result.certificate.lower_bound <= best * (1 + 1e-14)
        assert result.fun == pytest.approx(Oracle.of(ufm).loss(*result.point), rel=1e-12)
        held = ("W", "b") if fixed == "W" else ("H",)
        assert all(np.array_equal(getattr(result.point, name), getattr(start, name)) for name in held)


@pytest.mark.parametrize("fixed", ["W", "H"])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_given_one_factor_of_the_global_minimum_it_finds_the_other(loss, fixed):
    ufm = uf.UFM(6, 6, 4, loss=loss, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-3)
    minimum = uf.global_minimum(ufm)
    point = minimum.point
    start = point._replace(**({"H": 0 * point.H} if fixed == "W" else {"W": 0 * point.W, "b": 0 * point.b}))
    result = uf.minimize(ufm, start, fixed=fixed, tol=1e-11)
    assert result.fun == pytest.approx(minimum.value, rel=1e-11)
    for found, expected in zip(result.point, point, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_simplex_etf_of_the_right_size_is_the_best_classifier():
    K, n, lambda_W, lambda_H = 10, 3, 1e-3, 1e-4
    ufm = uf.UFM(K, K + 2, n, lambda_W=lambda_W, lambda_H=lambda_H)
    t = np.sqrt(n * lambda_W * lambda_H)
    square = np.sqrt(n * lambda_H / lambda_W) * np.log(1 / t - K + 1) * (1 - 1 / K)  # |w_k|^2 at the minimum
    start = ufm.random_point(0)._replace(W=np.sqrt(square) * uf.simplex_etf(K, K + 2), b=np.zeros(K))
    value = -(K - 1) * t * np.log(t) - (1 - (K - 1) * t) * np.log1p(-(K - 1) * t)
    assert uf.minimize(ufm, start, fixed="W", tol=1e-12).fun == pytest.approx(value, rel=1e-12)
    longer = uf.minimize(ufm, start._replace(W=1.5 * start.W), fixed="W")
    assert longer.fun > value * 1.001
    assert uf.certify(ufm, longer.point).relative_gap > 1e-3  # a certificate of the restricted problem says less


def extended_minimum(ufm, p, fixed, steps=30):
    """The minimum of cross-entropy over the free part with 60 digits: Newton's method on the dense Hessian."""
    mp.dps = 60
    oracle = Oracle.of(ufm)
    x, back = free_part(ufm, p, fixed)
    K, counts, N = ufm.K, [mp.mpf(int(n)) for n in ufm.counts], mp.mpf(int(ufm.N))
    x = mp.matrix(x.tolist())

    def parts(x):
        W, H, b = (mp.matrix(np.atleast_2d(part).tolist()) for part in p)
        values = list(x)
        if fixed == "W":
            H = mp.matrix([values[i * ufm.d : (i + 1) * ufm.d] for i in range(K)])
        else:
            W = mp.matrix([values[i * ufm.d : (i + 1) * ufm.d] for i in range(K)])
            b = mp.matrix([values[K * ufm.d :]]) if ufm.bias else b
        return W, H, b

    def value(x):
        W, H, b = parts(x)
        total = mp.mpf(0)
        for k in range(K):
            z = [mp.fdot(W[j, :], H[k, :]) + b[j] for j in range(K)]
            top = max(z)
            total += counts[k] / N * (mp.log(mp.fsum(mp.exp(v - top) for v in z)) + top - z[k])
            total += mp.mpf(ufm.lambda_H) / 2 * counts[k] * mp.fdot(H[k, :], H[k, :])
        total += mp.mpf(ufm.lambda_W) / 2 * mp.fsum(v * v for v in W)
        return total + (mp.mpf(ufm.lambda_b) / 2 * mp.fsum(v * v for v in b) if ufm.bias else 0)

    def gradient(x):
        W, H, b = parts(x)
        rows = []
        for k in range(K):
            z = [mp.fdot(W[j, :], H[k, :]) + b[j] for j in range(K)]
            top = max(z)
            e = [mp.exp(v - top) for v in z]
            total = mp.fsum(e)
            rows.append([counts[k] / N * (e[j] / total - (j == k)) for j in range(K)])
        G = mp.matrix(rows)
        if fixed == "W":
            lambda_H = mp.mpf(ufm.lambda_H)
            g = G * W + mp.matrix([[lambda_H * counts[k] * H[k, c] for c in range(ufm.d)] for k in range(K)])
            return mp.matrix(list(g))
        g = list(G.T * H + mp.mpf(ufm.lambda_W) * W)
        if ufm.bias:
            g += [mp.fsum(G[:, j]) + mp.mpf(ufm.lambda_b) * b[j] for j in range(K)]
        return mp.matrix(g)

    for _ in range(steps):  # the Hessian in double precision: linear convergence, about 1e-10 a step
        q = back(np.array([float(v) for v in x]))
        full = oracle.hessian(*q)
        end, end_H = K * ufm.d, 2 * K * ufm.d
        chosen = np.r_[end:end_H] if fixed == "W" else np.r_[0:end, end_H : len(full)]
        inverse = np.linalg.pinv(full[np.ix_(chosen, chosen)], rcond=1e-13, hermitian=True)
        g = gradient(x)
        size = mp.norm(g)
        if size < mp.mpf(10) ** -40:
            break
        step = inverse @ np.array([float(v / size) for v in g])
        x = x - mp.matrix([mp.mpf(float(v)) * size for v in step])
    return value(x)


@pytest.mark.parametrize("fixed", ["W", "H"])
@pytest.mark.parametrize("bias", [{"lambda_b": 0.0}, {"lambda_b": 1e-3}, {"bias": False}], ids=str)
def test_bracket_in_extended_precision(bias, fixed):
    ufm = uf.UFM(3, 2, [5, 3, 2], lambda_W=2e-3, lambda_H=1e-3, **bias)
    result = uf.minimize(ufm, ufm.random_point(1, scale=1.0), fixed=fixed, tol=1e-11)
    exact = extended_minimum(ufm, result.point, fixed)
    certificate = result.certificate
    assert mp.mpf(certificate.lower_bound) <= exact
    assert exact <= mp.mpf(certificate.loss) + mp.mpf(certificate.rounding)
    assert float(mp.mpf(certificate.loss) - exact) <= certificate.gap <= 1e-11 * certificate.loss


@pytest.mark.parametrize("seed", range(150))
def test_no_bound_is_above_the_minimum(seed):
    """Random models with tiny decays, at starts with small and with large logits, at every stage of a run."""
    rng = np.random.default_rng(seed)
    K, d = int(rng.integers(2, 12)), int(rng.integers(1, 14))
    counts = rng.integers(1, 30, K)
    lambda_W, lambda_H, lambda_b = 10 ** rng.uniform(-9, 0, 3)
    bias = [{"lambda_b": 0.0}, {"lambda_b": lambda_b}, {"bias": False}, {"lambda_b": 1e-16}][rng.integers(4)]
    loss = [uf.CrossEntropy(), uf.CrossEntropy(rng.uniform(0, 0.5)), uf.MSE()][rng.integers(3)]
    ufm = uf.UFM(K, d, counts, loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, collapse=bool(rng.integers(2)), **bias)
    start, fixed = ufm.random_point(seed, scale=10 ** rng.uniform(-2, 1.5)), "WH"[rng.integers(2)]
    result = uf.minimize(ufm, start, fixed=fixed)
    assert result.success, result.message
    best = min(best_by_scipy(ufm, result.point, fixed), result.fun)
    assert result.fun - best <= result.certificate.gap
    assert max(result.certificate.lower_bound, *result.history["lower_bound"]) <= best * (1 + 1e-13)


def test_bounds_at_points_far_from_the_minimum():
    """One iteration, from starts of any size: a weak bound, but a bound."""
    ufm = uf.UFM(6, 4, [9, 8, 7, 3, 2, 1], lambda_W=1e-3, lambda_H=1e-3)
    for seed in range(30):
        start = ufm.random_point(seed, scale=10 ** np.random.default_rng(seed).uniform(-1, 2))
        for fixed in "WH":
            best = uf.minimize(ufm, start, fixed=fixed).fun
            with pytest.warns(uf.ConvergenceWarning, match="all 2 evaluations used"):
                early = uf.minimize(ufm, start, fixed=fixed, max_evaluations=2, tol=1e-11)
            assert early.certificate.lower_bound <= best
            assert early.status == 1
            assert early.nfev == 2


def test_float32():
    ufm = uf.UFM(6, 5, [9, 8, 7, 3, 2, 1], lambda_W=1e-3, lambda_H=1e-3, dtype="float32")
    start = ufm.random_point(0)
    for fixed in "WH":
        result = uf.minimize(ufm, start, fixed=fixed, tol=1e-6)
        assert result.success
        assert {part.dtype for part in result.point} == {np.dtype("float32")}
        assert np.array_equal(getattr(result.point, fixed), getattr(start, fixed))
        assert result.fun == pytest.approx(float(ufm.loss(result.point)), rel=1e-5)


def test_rows_with_targets_of_any_kind():
    rng = np.random.default_rng(0)
    soft, real = rng.dirichlet(np.full(5, 0.3), 20), rng.standard_normal((20, 5))
    weights, ridges = rng.uniform(0.5, 2, 20) / 20, rng.uniform(0.5, 2, 20)
    for loss, targets in (("cross_entropy", soft), ("mse", real)):
        for lambda_b in (0.0, 1e-2):
            ufm = rows_model(
                5, 3, Rows(targets, weights, ridges), loss=loss, lambda_W=1e-3, lambda_H=1e-3, lambda_b=lambda_b
            )
            start = ufm.random_point(0, scale=1.0)
            for fixed in "WH":
                result = uf.minimize(ufm, start, fixed=fixed, tol=1e-10)
                assert result.success, result.message
                assert result.fun == pytest.approx(best_by_scipy(ufm, result.point, fixed), rel=1e-10)


def test_without_a_minimum_nothing_is_certified():
    """Where no row has class 3 its bias, without decay, falls for ever."""
    rows = Rows(np.array([0, 1, 0, 2, 1]), np.full(5, 0.2), np.ones(5))
    ufm = rows_model(4, 3, rows, lambda_W=1e-3, lambda_H=1e-3)
    with pytest.warns(uf.ConvergenceWarning, match="not certified as the minimum over W and b"):
        result = uf.minimize(ufm, ufm.random_point(0), fixed="H", max_evaluations=30)
    assert result.certificate.lower_bound == 0
    assert uf.minimize(ufm, ufm.random_point(0), fixed="W").success


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_reach_of_the_bias_holds(loss):
    """Points with a loss no larger have a bias within the reach, but for what all classes share in cross-entropy."""
    from ufm_fast._certify.restricted import _REACH

    rng = np.random.default_rng(3)
    ufm = uf.UFM(4, 3, [7, 4, 2, 1], loss=loss, lambda_W=1e-2, lambda_H=1e-3)
    p, problem = ufm.random_point(0, scale=1.0), CanonicalProblem(ufm)
    level, B, widest = ufm.loss(p), p.H * problem.root[:, None], 0.0
    for _ in range(2000):
        q = p._replace(W=p.W * rng.uniform(0, 1) + 0.3 * rng.standard_normal(p.W.shape), b=rng.normal(0, 10, 4))
        if ufm.loss(q) > level:
            continue
        move = np.linalg.norm(q.W - p.W)
        distance, change = _REACH[type(loss)](problem, p, B, level, move), q.b - p.b
        if isinstance(loss, uf.CrossEntropy):
            change = change - change[np.argmin(distance)]
        assert (abs(change) <= distance * (1 + 1e-12)).all()
        widest = max(widest, abs(change).max())
    assert widest > 0.5


def test_callback_and_history():
    ufm, seen = uf.UFM(5, 5, LONG_TAIL, lambda_W=1e-3, lambda_H=1e-3, collapse=False), []
    start = ufm.random_point(0)

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    with pytest.warns(uf.ConvergenceWarning, match="stopped by the callback"):
        result = uf.minimize(ufm, start, fixed="W", tol=1e-11, callback=callback)
    assert result.status == 3
    assert len(seen) == 3 == len(result.history["loss"])
    for now, loss in zip(seen, result.history["loss"], strict=True):
        assert np.array_equal(now.point.W, start.W)
        assert now.point.H.shape == start.H.shape
        assert ufm.loss(now.point) == pytest.approx(loss, rel=1e-12)
    assert (np.diff(result.history["loss"]) < 0).all()
    points = []
    uf.minimize(ufm, start, fixed="H", callback=points.append)
    assert points[-1].shape == (ufm.size,)


def test_what_it_says():
    ufm = uf.UFM(4, 4, 3, lambda_W=1e-3, lambda_H=1e-3)
    result = uf.minimize(ufm, ufm.random_point(0), fixed="W")
    assert result.message.startswith("minimum over H, with W and b fixed: certified relative gap")
    assert "minimum for this W at least" in str(result.certificate)
    assert result.certificate.is_global()
    again = uf.minimize(ufm, ufm.pack(result.point), fixed="W")
    assert again.nfev == 1
    assert again.fun == pytest.approx(result.fun, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x0": None}, ValueError, "x0 must be given with fixed='W'"),
        ({"fixed": "b"}, ValueError, "fixed must be 'W' or 'H'"),
        ({"fixed": True}, ValueError, "fixed must be 'W' or 'H'"),
        ({"restarts": 1}, ValueError, "restarts must not be given with fixed='W'"),
        ({"checkpoint": "run.npz"}, ValueError, "checkpoint must not be given with fixed='W'"),
        ({"tol": 0.0}, ValueError, "tol must lie in"),
        ({"max_evaluations": 0}, ValueError, "max_evaluations must be at least 1"),
    ],
)
def test_refused(options, error, message):
    ufm = uf.UFM(3, 3, lambda_W=1e-3, lambda_H=1e-3)
    arguments = {"x0": ufm.random_point(0), "fixed": "W", **options}
    with pytest.raises(error, match=message):
        uf.minimize(ufm, **arguments)
