"""What minimize tells of a run: history, callback, counts; and what it refuses."""

import math

import numpy as np
import pytest

import ufm_fast as uf
from oracle import Oracle
from reference import LONG_TAIL, long_tail

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-4}, {"lambda_b": 1.0}, {"bias": False}]
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


def zero_point(ufm):
    return uf.Point(np.zeros((ufm.K, ufm.d)), np.zeros((ufm.M, ufm.d)), np.zeros(ufm.K))


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("start", [None, "random", "zero"])
def test_history(start, bias):
    ufm = uf.UFM(5, 5, LONG_TAIL, lambda_W=3e-3, lambda_H=1e-4, **bias)
    x0 = {None: None, "random": ufm.random_point(0), "zero": zero_point(ufm)}[start]
    result = uf.minimize(ufm, x0)
    history = result.history
    names = {"seconds", "evaluations", "loss", "lower_bound", "gradient_norm", "escaped"}
    assert history.keys() == names
    assert {len(column) for column in history.values()} == {result.nit + 1}
    assert (np.diff(history["loss"]) <= 1e-14 * history["loss"][0]).all()
    assert (np.diff(history["lower_bound"]) >= 0).all()
    assert (np.diff(history["seconds"]) >= 0).all()
    assert (np.diff(history["evaluations"]) >= 1).all()
    assert history["evaluations"][-1] == result.nfev
    assert history["lower_bound"][-1] == result.certificate.lower_bound
    saddle = start == "zero" and ufm.lambda_b < 1  # b = 0 is not its best value there; a smaller decay leaves b free
    assert history["escaped"].sum() == result.escapes == saddle
    assert result.products >= 3 * result.nfev
    assert result.nhev == 0
    np.testing.assert_array_equal(result.x, ufm.pack(result.point))


def test_gradient_norm_is_that_of_all_samples():
    ufm, seen = long_tail(lambda_b=1.0), []
    uf.minimize(ufm, ufm.random_point(0), callback=lambda intermediate_result: seen.append(intermediate_result))
    full = Oracle.of(ufm).full()
    for state in seen[:: max(1, len(seen) // 7)]:
        p = ufm.expand(state.point)
        assert state.fun == pytest.approx(full.loss(*p), rel=1e-12)
        expected = np.linalg.norm(full.pack(*full.gradient(*p)))
        assert state.gradient_norm == pytest.approx(expected, rel=1e-7, abs=1e-14)


@pytest.mark.parametrize("d", [4, 5, 7, 40])
@pytest.mark.parametrize("start", [False, True])
def test_callback(d, start):
    ufm = long_tail(d=d)
    points, vectors = [], []
    x0 = ufm.random_point(1) if start else None
    result = uf.minimize(ufm, x0, callback=lambda intermediate_result: points.append(intermediate_result))
    uf.minimize(ufm, x0, callback=vectors.append)
    assert len(points) == len(vectors) == result.nit + 1
    assert [p.fun for p in points] == list(result.history["loss"])
    for p, x in zip(points, vectors, strict=True):
        np.testing.assert_array_equal(ufm.pack(p.point), x)
        assert ufm.loss(p.point) <= p.fun * (1 + 1e-12) or d == 4  # rank K - 1 truncates early points


def test_callback_stops():
    ufm = long_tail()

    def stop(intermediate_result):
        if intermediate_result.nfev >= 4:
            raise StopIteration

    with pytest.warns(uf.ConvergenceWarning, match="callback"):
        result = uf.minimize(ufm, ufm.random_point(0), callback=stop)
    assert (result.success, result.status, result.nfev) == (False, 3, 4)
    assert ufm.loss(result.point) == pytest.approx(result.fun, rel=1e-14)


@pytest.mark.parametrize("start", [None, "random", "zero"])
@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("missing", [0, 1])
def test_evaluations_run_out(missing, limit, start):
    counts = LONG_TAIL if start else np.arange(130, 0, -1)  # more counts than groups at the solver's own start
    ufm = long_tail(counts=counts, d=len(counts) - missing)
    x0 = {None: None, "random": ufm.random_point(0), "zero": zero_point(ufm)}[start]
    with pytest.warns(uf.ConvergenceWarning, match="evaluations"):
        result = uf.minimize(ufm, x0, max_evaluations=limit, tol=1e-12)
    assert (result.success, result.status) == (False, 1)
    assert result.nfev <= limit
    best = uf.minimize(long_tail(counts=counts, d=len(counts)), tol=1e-11).fun
    assert result.certificate.lower_bound <= best * (1 + 1e-13)
    assert best <= result.fun * (1 + 1e-11)


def test_same_input_same_result():
    ufm = long_tail(d=2)
    with pytest.warns(uf.ConvergenceWarning):
        first, again, other = (uf.minimize(ufm, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x, other.x)


def test_start_forms_and_errors():
    ufm = long_tail()
    p = ufm.random_point(0)
    before = [part.copy() for part in p]
    np.testing.assert_array_equal(uf.minimize(ufm, p).x, uf.minimize(ufm, ufm.pack(p)).x)
    for part, copy in zip(p, before, strict=True):
        np.testing.assert_array_equal(part, copy)
    with pytest.raises(ValueError, match="shape"):
        uf.minimize(ufm, np.zeros(3))
    with pytest.raises(ValueError, match="W must be finite"):
        uf.minimize(ufm, uf.Point(np.full((5, 5), np.nan), p.H, p.b))
    with pytest.raises(TypeError, match="W must be a float64 array"):
        uf.minimize(ufm, uf.Point(*(part.astype(np.float32) for part in p)))
    rounded = ufm.pack(p).astype(np.float32)
    np.testing.assert_array_equal(uf.minimize(ufm, rounded).x, uf.minimize(ufm, rounded.astype(float)).x)
    for tol in (0.0, -1.0, 1e-15, math.nan, 1.0):
        with pytest.raises(ValueError, match="tol must lie in"):
            uf.minimize(ufm, tol=tol)
    with pytest.raises(ValueError, match="max_evaluations must be at least 1"):
        uf.minimize(ufm, max_evaluations=0)


# -- parts, against dense linear algebra -----------------------------------------------------------------------------
