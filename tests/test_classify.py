"""classify against dense eigendecompositions of the oracle's full-sample Hessian, at points made here."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle
from reference import as_point, global_minimum, random_start, stationary

LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.1), uf.MSE()]
BIASES = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 3e-2}]
DECAYS = [(5e-3, 5e-3), (2e-2, 1e-3)]


def full_problem(ufm, p):
    """The oracle with a row a sample, and the point in it."""
    oracle = Oracle.of(ufm).full()
    W, H, b = p
    return oracle, (W, np.repeat(H, ufm.counts, axis=0) if ufm.collapse_classes else H, b)


def lowest_eigenvalue(ufm, p):
    oracle, point = full_problem(ufm, p)
    return np.linalg.eigvalsh(oracle.hessian(*point))[0]


def gradient_norm(ufm, p):
    """Full-sample gradient in canonical coordinates, by the chain rule."""
    oracle, point = full_problem(ufm, p)
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    gW, gH, gb = oracle.gradient(*point)
    return np.linalg.norm(np.concatenate([(rho * gW).ravel(), (gH / rho).ravel(), gb]))


def check(ufm, p, found, kind):
    """What must hold wherever the eigenvalue is determined."""
    assert found.kind == kind
    exact = lowest_eigenvalue(ufm, p)
    unit = 2 * ufm.lambda_W * ufm.lambda_H / (ufm.lambda_W + ufm.lambda_H)
    low, high = found.lowest_eigenvalue_bounds
    assert low - 1e-10 * unit <= exact <= high + 1e-10 * unit
    assert found.gradient_norm == pytest.approx(gradient_norm(ufm, p), rel=1e-9, abs=1e-13)
    if not math.isnan(found.lowest_eigenvalue):
        assert found.lowest_eigenvalue == pytest.approx(exact, rel=1e-6, abs=1e-6 * unit)
    assert (found.direction is not None) == (kind == "strict_saddle")
    if found.direction is not None:
        check_direction(ufm, p, found.direction, exact)


def check_direction(ufm, p, direction, exact):
    """Unit in the full-sample norm, and an eigenvector of the lowest eigenvalue."""
    oracle, point = full_problem(ufm, p)
    _, v = full_problem(ufm, direction)
    flat = oracle.pack(*v)
    assert np.linalg.norm(flat) == pytest.approx(1, rel=1e-12)
    residual = oracle.pack(*oracle.hvp(*point, *v)) - exact * flat
    assert np.linalg.norm(residual) <= 1e-6 * (ufm.lambda_W + ufm.lambda_H + abs(exact))


def embedded(point, d, rng):
    """A critical point of width r as one of width d, in rotated coordinates."""
    W, H, b = point
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0][: W.shape[1]]
    return as_point((W @ Q, H @ Q, b))


@pytest.mark.parametrize(
    ("counts", "loss", "bias", "decays"), list(itertools.product([(3, 3, 3, 3), (6, 3, 2, 1)], LOSSES, BIASES, DECAYS))
)
def test_every_rank(counts, loss, bias, decays):
    """The zero point, minima of smaller width embedded in d = 4, and the global minimum."""
    K, d = 4, 4
    arguments = {"n": counts, "loss": loss, "lambda_W": decays[0], "lambda_H": decays[1], **bias}
    ufm = uf.UFM(K, d, **arguments)
    W, H, _ = global_minimum(Oracle.of(ufm))[0]
    optimal_rank = np.linalg.matrix_rank(H @ W.T, tol=1e-6)
    rng = np.random.default_rng(1)
    for rank in range(optimal_rank + 1):
        narrow = Oracle.of(uf.UFM(K, max(rank, 1), **arguments))
        start = random_start(narrow) if rank > 0 else (np.zeros((K, 1)), np.zeros((K, 1)), np.zeros(K))
        p = embedded(stationary(narrow, start), d, rng)
        found = uf.classify(ufm, p)
        check(ufm, p, found, "strict_saddle" if rank < optimal_rank else "global_minimum")
        assert not math.isnan(found.lowest_eigenvalue)
        assert found.rank == rank
        assert found.relative_gradient_norm < 1e-9


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("collapse", [True, False])
def test_merged_classes_in_closed_form(bias, collapse):
    """Six classes merged to two or three groups: a saddle whose lowest eigenvalue is that of the zero point."""
    K, d, n, lambda_W, lambda_H = 6, 7, 2, 2e-2, 1e-3
    ufm = uf.UFM(K, d, n, lambda_W=lambda_W, lambda_H=lambda_H, collapse=collapse, **bias)
    t, s = np.sqrt(n) * ufm.tau, 1 / (K * np.sqrt(n))
    L = (lambda_W + lambda_H) / 2 - np.hypot((lambda_W - lambda_H) / 2, s)
    rng = np.random.default_rng(0)
    for groups in (2, 3):
        size = K // groups
        indicators = np.kron(np.eye(groups), np.ones((size, 1)))
        V = np.linalg.svd(indicators - 1 / groups)[0][:, : groups - 1]
        margin = np.log(1 / (size * t) - groups + 1) * size * np.sqrt(n)
        rho = (lambda_H / lambda_W) ** 0.25
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0][: groups - 1]
        W, H = rho * np.sqrt(margin) * V @ Q, np.sqrt(margin / n) / rho * V @ Q
        p = as_point((W, H if collapse else np.repeat(H, n, axis=0), np.zeros(K)))
        found = uf.classify(ufm, p)
        check(ufm, p, found, "strict_saddle")
        assert found.rank == groups - 1
        assert found.lowest_eigenvalue == pytest.approx(L, rel=1e-12)


def test_squared_error_projectors():
    """Free bias: (1 - K t) times any projector orthogonal to 1 is a critical point."""
    K, d, n = 5, 5, 3
    ufm = uf.UFM(K, d, n, loss="mse", lambda_W=3e-3, lambda_H=1e-2)
    t, rho = np.sqrt(n) * ufm.tau, (ufm.lambda_H / ufm.lambda_W) ** 0.25
    basis = np.linalg.qr(np.column_stack([np.ones(K), np.random.default_rng(2).standard_normal((K, K - 1))]))[0][:, 1:]
    for rank in range(K):
        V = np.sqrt((1 - K * t) * np.sqrt(n)) * basis[:, :rank] @ np.eye(rank, d)
        p = as_point((rho * V, V / (rho * np.sqrt(n)), np.full(K, 1 / K)))
        found = uf.classify(ufm, p)
        check(ufm, p, found, "strict_saddle" if rank < K - 1 else "global_minimum")
        assert found.rank == rank
        assert not math.isnan(found.lowest_eigenvalue)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("collapse", [True, False])
def test_not_critical(loss, bias, collapse):
    """Random points: bounds at full rank; the exact eigenvalue where the features leave a direction out."""
    ufm = uf.UFM(3, 4, [3, 2, 1], loss=loss, lambda_W=2e-2, lambda_H=5e-3, collapse=collapse, **bias)
    for seed, scale in itertools.product(range(3), (0.1, 1.0)):
        p = ufm.random_point(seed, scale)
        check(ufm, p, uf.classify(ufm, p), "not_critical")
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0][:, :3]
        p = uf.Point(p.W @ Q @ Q.T, p.H @ Q @ Q.T, p.b)
        found = uf.classify(ufm, p)
        check(ufm, p, found, "not_critical")
        assert found.rank == 3
        low, _ = found.lowest_eigenvalue_bounds
        if low < (ufm.lambda_b if ufm.bias else np.inf):
            assert found.lowest_eigenvalue == low


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-7])
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_within_rounding_of_a_saddle(size, bias):
    ufm = uf.UFM(4, 6, [6, 3, 2, 1], lambda_W=5e-3, lambda_H=2e-3, **bias)
    narrow = Oracle.of(uf.UFM(4, 2, ufm.counts, lambda_W=5e-3, lambda_H=2e-3, **bias))
    b = stationary(narrow, (np.zeros((4, 2)), np.zeros((4, 2)), np.zeros(4)))[2]
    rng = np.random.default_rng(0)
    for rank, W, H, c in [
        (0, np.zeros((4, 6)), np.zeros((4, 6)), b),
        (2, *embedded(stationary(narrow, random_start(narrow)), 6, rng)),
    ]:
        p = uf.Point(W + size * rng.standard_normal(W.shape), H + size * rng.standard_normal(H.shape), c)
        found = uf.classify(ufm, p)
        check(ufm, p, found, "strict_saddle")
        assert found.rank == rank
        assert found.lowest_eigenvalue == pytest.approx(lowest_eigenvalue(ufm, p), rel=1e-7)


def test_global_minimum_at_the_least_width():
    """d = K - 1: no null direction, but rotations make the lowest eigenvalue zero."""
    ufm = uf.UFM(4, 3, [6, 3, 2, 1], lambda_W=5e-3, lambda_H=2e-3, lambda_b=1e-2)
    p = as_point(global_minimum(Oracle.of(ufm))[0])
    found = uf.classify(ufm, p)
    check(ufm, p, found, "global_minimum")
    assert found.rank == 3
    assert found.lowest_eigenvalue == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_no_signal(loss, bias):
    """Strong decay: zero is the global minimum, its Hessian positive but for a free shift of the bias."""
    ufm = uf.UFM(3, 3, [3, 2, 1], loss=loss, lambda_W=1.0, lambda_H=0.5, **bias)
    p = as_point(global_minimum(Oracle.of(ufm))[0])
    found = uf.classify(ufm, p)
    check(ufm, p, found, "global_minimum")
    assert found.rank == 0
    assert not math.isnan(found.lowest_eigenvalue)


@pytest.mark.parametrize("lambda_b", [1e-2, 0.0])
def test_spurious_local_minimum(lambda_b):
    """K = 10 in the plane: a critical point above the global minimum, |G|_2 > tau, yet with no way down."""
    ufm = uf.UFM(10, 2, 2, lambda_W=5e-3, lambda_H=5e-3, lambda_b=lambda_b)
    oracle = Oracle.of(ufm)
    losses = []
    for seed in range(6):
        p = as_point(stationary(oracle, random_start(oracle, seed)))
        found = uf.classify(ufm, p)
        assert found.certificate.spectral_norm > ufm.tau
        check(ufm, p, found, "local_minimum")
        assert found.lowest_eigenvalue == pytest.approx(0, abs=1e-10)
        losses.append(found.certificate.loss)
    if lambda_b > 0:
        assert max(losses) > min(losses) * (1 + 1e-3)  # so that some of them are spurious


def test_saddle_of_full_rank():
    """Squared error, d = K - 1: the mean and d - 1 other directions. No direction is empty, yet there is a way down."""
    ufm = uf.UFM(5, 4, 3, loss="mse", lambda_W=5e-3, lambda_H=2e-3, lambda_b=0.1)
    t, basis = math.sqrt(3) * ufm.tau, np.linalg.qr(np.column_stack([np.ones(5), np.eye(5)[:, :3]]))[0]
    c = 0.1 / 1.1
    size = np.sqrt(np.array([1 - 5 * t / c, *[1 - 5 * t] * 3]) * math.sqrt(3))
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    p = as_point((rho * basis * size, basis * size / (rho * math.sqrt(3)), np.full(5, 5 * t / c / 5.5)))
    assert gradient_norm(ufm, p) < 1e-12
    found = uf.classify(ufm, p)
    assert found.rank == 4
    check(ufm, p, found, "strict_saddle")
    assert not math.isnan(found.lowest_eigenvalue)


def test_float32_saddle():
    ufm = uf.UFM(4, 6, 3, lambda_W=5e-3, lambda_H=2e-3, lambda_b=1e-2, dtype="float32")
    double = uf.UFM(4, 6, 3, lambda_W=5e-3, lambda_H=2e-3, lambda_b=1e-2)
    narrow = Oracle.of(uf.UFM(4, 1, 3, lambda_W=5e-3, lambda_H=2e-3, lambda_b=1e-2))
    p = embedded(stationary(narrow, random_start(narrow)), 6, np.random.default_rng(0))
    found = uf.classify(ufm, uf.Point(*(part.astype(np.float32) for part in p)))
    assert (found.kind, found.rank) == ("strict_saddle", 1)
    assert found.lowest_eigenvalue == pytest.approx(lowest_eigenvalue(double, p), rel=1e-6)
    assert all(part.dtype == np.float32 for part in found.direction)


@given(
    K=st.integers(2, 5),
    d=st.integers(1, 7),
    counts=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    loss=st.sampled_from(LOSSES),
    bias=st.sampled_from(BIASES),
    collapse=st.booleans(),
    scale=st.sampled_from([0.0, 1e-9, 1e-3, 0.3, 3.0]),
    seed=st.integers(0, 99),
)
def test_bounds_hold_anywhere(K, d, counts, loss, bias, collapse, scale, seed):
    ufm = uf.UFM(K, d, counts[:K], loss=loss, lambda_W=3e-2, lambda_H=4e-3, collapse=collapse, **bias)
    p = ufm.random_point(seed, scale)
    found = uf.classify(ufm, p)
    check(ufm, p, found, found.kind)


@pytest.mark.parametrize(("loss", "lambda_b"), [("cross_entropy", 1e-2), ("mse", 0.0)])
def test_large_saddle(loss, lambda_b):
    """Against a singular value decomposition of the gradient matrix, written out here."""
    K, rank = 300, 120
    counts = np.full(K, 100) if loss == "cross_entropy" else np.round(np.geomspace(500, 5, K)).astype(int)
    ufm = uf.UFM(K, K, counts, loss=loss, lambda_W=2e-4, lambda_H=2e-4 / counts.mean(), lambda_b=lambda_b)
    p = uf.saddle(ufm, rank)
    found = uf.classify(ufm, p)
    logits = p.H @ p.W.T + p.b
    residual = logits - np.eye(K)
    if loss == "cross_entropy":
        residual = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(K)
    s = np.linalg.svd(np.sqrt(counts)[:, None] / ufm.N * residual, compute_uv=False)[0]
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    assert (found.kind, found.rank) == ("strict_saddle", rank)
    assert found.lowest_eigenvalue == pytest.approx(mean - np.hypot(half, s), rel=1e-10)
    assert found.certificate.spectral_norm == pytest.approx(s, rel=1e-11)
    image, v = ufm.hvp(p, found.direction), found.direction
    weights = (1, counts[:, None], 1)
    for part, Hv, w in zip(v, image, weights, strict=True):
        assert Hv == pytest.approx(w * found.lowest_eigenvalue * part, abs=1e-8 * abs(found.lowest_eigenvalue))
    least = uf.global_minimum(ufm).certificate.loss
    assert found.certificate.lower_bound <= least
    assert found.certificate.loss == pytest.approx(ufm.loss(p), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("collapse", [True, False])
def test_the_cheap_certificate_is_taken_only_where_the_full_one_could_not_decide(loss, bias, collapse):
    ufm = uf.UFM(4, 4, [6, 3, 2, 1], loss=loss, lambda_W=5e-3, lambda_H=2e-3, collapse=collapse, **bias)
    p = as_point(global_minimum(Oracle.of(ufm))[0])
    rng = np.random.default_rng(0)
    for size in 10.0 ** np.arange(-8, 1):
        b = p.b + size * rng.standard_normal(4) if ufm.bias else p.b
        moved = uf.Point(*(x + size * rng.standard_normal(x.shape) for x in p[:2]), b)
        full = uf.certify(ufm, moved)
        for tol in (1e-12, 1e-8, 1e-4, 1e-1):
            found = uf.classify(ufm, moved, certificate_tol=tol)
            assert found.certificate.is_global(tol) == full.is_global(tol)
            assert found.certificate.lower_bound <= full.lower_bound * (1 + 1e-12)
            assert found.certificate.spectral_norm == pytest.approx(full.spectral_norm, rel=1e-12)


@pytest.mark.parametrize("d", [5, 9])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize(
    ("rank_W", "rank_H", "rank"),
    [(0, 0, 0), (2, 2, 2), (2, 0, 2), (0, 2, 2), (1, 3, 3), (3, 1, 3), (4, 4, 4), (5, 5, 5)],
)
def test_rank(d, scale, rank_W, rank_H, rank):
    """Factors with nested row spaces; the smallest singular value that counts is 1e-4 of the largest."""
    ufm = uf.UFM(5, d, [6, 3, 2, 1, 1], loss="mse", lambda_W=5e-3, lambda_H=2e-3, lambda_b=1e-2)
    rng = np.random.default_rng(0)
    Q, U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (d, 5, 5))

    def factor(left, rank):
        return scale * (left[:, :rank] * np.geomspace(1, 1e-4, rank)) @ Q[:rank]

    p = uf.Point(factor(U, rank_W), factor(V, rank_H), np.zeros(5))
    found = uf.classify(ufm, p)
    floor = (ufm.N / ufm.K) ** 0.25
    assert found.rank == (rank if scale * 1e-4 > 1e-6 * floor else 0)
    if scale == 1:
        check(ufm, p, found, found.kind)


def test_rank_of_factors_that_only_look_balanced():
    """Equal norms, one row space inside the other, or complements."""
    ufm = uf.UFM(4, 5, 3, lambda_W=1e-2, lambda_H=1e-2 / 3, lambda_b=1e-2)
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    for A, B, rank in [
        (np.eye(4, 5) * [2, 0, 0, 0, 0], np.eye(4, 5) * [0, 2, 0, 0, 0], 2),
        (np.eye(4, 5) * [2, 0, 0, 0, 0], np.eye(4, 5) * [math.sqrt(2), math.sqrt(2), 0, 0, 0], 2),
        (np.eye(4, 5) * [1, 1, 0, 0, 0], np.eye(4, 5) * [1, 1, 1e-3, 0, 0], 3),
        (np.eye(4, 5) * [1, 1, 0, 0, 0], np.eye(4, 5) * [1, 1, 1e-9, 0, 0], 2),
    ]:
        p = uf.Point(rho * A, B / (rho * math.sqrt(3)), np.zeros(4))
        found = uf.classify(ufm, p)
        assert found.rank == rank
        check(ufm, p, found, "not_critical")
        assert not math.isnan(found.lowest_eigenvalue)


@pytest.mark.parametrize("collapse", [True, False])
def test_overflow(collapse):
    ufm = uf.UFM(3, 4, 2, lambda_W=1e-2, lambda_H=1e-2, collapse=collapse)
    with pytest.raises(FloatingPointError, match="overflows"):
        uf.classify(ufm, ufm.random_point(0, 1e170))


def test_tolerances():
    ufm = uf.UFM(3, 3, 2, lambda_W=1e-2, lambda_H=1e-2)
    p = ufm.random_point(0)
    with pytest.raises(ValueError, match="gradient_tol must be positive"):
        uf.classify(ufm, p, gradient_tol=0.0)
    with pytest.raises(ValueError, match="certificate_tol must be positive"):
        uf.classify(ufm, p, certificate_tol=math.nan)
    found = uf.classify(ufm, p)
    assert uf.classify(ufm, p, certificate_tol=2 * found.certificate.relative_gap).kind == "global_minimum"
    assert uf.classify(ufm, p, gradient_tol=2 * found.relative_gradient_norm).kind != "not_critical"
