"""On some ranks: TAO ends at the certified optimum from everywhere; SLEPc finds what `uf.lowest_eigenpairs` does."""

import warnings

import numpy as np
from everywhere import raises, run
from mpi4py import MPI
from petsc4py import PETSc

import ufm_fast as uf
from ufm_fast.petsc import Shard, slepc_lowest, solve, tao_solve

COMM = MPI.COMM_WORLD
UFM = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
ZERO = uf.Point(np.zeros((6, 6)), np.zeros((6, 6)), np.zeros(6))
BEST = uf.global_minimum(UFM).value


def tao_ends_at_the_certified_optimum():
    shard = Shard(UFM)
    saddle = uf.saddle(UFM, 2)
    for method, start in (
        ("ntr", None), ("ntr", ZERO), ("ntr", saddle), ("lmvm", ZERO), ("bntr", saddle), ("nls", saddle),
    ):  # fmt: skip
        result = tao_solve(shard, start if COMM.rank == 0 else None, method=method)
        assert result.success, result.message
        assert result.message.startswith("global minimum: certified relative gap")
        assert abs(result.fun - BEST) <= 1e-8 * BEST
        assert result.escapes >= (start is not None)
        assert result.certificate.is_global(1e-8)
        assert (result.point is None) == (COMM.rank != 0)
        np.testing.assert_allclose(shard.fun(result.x), result.fun, rtol=1e-12)
        if COMM.rank == 0:
            np.testing.assert_allclose(UFM.loss(result.point), result.fun, rtol=1e-12)


def samples_are_certified_by_their_class_means():
    ufm = uf.UFM(5, 5, [9, 4, 3, 2, 2], collapse=False, lambda_W=5e-3, lambda_H=2e-3)
    classes = uf.UFM(5, 5, [9, 4, 3, 2, 2], lambda_W=5e-3, lambda_H=2e-3)
    best = uf.global_minimum(classes).value
    for start in (None, ufm.expand(uf.saddle(classes, 1))):
        result = tao_solve(ufm, start, method="bntr")
        assert result.success
        assert abs(result.fun - best) <= 1e-8 * best
        if COMM.rank == 0:
            assert abs(ufm.loss(result.point) - result.fun) <= 1e-12 * best
            assert abs(uf.certify(ufm, result.point).relative_gap) < 1e-8


def tao_says_where_it_stopped():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = tao_solve(UFM, ZERO, escapes=0)
    assert [each.category for each in caught] == [uf.ConvergenceWarning]  # on every rank
    assert (result.success, result.status, result.escapes) == (False, 1, 0)
    assert "not certified: all escapes used" in result.message
    x = Shard(UFM).scatter(ZERO, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        result = tao_solve(UFM, x, escapes=1, options={"tao_max_it": 3})
    assert result.nit <= 6
    assert x.norm() == 0  # the start is not changed
    focal = uf.UFM(3, 3, 5, loss=uf.Focal(1.0), lambda_W=1e-2, lambda_H=1e-2)
    result = tao_solve(focal, options={"tao_grtol": 1e-10})
    assert result.success
    assert result.certificate is None
    assert "no certificate" in result.message
    assert result.status == 2


def a_certificate_that_does_not_fit_into_memory_does_not_lose_the_point():
    def too_large(*_, **__):
        raise MemoryError("needs about 7 TiB")

    for name in ("certify", "escape"):
        original = getattr(solve, name)
        setattr(solve, name, too_large)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", uf.ConvergenceWarning)
                result = tao_solve(UFM, ZERO)
        finally:
            setattr(solve, name, original)
        assert (result.success, result.status) == (False, 2)
        assert "needs about 7 TiB" in result.message
        assert (result.certificate is None) == (name == "certify")
        assert np.isfinite(result.fun)


def refusals_come_on_all_ranks():
    broken = Shard(UFM).scatter(ZERO, None)
    Shard(UFM).local(broken).H[...] = np.nan
    if COMM.size > 1:
        mixed = broken if COMM.rank else ZERO
        raises(TypeError, "on all ranks or on none", lambda: tao_solve(UFM, mixed))
    for error, words, call in (
        (TypeError, "method must be a str", lambda: tao_solve(UFM, method=3)),
        (ValueError, "escapes must be at least 0", lambda: tao_solve(UFM, escapes=-1)),
        (ValueError, "comm must not be given", lambda: tao_solve(Shard(UFM), comm=COMM)),
        (ValueError, "tol", lambda: tao_solve(UFM, tol=2.0)),
        (PETSc.Error, "", lambda: tao_solve(UFM, method="nonsense")),
        (ValueError, "k must be between", lambda: slepc_lowest(UFM, ZERO, 0)),
        (TypeError, "p must be a Point", lambda: slepc_lowest(UFM, None)),
        (ValueError, "must be finite", lambda: tao_solve(UFM, broken)),
    ):
        raises(error, words, call)


def slepc_finds_the_lowest_pairs():
    shard = Shard(UFM)
    for p in (uf.saddle(UFM, 2), uf.minimize(UFM, tol=1e-12).point, UFM.random_point(0, 0.5), ZERO):
        for k in (1, 4):  # some are multiple
            expected = uf.lowest_eigenpairs(UFM, p, k)
            found = slepc_lowest(shard, p if COMM.rank == 0 else None, k)
            np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=0, atol=1e-12)
            assert found.deflated == expected.deflated
            vector = shard.gather(found.vectors[0], None)
            squares = np.sum(vector.W**2), UFM.counts @ np.sum(vector.H**2, axis=1), np.sum(vector.b**2)
            assert abs(sum(squares) - 1) < 1e-10
    value, kind = found.eigenvalues[0], uf.classify(UFM, ZERO)
    assert abs(value - kind.lowest_eigenvalue) < 1e-12
    assert 0 < found.products < shard.products


run(
    tao_ends_at_the_certified_optimum, samples_are_certified_by_their_class_means, tao_says_where_it_stopped,
    a_certificate_that_does_not_fit_into_memory_does_not_lose_the_point, refusals_come_on_all_ranks,
    slepc_finds_the_lowest_pairs,
)  # fmt: skip
