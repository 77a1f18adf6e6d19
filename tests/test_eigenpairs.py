"""lowest_eigenpairs against dense eigendecompositions of the oracle's Hessian and closed-form spectra."""

import math
import tracemalloc
import warnings

import numpy as np
import pytest

import ufm_fast as uf
from oracle import Oracle
from ufm_fast._runtime.core import gradient_eigenpairs, hessian_eigenpairs

BIASES = [{"lambda_b": 1e-2}, {"lambda_b": 0.0}, {"bias": False}]


def model(K, d, n, loss="cross_entropy", **options):
    return uf.UFM(K, d, n, loss=loss, lambda_W=3e-3, lambda_H=1e-3, **options)


def isometric(ufm, v):
    """A point of the model as a vector in the coordinates W, sqrt(samples per row) h, b."""
    samples = ufm.counts if ufm.collapse_classes else np.ones(ufm.N)
    return np.concatenate([v.W.ravel(), (np.sqrt(samples)[:, None] * v.H).ravel(), v.b[: ufm.K * ufm.bias]])


def dense_hessian(ufm, p):
    samples = ufm.counts if ufm.collapse_classes else np.ones(ufm.N)
    scale = isometric(ufm, uf.Point(np.ones_like(p.W), 1 / samples[:, None] * np.ones_like(p.H), np.ones(ufm.K)))
    return scale[:, None] * Oracle.of(ufm).hessian(*p) * scale


def rotations(ufm, p, number=None):
    """Orthonormal bases of the tangents (W S, H S), S skew, and of what is orthogonal to them.

    A direction of the features may be so nearly empty that rounding decides if it has tangents; then `number` does.
    """
    tangents = []
    for i in range(ufm.d):
        for j in range(i):
            S = np.zeros((ufm.d, ufm.d))
            S[i, j], S[j, i] = 1, -1
            tangents.append(isometric(ufm, uf.Point(p.W @ S, p.H @ S, np.zeros(ufm.K))))
    U, s, _ = np.linalg.svd(np.array(tangents).T, full_matrices=True)
    largest = s.max(initial=1e-30)
    if number is None:
        number = np.count_nonzero(s > 1e-9 * largest)
    assert (s[:number] > 1e-10 * largest).all()
    assert (s[number:] < 1e-8 * largest).all()
    return U[:, :number], U[:, number:]


def check(ufm, p, k, residual=1e-7, **options):
    found = uf.lowest_eigenpairs(ufm, p, k, **options)
    hessian = dense_hessian(ufm, p)
    eigenvalues = np.linalg.eigvalsh(hessian)
    size = np.abs(eigenvalues).max()
    if found.deflated:
        along, across = rotations(ufm, p)
        assert found.deflated == along.shape[1]
        eigenvalues = np.linalg.eigvalsh(across.T @ hessian @ across)
    k = min(k, len(eigenvalues))
    np.testing.assert_allclose(found.eigenvalues, eigenvalues[:k], rtol=0, atol=1e-13 * size)
    vectors = np.array([isometric(ufm, v) for v in found.vectors])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), rtol=0, atol=1e-7)
    errors = vectors @ hessian - found.eigenvalues[:, None] * vectors
    residuals = np.linalg.norm(errors @ across if found.deflated else errors, axis=1)
    np.testing.assert_allclose(found.residuals, residuals, rtol=1e-6, atol=1e-13 * size)
    assert residuals.max() <= residual * size
    return found


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("d", [4, 6, 8])
def test_saddles_minima_and_other_points(d, loss, bias):
    ufm = model(6, d, [7, 3, 9, 4, 5, 6], loss, **bias)
    assert check(ufm, ufm.random_point(seed=1, scale=0.5), 4).deflated == 0
    assert check(ufm, ufm.random_point(seed=1, scale=0.5), 4, deflate=True).deflated > 0
    for rank in (0, 2, min(4, d - 1)):
        p = uf.saddle(ufm, rank)
        check(ufm, p, 5)
        check(ufm, p, 40, deflate=True)
        check(ufm, p, 40, deflate=False)
    balanced = model(6, max(d, 6), 7, loss, **bias)
    minimum = uf.global_minimum(balanced).point
    assert check(balanced, minimum, 5).deflated > 0
    check(balanced, minimum, 60)


def test_rotations_left_out_off_critical_points_with_empty_directions():
    ufm = model(2, 6, [4, 7], "mse", lambda_b=1e-3)
    assert check(ufm, ufm.random_point(seed=1), 8, deflate=True).deflated == 14


def test_more_than_there_are():
    ufm = model(3, 2, 2)
    p = uf.saddle(ufm, 1)
    found = check(ufm, p, 1000)
    assert len(found.eigenvalues) == ufm.size - found.deflated


@pytest.mark.parametrize("n", [1, [3, 1, 2, 2]])
def test_rows_per_sample(n):
    full, collapsed = (model(4, 5, n, collapse=c, lambda_b=1e-3) for c in (False, True))
    p = uf.saddle(collapsed, 2)
    found = check(full, full.expand(p), 30)
    assert found.within_class == math.inf
    means = uf.lowest_eigenpairs(collapsed, p, 30)
    assert means.within_class == (math.inf if n == 1 else collapsed.lambda_H)
    lowest = found.eigenvalues[found.eigenvalues < means.within_class * (1 - 1e-9)]
    assert len(lowest) > 3
    np.testing.assert_allclose(means.eigenvalues[: len(lowest)], lowest, rtol=0, atol=1e-13)


def test_the_null_space_of_a_balanced_minimum_is_left_out():
    """K = d = 50: a null space of 1225 dimensions; multiple eigenvalues above it."""
    ufm = uf.UFM(50, 50, 100, lambda_W=5e-4, lambda_H=5e-6, lambda_b=1e-2)
    values, multiplicities = uf.closed_form_spectrum(ufm)
    assert multiplicities[0] == 50 * 49 // 2
    assert values[0] == 0
    found = uf.lowest_eigenpairs(ufm, uf.global_minimum(ufm).point, 3)
    assert found.deflated == 50 * 49 // 2
    reduced = np.repeat(values, multiplicities)[found.deflated :]
    np.testing.assert_allclose(found.eigenvalues, reduced[:3], rtol=1e-8)
    assert found.products < 200


def test_saddles_need_no_hessian_products():
    ufm = uf.UFM(40, 40, 10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    found = uf.lowest_eigenpairs(ufm, uf.saddle(ufm, 15), 3)
    assert found.products == 3  # to measure the residuals
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    np.testing.assert_allclose(found.eigenvalues, mean - math.hypot(half, 1 / (40 * math.sqrt(10))), rtol=1e-12)
    assert found.residuals.max() < 1e-14
    one = uf.lowest_eigenpairs(ufm, uf.saddle(ufm, 15))
    assert one.eigenvalues[0] == pytest.approx(uf.classify(ufm, uf.saddle(ufm, 15)).lowest_eigenvalue, rel=1e-12)


def test_spurious_local_minimum():
    """d < K - 1 at full rank: neither bound of classify decides, the eigenvalues do."""
    ufm = uf.UFM(10, 2, 100, lambda_W=5e-3, lambda_H=5e-5, lambda_b=1e-2)
    with pytest.warns(uf.ConvergenceWarning):
        result = uf.minimize(ufm, ufm.random_point(seed=3), tol=1e-8)
    found = check(ufm, result.point, 2, deflate=True)
    assert found.deflated == 1
    assert found.eigenvalues[0] > -1e-8


def unwarned(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        return function(*args, **options)


def minimiser(ufm, seed):
    return unwarned(uf.minimize, ufm, ufm.random_point(seed), tol=1e-10).point


def test_a_minimum_of_rank_one():
    """The lowest eigenvalue is a quarter of the next, on which a search from a random vector settles."""
    ufm = uf.UFM(3, 1, [5, 2, 1], loss="mse", lambda_W=0.0123788, lambda_H=2.98404e-05)
    p = minimiser(ufm, 5)
    assert check(ufm, p, 1).eigenvalues[0] == pytest.approx(2.95273953e-5, rel=1e-6)
    assert uf.classify(ufm, p).lowest_eigenvalue == pytest.approx(2.95273953e-5, rel=1e-6)


@pytest.mark.parametrize("dense", [True, False])
def test_the_free_shift_of_the_bias(dense, monkeypatch):
    loss = uf.CrossEntropy(label_smoothing=0.1)
    ufm = uf.UFM(3, 1, [14, 20, 17], loss=loss, lambda_W=0.2095, lambda_H=8.15e-6, collapse=False)
    p = minimiser(ufm, 813)
    if not dense:
        monkeypatch.setattr("ufm_fast._numerics.lowest._DENSE", 0)
    assert check(ufm, p, 1).eigenvalues[0] == pytest.approx(0, abs=1e-14)
    found = uf.classify(ufm, p)
    assert found.kind == "local_minimum"
    assert found.lowest_eigenvalue == pytest.approx(0, abs=1e-14)


def random_model_and_point(seed):
    """A small model of any kind, at a minimiser, a saddle, zero or a random point."""
    rng = np.random.default_rng(seed)
    K, d = (int(x) for x in rng.integers((2, 1), (6, 7)))
    n = rng.integers(1, 12, size=K if rng.random() < 0.6 else 1)
    decays = dict(zip(("lambda_W", "lambda_H", "lambda_b"), 10 ** rng.uniform(-6, 0, 3), strict=True))
    decays |= [{}, {"lambda_b": 0.0}, {"lambda_b": 0.0, "bias": False}][rng.integers(3)]
    loss = [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.1), uf.MSE()][rng.integers(3)]
    ufm = uf.UFM(K, d, n if len(n) == K else int(n[0]), loss=loss, collapse=bool(rng.random() < 0.6), **decays)
    kind = rng.integers(4)
    if kind == 0:
        return ufm, ufm.random_point(seed, scale=10 ** rng.uniform(-2, 0.5))
    if kind == 1:
        return ufm, ufm.unpack(np.zeros(ufm.size))
    rank = int(rng.integers(max(1, min(d, K - 1)))) if kind == 2 else -1
    try:
        return ufm, uf.saddle(ufm, rank, seed)
    except ValueError:  # none of that rank
        return ufm, minimiser(ufm, seed)


@pytest.mark.parametrize("seed", range(60))
def test_random_models(seed):
    """The k lowest of the dense spectrum, the rotations left out or not; and what classify says of the lowest.

    Warnings come at minimisers with directions that are nearly empty, but not to the tolerance.
    """
    ufm, p = random_model_and_point(seed)
    hessian = dense_hessian(ufm, p)
    exact = np.linalg.eigvalsh(hessian)
    size = np.abs(exact).max()
    rounding = 1e-12 * size + 1e-15  # the oracle subtracts probabilities from one
    for k in (1, 2, 3, 5):
        found = unwarned(uf.lowest_eigenpairs, ufm, p, k, deflate=False)
        np.testing.assert_allclose(found.eigenvalues, exact[:k], rtol=0, atol=rounding)
        found = unwarned(uf.lowest_eigenpairs, ufm, p, k)
        across = rotations(ufm, p, found.deflated)[1] if found.deflated else np.eye(len(hessian))
        reduced = np.linalg.eigvalsh(across.T @ hessian @ across)[:k]
        np.testing.assert_allclose(found.eigenvalues, reduced, rtol=0, atol=rounding)
    full = Oracle.of(ufm).full().hessian(*(ufm.expand(p) if ufm.collapse_classes else p))
    unit = 2 * ufm.lambda_W * ufm.lambda_H / (ufm.lambda_W + ufm.lambda_H)
    found = uf.classify(ufm, p)
    lowest = np.linalg.eigvalsh(full)[0]
    low, high = found.lowest_eigenvalue_bounds
    assert low - 1e-10 * unit - 1e-13 * size <= lowest <= high + 1e-10 * unit + 1e-13 * size
    if not math.isnan(found.lowest_eigenvalue):
        assert found.lowest_eigenvalue == pytest.approx(lowest, rel=1e-6, abs=1e-6 * unit + 1e-13 * size)
    if found.kind == "strict_saddle":
        assert lowest < -1e-5 * unit
    if found.kind == "local_minimum":
        assert lowest > -1e-5 * unit


@pytest.mark.parametrize("seed", range(60))
def test_searches_in_random_models(seed, monkeypatch):
    """As if they were too large for a decomposition: nothing is missed by more than rounding of the tolerance."""
    monkeypatch.setattr("ufm_fast._numerics.lowest._DENSE", 0)
    ufm, p = random_model_and_point(seed)
    exact = np.linalg.eigvalsh(dense_hessian(ufm, p))
    for k in (1, 3):
        found = unwarned(uf.lowest_eigenpairs, ufm, p, k, deflate=False)
        resolution = 1e-8 * math.sqrt(ufm.size) * np.abs(exact).max()
        np.testing.assert_allclose(found.eigenvalues, exact[:k], rtol=0, atol=resolution)


def test_a_guard_finds_what_the_start_holds_but_the_block_does_not():
    """A start at the second eigenvector ends there; with a guard, fresh vectors lead to the first."""
    ufm = model(6, 5, [7, 3, 9, 4, 5, 6], collapse=False)
    p = ufm.random_point(seed=1, scale=0.5)
    values, vectors = np.linalg.eigh(dense_hessian(ufm, p))
    start = np.stack([vectors[:, 1], np.random.default_rng(0).standard_normal(len(values))])
    for guards, lowest in ((0, values[1]), (1, values[0])):
        found, _, _, _, ended = hessian_eigenpairs(
            ufm._problem, *p, start[: 1 + guards], 1, guards=guards, basis=30, tolerance=1e-9, max_products=1000,
            store=True, deflate=False, threads=1,
        )  # fmt: skip
        assert ended
        assert found[0] == pytest.approx(lowest, rel=1e-12)


def test_a_check_cut_short_warns():
    ufm = uf.UFM(50, 50, 100, lambda_W=5e-4, lambda_H=5e-6, lambda_b=1e-2)
    p = uf.global_minimum(ufm).point
    with pytest.warns(uf.ConvergenceWarning, match="lower ones may have been missed"):
        found = uf.lowest_eigenpairs(ufm, p, max_products=25)
    assert found.residuals[0] < 1e-9


@pytest.mark.parametrize(("b", "zeros"), [(0.0, 1), (800.0, 3)])
def test_many_samples_and_few_singular_values(b, zeros):
    """W = H = 0: more pairs are wanted than G has singular values.

    At b = 800 e_1 the softmax is e_1 in floating point: G vanishes for the first class, and nothing curves along b.
    """
    ufm = uf.UFM(3, 2, [2000, 1000, 1], lambda_W=1e-2, lambda_H=1e-4, collapse=False)
    p = ufm.unpack(np.zeros(ufm.size))._replace(b=np.array([b, 0, 0]))
    s = np.linalg.svd(Oracle.of(ufm).residuals(*p), compute_uv=False)
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    expected = np.sort(np.concatenate([np.repeat(mean - np.hypot(half, s), 2), np.zeros(zeros), [1e-4] * 2]))[:7]
    tracemalloc.start()
    found = uf.lowest_eigenpairs(ufm, p, 7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=0, atol=1e-12)
    assert peak < 3001**2 * 8 / 4  # no array of the size of samples times samples


def test_stopping_short_warns():
    ufm = uf.UFM(20, 12, np.arange(1, 21), lambda_W=5e-4, lambda_H=5e-5, lambda_b=1e-2)
    p = ufm.random_point(seed=2)
    with pytest.warns(uf.ConvergenceWarning, match="stopped after 10 Hessian products"):
        found = uf.lowest_eigenpairs(ufm, p, 2, max_products=10)
    assert found.products == 12
    assert found.residuals.max() > 1e-8


def test_arguments():
    ufm = model(3, 3, 2)
    p = ufm.random_point()
    with pytest.raises(ValueError, match="k must be at least 1"):
        uf.lowest_eigenpairs(ufm, p, 0)
    with pytest.raises(ValueError, match=r"tol must lie in \(0, 1\)"):
        uf.lowest_eigenpairs(ufm, p, tol=0.0)
    with pytest.raises(TypeError, match="k must be an int"):
        uf.lowest_eigenpairs(ufm, p, 1.5)
    with pytest.raises(ValueError, match="W must have shape"):
        uf.lowest_eigenpairs(ufm, uf.Point(p.W[:2], p.H, p.b))


def test_float32_points_are_treated_in_double():
    single, double = (model(5, 5, 4, dtype=dtype) for dtype in ("float32", "float64"))
    p = uf.saddle(double, 2)
    q = uf.Point(*(part.astype(np.float32) for part in p))
    found = uf.lowest_eigenpairs(single, q, 2, tol=1e-6)
    assert found.vectors[0].W.dtype == np.float32
    np.testing.assert_allclose(found.eigenvalues, uf.lowest_eigenpairs(double, p, 2).eigenvalues, rtol=1e-5)


def test_with_little_memory(monkeypatch):
    """Without room for an M x K array the gradient matrix and the probabilities are made again in every product."""
    ufm = model(12, 12, [5, 9, 2, 7] * 3, lambda_b=1e-2)
    p = uf.saddle(ufm, 4)
    expected = uf.lowest_eigenpairs(ufm, p, 60)
    monkeypatch.setattr("ufm_fast._model.isometric.spares", lambda needed: False)
    found = check(ufm, p, 60)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("keep", [False, True])
def test_singular_values_of_the_gradient_matrix(keep):
    ufm = uf.UFM(30, 8, 3, lambda_W=1e-3, lambda_H=1e-3, collapse=False)
    p = ufm.random_point(seed=4, scale=0.3)
    G = Oracle.of(ufm).residuals(*p)
    _, s, Vt = np.linalg.svd(G)
    generator = np.random.default_rng(0)
    for without in (0, 2):
        values, right, products, norm, ended = gradient_eigenpairs(
            ufm._problem, *p, np.ascontiguousarray(Vt[:without]), generator.standard_normal((4, 30)), 4,
            guards=1, basis=30, tolerance=1e-12, max_products=1000, store=keep, threads=2,
        )  # fmt: skip
        np.testing.assert_allclose(values, -(s[without : without + 4] ** 2), rtol=1e-12)
        np.testing.assert_allclose(abs(right @ Vt[without : without + 4].T), np.eye(4), rtol=0, atol=1e-6)
        assert ended
        assert s[without] ** 2 == pytest.approx(norm, rel=1e-12)
        assert products < 200


def test_can_be_interrupted(run_python):
    run_python("""
import signal
import ufm_fast as uf

class Alarm(Exception):
    pass

def ring(*_):
    raise Alarm

signal.signal(signal.SIGALRM, ring)
ufm = uf.UFM(400, 300, 5, lambda_W=1e-4, lambda_H=1e-5, lambda_b=1e-2)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    uf.lowest_eigenpairs(ufm, ufm.random_point(), tol=1e-15, max_products=10**9)
except Alarm:
    print("stopped")
else:
    raise AssertionError("not interrupted")
""")
