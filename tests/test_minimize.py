"""minimize against the oracle's minima, closed forms, exact saddles and dense linear algebra."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle
from reference import LONG_TAIL, global_minimum, long_tail
from ufm_fast._optimize.groups import GroupedProblem, near_minimum

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-4}, {"lambda_b": 1.0}, {"bias": False}]
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


def zero_point(ufm):
    return uf.Point(np.zeros((ufm.K, ufm.d)), np.zeros((ufm.M, ufm.d)), np.zeros(ufm.K))


def assert_certified(ufm, result, tol=1e-8):
    """The result is what it says, by the library's certificate and by the oracle's loss."""
    assert result.success, result.message
    assert result.status == 0
    assert result.certificate.relative_gap <= tol
    assert result.certificate.lower_bound <= result.fun
    loss = Oracle.of(ufm).loss(*(np.asarray(part, float) for part in result.point))
    assert result.fun == pytest.approx(loss, rel=1e-12, abs=1e-15)
    assert uf.certify(ufm, result.point).relative_gap <= 3 * tol


# -- the minimum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_reaches_the_oracles_minimum(loss, bias):
    ufm = uf.UFM(5, 5, LONG_TAIL, loss=loss, lambda_W=3e-3, lambda_H=1e-4, **bias)
    _, best = global_minimum(Oracle.of(ufm))
    for start in (None, ufm.random_point(1), zero_point(ufm)):
        result = uf.minimize(ufm, start, tol=1e-10)
        assert_certified(ufm, result, 1e-10)
        assert result.certificate.lower_bound <= best * (1 + 1e-13)
        assert result.fun == pytest.approx(best, rel=2e-10, abs=0)


@pytest.mark.parametrize(
    ("K", "n", "lambda_W", "lambda_H"), [(3, 1, 1e-2, 1e-2), (10, 4, 1e-3, 1e-4), (100, 7, 1e-4, 1e-5)]
)
def test_balanced_value(K, n, lambda_W, lambda_H):
    """f* = entropy of (t, ..., t, 1 - (K-1) t) with t = sqrt(n lambda_W lambda_H), in one evaluation."""
    t = math.sqrt(n * lambda_W * lambda_H)
    value = -(K - 1) * t * math.log(t) - (1 - (K - 1) * t) * math.log1p(-(K - 1) * t)
    for options in ({}, {"lambda_b": 0.1}, {"bias": False}):
        ufm = uf.UFM(K, K, n, lambda_W=lambda_W, lambda_H=lambda_H, **options)
        result = uf.minimize(ufm)
        assert result.fun == pytest.approx(value, rel=1e-12, abs=0)
        assert result.nfev == 1
        assert result.success


def test_hundred_distinct_counts():
    counts = np.round(np.geomspace(500, 5, 100)).astype(int)
    ufm = uf.UFM(100, 100, counts, lambda_W=5e-4, lambda_H=5e-4 / counts.mean(), lambda_b=1e-2)
    result = uf.minimize(ufm, tol=1e-7)
    assert_certified(ufm, result, 1e-7)
    assert result.nfev <= 3
    assert result.fun == pytest.approx(0.3574064183, rel=1e-7)


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("loss", LOSSES[:2], ids=str)
def test_own_start_is_the_minimum_for_few_counts_and_near_it_for_many(loss, bias):
    for counts, accuracy in ((LONG_TAIL, 1e-10), (np.arange(290, 20, -3), 1e-6)):
        ufm = uf.UFM(len(counts), len(counts), counts, loss=loss, lambda_W=1e-3, lambda_H=1e-4, **bias)
        grouped = GroupedProblem(ufm)
        A, B, b, cost = near_minimum(grouped, 1e-11)
        best = uf.minimize(ufm, tol=1e-11)
        b = grouped.problem.best_bias(B @ A.T, b)
        _, G, _ = grouped.problem.data_term(B @ A.T, b)
        assert ufm.loss(grouped.symmetric_point(A, B, b, G).point()) == pytest.approx(best.fun, rel=accuracy)
        np.testing.assert_allclose(A.T @ A, B.T @ B, atol=10 * accuracy**0.5 * abs(A.T @ A).max())  # balanced
        assert cost > 0


def test_own_start_with_classes_alone_in_their_group():
    """Large counts far apart: interpolation between them needs what such a class would have with one like it."""
    counts = np.r_[5000, 2000, 800, 300, 120, 40 + np.arange(60)]
    ufm = uf.UFM(65, 65, counts, lambda_W=2e-4, lambda_H=1e-6, lambda_b=1e-2)
    result = uf.minimize(ufm, tol=1e-7)
    assert_certified(ufm, result, 1e-7)
    assert result.history["loss"][0] == pytest.approx(result.fun, rel=1e-6)


def test_smoothing_with_tiny_decays_and_a_free_bias():
    """A curved valley between the bias and the common part of the features (it took 180 evaluations)."""
    ufm = uf.UFM(2, 2, [92, 7], loss=uf.CrossEntropy(0.1), lambda_W=2.7e-6, lambda_H=2.2e-7, lambda_b=0.0)
    result = uf.minimize(ufm, tol=1e-7)
    assert_certified(ufm, result, 1e-7)
    assert result.nfev <= 3


@pytest.mark.parametrize("ratio", [1e7, 1e8, 1e9])
@pytest.mark.parametrize("bias", [{"lambda_b": 0.0}, {"lambda_b": 1e-9}, {"lambda_b": 1e-2}, {"bias": False}], ids=str)
def test_own_start_is_the_minimum_where_counts_differ_by_orders_of_magnitude(ratio, bias):
    """With the count at which classes are given up next to the smallest ones, rows of all sizes count in the loss."""
    counts = np.round(3 * np.geomspace(1, ratio, 20)).astype(np.int64)
    tau = np.sqrt(4.5) / counts.sum()
    found = uf.minimize(uf.UFM(20, 20, counts, lambda_W=tau, lambda_H=tau, **bias))
    assert found.success
    assert found.nfev == 1


@pytest.mark.parametrize("lambda_b", [1e-20, 1e-12, 1e-7, 1e-3])
def test_own_start_with_smoothing_and_tiny_decays_of_all_kinds(lambda_b):
    """The start shares a bias between b and the features as the decays do, not only where that of b is zero."""
    loss = uf.CrossEntropy(label_smoothing=0.1)
    counts = np.round(np.geomspace(1, 1000, 8)).astype(int)
    found = uf.minimize(uf.UFM(8, 8, counts, loss=loss, lambda_W=3e-5, lambda_H=8e-8, lambda_b=lambda_b))
    assert found.success
    assert found.nfev == 1


@pytest.mark.parametrize("tau", [2e-9, 2e-8, 1e-5])
@pytest.mark.parametrize("lambda_b", [1e-14, 1e-8, 9e-8, 1e-5, 1e-2])
def test_squared_error_begins_at_its_minimum_with_any_decay_of_the_bias(tau, lambda_b):
    counts = np.round(np.geomspace(1, 500, 8)).astype(int)
    found = uf.minimize(uf.UFM(8, 8, counts, loss="mse", lambda_W=tau, lambda_H=tau, lambda_b=lambda_b))
    assert found.success
    assert found.nfev == 1


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_zero_is_found_where_it_is_optimal(loss):
    ufm = uf.UFM(4, 4, [9, 5, 2, 1], loss=loss, lambda_W=1.0, lambda_H=1.0, lambda_b=1e-2)
    for start in (None, ufm.random_point(0)):
        result = uf.minimize(ufm, start, tol=1e-8)
        assert_certified(ufm, result)
        assert result.fun == pytest.approx(global_minimum(Oracle.of(ufm))[1], rel=1e-8, abs=0)


@st.composite
def models(draw):
    K = draw(st.integers(2, 12))
    law = draw(st.sampled_from(["equal", "geometric", "two", "giant", "random"]))
    samples = {
        "equal": np.full(K, 7),
        "geometric": np.geomspace(500, 5, K),
        "two": np.where(np.arange(K) % 2, 10, 300),
        "giant": np.r_[10_000, np.full(K - 1, 5)],
        "random": draw(st.lists(st.integers(1, 1000), min_size=K, max_size=K)),
    }[law]
    loss, bias = draw(st.sampled_from(LOSSES)), draw(st.sampled_from(BIASES))
    widths = [K, K + 2, 4 * K] if loss.name == "mse" and bias != {"lambda_b": 0.0} else [max(1, K - 1), K, 4 * K]
    lambda_W = 10.0 ** draw(st.floats(-6, -2))
    lambda_H = lambda_W / np.mean(samples) * 10.0 ** draw(st.floats(-1, 1))
    options = {"loss": loss, "lambda_W": lambda_W, "lambda_H": lambda_H, **bias}
    return uf.UFM(K, draw(st.sampled_from(widths)), np.round(samples).astype(int), **options)


@settings(max_examples=60)
@given(models(), st.sampled_from(["none", "random", "small", "zero"]))
def test_always_certified(ufm, start):
    scale = {"none": None, "random": 1.0, "small": 1e-4, "zero": 0.0}[start]
    x0 = None if scale is None else uf.Point(*(scale * part for part in ufm.random_point(5)))
    assert_certified(ufm, uf.minimize(ufm, x0, tol=1e-7), 1e-7)


# -- saddles ---------------------------------------------------------------------------------------------------------


def merged_classes(ufm, groups):
    """Balanced cross-entropy: the optimum with the classes merged into equal groups, a saddle of rank groups - 1."""
    K, d, n, size = ufm.K, ufm.d, int(ufm.counts[0]), ufm.K // groups
    t = math.sqrt(n) * ufm.tau
    s = math.log(1 / (size * t) - groups + 1)
    member = np.kron(np.eye(groups) - 1 / groups, np.ones((size, 1))) / math.sqrt(size)
    basis = np.linalg.svd(member)[0][:, : groups - 1] * math.sqrt(s * size * math.sqrt(n))
    turn = np.linalg.qr(np.random.default_rng(groups).standard_normal((d, d)))[0][: groups - 1]
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    return uf.Point(rho * basis @ turn, basis @ turn / (rho * math.sqrt(n)), np.zeros(K))


def projector(ufm, rank):
    """Balanced squared error, free bias: W H = (1 - K t) times a random projector of this rank, a saddle."""
    K, n = ufm.K, int(ufm.counts[0])
    rng = np.random.default_rng(rank)
    centred = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1]
    basis = centred @ np.linalg.qr(rng.standard_normal((K - 1, rank)))[0]
    factor = basis * math.sqrt(math.sqrt(n) * (1 - K * math.sqrt(n) * ufm.tau))
    padded = np.hstack([factor, np.zeros((K, ufm.d - rank))]) @ np.linalg.qr(rng.standard_normal((ufm.d, ufm.d)))[0]
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    return uf.Point(rho * padded, padded / (rho * math.sqrt(n)), np.full(K, 1 / K))


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize(
    ("loss", "saddle", "index"),
    [("cross_entropy", merged_classes, groups) for groups in (1, 2, 3, 4, 6)] + [("mse", projector, 5)],
)
def test_leaves_saddles(loss, saddle, index, noise):
    ufm = uf.UFM(12, 12, 3, loss=loss, lambda_W=1e-3, lambda_H=1e-3)
    p = saddle(ufm, index)
    gradient = Oracle.of(ufm).gradient(*p)
    assert max(np.abs(part).max() for part in gradient) < 1e-14
    rng = np.random.default_rng(1)
    start = uf.Point(*(part + noise * rng.standard_normal(part.shape) for part in p))
    result = uf.minimize(ufm, start)
    assert_certified(ufm, result)
    assert result.escapes >= 1
    assert result.history["loss"][0] == pytest.approx(ufm.loss(p), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_leaves_saddles_of_a_long_tail(loss, rank):
    """A minimum with d = rank, embedded, is a saddle."""
    ufm, narrow = long_tail(loss), long_tail(loss, d=max(rank, 1))
    p = zero_point(narrow)
    if rank:
        with pytest.warns(uf.ConvergenceWarning):
            p = uf.minimize(narrow, tol=1e-12).point
    turn = np.linalg.qr(np.random.default_rng(rank).standard_normal((5, 5)))[0][: narrow.d]
    result = uf.minimize(ufm, uf.Point(p.W @ turn, p.H @ turn, p.b))
    assert_certified(ufm, result)
    assert result.escapes >= 1


def test_opposite_vectors_of_large_classes_do_not_stop_a_descent():
    """At this saddle pairs of classes share a feature with opposite signs, which costs little loss: hard to leave."""
    counts = np.round(np.geomspace(500, 5, 60)).astype(int)
    ufm = uf.UFM(60, 60, counts, lambda_W=2e-4, lambda_H=2e-4 / counts.mean(), lambda_b=1e-2)
    result = uf.minimize(ufm, uf.saddle(ufm, 30), tol=1e-6)
    assert_certified(ufm, result, 1e-6)
    assert result.products < 1000  # with escapes in proportion to |G|_2 - tau they were 2900


@pytest.mark.parametrize("loss", [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()], ids=str)
@pytest.mark.parametrize("d", [60, 120])
def test_random_starts_of_wide_models_need_few_evaluations(loss, d):
    counts = np.round(np.geomspace(500, 5, 60)).astype(int)
    ufm = uf.UFM(60, d, counts, loss=loss, lambda_W=2e-4, lambda_H=2e-4 / counts.mean())
    result = uf.minimize(ufm, ufm.random_point(0))
    assert_certified(ufm, result)
    assert result.nfev <= 25  # without the first step in the scores 47 to 131
    assert result.escapes == 0


# -- widths, layouts, dtypes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_minimum_is_the_same_at_every_width(loss, start):
    values = []
    for d in (4, 5, 6, 40):
        ufm = long_tail(loss, d=d, lambda_b=0.0)
        result = uf.minimize(ufm, ufm.random_point(2) if start else None, tol=1e-10)
        assert_certified(ufm, result, 1e-10)
        assert result.point.W.shape == (5, d)
        values.append(result.fun)
    np.testing.assert_allclose(values, values[0], rtol=2e-10)


def test_squared_error_of_full_rank_needs_full_width():
    """Without a bias the optimum has rank K, so d = K - 1 has no certificate: said, not hidden."""
    with pytest.warns(uf.ConvergenceWarning, match="rank above d"):
        result = uf.minimize(long_tail("mse", d=4, bias=False))
    assert not result.success
    assert result.status == 2


@pytest.mark.parametrize("d", [1, 2, 3])
def test_narrow_models_end_at_stationary_points(d):
    ufm = long_tail(d=d)
    with pytest.warns(uf.ConvergenceWarning, match="not certified"):
        result = uf.minimize(ufm)
    assert not result.success
    assert result.status == 2
    best = global_minimum(Oracle.of(long_tail()))[1]
    assert result.certificate.lower_bound == pytest.approx(best, rel=1e-6)
    assert result.certificate.lower_bound <= best < result.fun
    gradient = Oracle.of(ufm).gradient(*result.point)
    assert max(np.abs(part).max() for part in gradient) < 1e-7


def test_narrow_model_that_holds_the_minimum_is_certified():
    """Strong decay: two of five classes carry signal, so a rank far below K - 1 suffices."""
    counts, options = [100, 90, 2, 2, 1], {"lambda_W": 0.05, "lambda_H": 0.02}
    wide = uf.minimize(long_tail(counts=counts, **options))
    rank = np.linalg.matrix_rank(wide.point.W, tol=1e-4)
    assert 1 <= rank <= 2
    narrow = long_tail(counts=counts, d=2, **options)
    assert_certified(narrow, uf.minimize(narrow))


@pytest.mark.parametrize("seed", range(3))
def test_saddle_of_full_rank_is_left(seed):
    """Squared error with a decayed bias at d = K - 1: no direction is empty at rank 9, nor is it a minimum there."""
    ufm = uf.UFM(10, 9, 100, loss="mse", lambda_W=5e-4, lambda_H=5e-6, lambda_b=1e-2)
    saddle = uf.saddle(ufm, 8, seed)
    with pytest.warns(uf.ConvergenceWarning, match="rank above d"):
        result = uf.minimize(ufm, saddle)
    assert result.escapes > 0
    assert result.fun == pytest.approx(
        uf.minimize(uf.UFM(10, 10, 100, loss="mse", lambda_W=5e-4, lambda_H=5e-6, lambda_b=1e-2)).fun, rel=0.05
    )
    assert uf.classify(ufm, result.point).kind == "local_minimum"


def test_random_restarts_keep_the_best():
    """A plane for ten classes has spurious minima, at the losses where single runs end.

    In which of them a later start ends can hang on the last bit: restarts know the bounds of the runs before.
    """
    ufm = uf.UFM(10, 2, 20, lambda_W=5e-3, lambda_H=5e-4, lambda_b=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        singles = [uf.minimize(ufm, ufm.random_point(seed)) for seed in range(7, 11)]
    with pytest.warns(uf.ConvergenceWarning, match="rank above d"):
        result = uf.minimize(ufm, seed=7, restarts=3)
    losses = [single.fun for single in singles]
    assert max(losses) > min(losses) * (1 + 1e-3)
    assert len(result.ends) == 4
    assert result.ends[0] == pytest.approx(losses[0], rel=1e-12)
    assert all(any(end == pytest.approx(loss, rel=1e-9) for loss in losses) for end in result.ends)
    assert result.fun == pytest.approx(min(result.ends), rel=1e-14)
    assert result.fun == pytest.approx(min(losses), rel=1e-9)
    assert result.fun == pytest.approx(ufm.loss(result.point), rel=1e-14)
    assert result.nfev > max(single.nfev for single in singles)
    assert uf.classify(ufm, result.point).kind == "local_minimum"
    with pytest.warns(uf.ConvergenceWarning, match="evaluations used"):
        few = uf.minimize(ufm, seed=7, restarts=3, max_evaluations=singles[0].nfev + 5)
    assert len(few.ends) == 2
    assert few.fun == pytest.approx(singles[0].fun, rel=1e-14)
    certified = uf.minimize(uf.UFM(10, 10, 20, lambda_W=5e-3, lambda_H=5e-4), restarts=3)
    assert certified.success
    assert len(certified.ends) == 1
    with pytest.raises(ValueError, match="restarts must be at least 0"):
        uf.minimize(ufm, restarts=-1)


def test_a_row_a_sample():
    ufm = long_tail(collapse=False)
    collapsed = long_tail()
    for start in (None, ufm.random_point(3)):
        result = uf.minimize(ufm, start)
        assert_certified(ufm, result)
        assert result.point.H.shape == (ufm.N, ufm.d)
        assert result.fun == pytest.approx(uf.minimize(collapsed).fun, rel=2e-8)
    start = ufm.random_point(3)
    assert uf.minimize(ufm, start).history["loss"][0] <= ufm.loss(start)


def test_float32():
    ufm, double = long_tail(dtype="float32"), long_tail()
    for start in (None, ufm.random_point(3)):
        result = uf.minimize(ufm, start)
        assert_certified(ufm, result)
        assert all(part.dtype == np.float32 for part in result.point)
        assert result.fun == pytest.approx(uf.minimize(double).fun, rel=2e-8)


# -- the record ------------------------------------------------------------------------------------------------------


def test_minima_below_rounding_are_reached():
    """Losses of 1e-18: steps are damped again and again, which must not overflow; two classes have a closed form."""
    counts = [9, 29861635784]
    ufm = uf.UFM(2, 3, counts, lambda_W=1.1636211180361084e-20, lambda_H=5.5749073302093955e-21)
    result = uf.minimize(ufm)
    with mpmath.workdps(45):
        n, N = [mpmath.mpf(each) for each in counts], sum(counts)
        c = mpmath.sqrt(mpmath.mpf(ufm.lambda_W) * mpmath.mpf(ufm.lambda_H) * n[0] * n[1] / (2 * N))
        misses = [c * N / each for each in n]
        entropies = [-q * mpmath.log(q) - (1 - q) * mpmath.log(1 - q) for q in misses]
        least = (n[0] * entropies[0] + n[1] * entropies[1]) / N
        assert least * (1 - mpmath.mpf(1e-8)) <= result.certificate.lower_bound <= least
        assert abs(result.fun / least - 1) < 1e-8
    assert result.success
