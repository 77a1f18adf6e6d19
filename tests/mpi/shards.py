"""On some ranks: loss, gradient and Hessian products against one process; conversions; errors; ranks without rows."""

import numpy as np
from everywhere import raises, run
from mpi4py import MPI
from petsc4py import PETSc

import ufm_fast as uf
from ufm_fast.petsc import Shard

COMM = MPI.COMM_WORLD
DECAYS = {"lambda_W": 2e-2, "lambda_H": 3e-3, "lambda_b": 0.05}
SOFT = np.random.default_rng(1).dirichlet(np.ones(5), 11)
MODELS = {
    "classes": uf.UFM(7, 4, [5, 1, 2, 7, 3, 1, 9], **DECAYS),
    "samples": uf.UFM(5, 3, [5, 1, 2, 4, 3], weights=[1, 2, 3, 1, 2], loss="mse", collapse=False, **DECAYS),
    "no bias": uf.UFM(5, 3, 4, loss="bce", bias=False, lambda_W=0.02, lambda_H=0.003),
    "soft": uf.UFM(5, 6, np.linspace(0.5, 3, 11), targets=SOFT, ridges=np.arange(1, 12), **DECAYS),
    "learned thresholds": uf.UFM(5, 3, 4, loss=uf.Ordinal(), **DECAYS),
    "single precision": uf.UFM(7, 4, [5, 1, 2, 7, 3, 1, 9], dtype="float32", **DECAYS),
    "two rows": uf.UFM(4, 3, targets=[2, 0], **DECAYS),
    "threads": uf.UFM(200, 60, np.arange(1, 201), threads=2, **DECAYS),
}


def close(found, expected, rel):
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        assert np.abs(mine - theirs).max() <= rel * np.abs(theirs).max(initial=1e-300)


def derivatives_are_those_of_one_process():
    for ufm in MODELS.values():
        rel = 1e-12 if ufm.dtype == np.float64 else 1e-5
        shard, p, v = Shard(ufm), ufm.random_point(1, 0.7), ufm.random_point(2, 0.5)
        assert COMM.allreduce(len(shard.rows)) == ufm.M
        assert COMM.allreduce(shard.local_size) == shard.size == ufm.size
        x, y = shard.scatter(p, root=None), shard.scatter(v if COMM.rank == 0 else None)
        value, gradient = ufm.loss_and_grad(p)
        found, g = shard.fun_and_grad(x)
        assert abs(found - value) <= rel * value
        assert abs(shard.fun(x) - value) <= rel * value
        close(shard.gather(g, None), gradient, rel)
        product = ufm.hvp(p, v)
        close(shard.gather(shard.hvp(x, y), None), product, rel)
        out, hessian = shard.vector(), shard.hessian(x)
        hessian.mult(y, out)
        close(shard.gather(out, None), product, rel)
        hessian.shift(0.5)
        hessian.mult(y, out)
        close(shard.gather(out, None), [a + ufm.dtype.type(0.5) * b for a, b in zip(product, v, strict=True)], 2 * rel)
        assert (shard.evaluations, shard.products) == (2, 3)


def full_sample_coordinates():
    ufm = MODELS["classes"]
    shard, p, v = Shard(ufm), ufm.random_point(1, 0.7), ufm.random_point(2, 0.5)
    out = shard.vector()
    shard.hessian(shard.scatter(p, None), coordinates="samples").mult(shard.scatter(v, None), out)
    expected = ufm.unpack(ufm.hessian(p, coordinates="samples") @ ufm.pack(v))
    close(shard.gather(out, None), expected, 1e-12)
    close(shard.gather(shard.metric(), None), ufm.unpack(ufm.metric), 0)


def conversions():
    for ufm in MODELS.values():
        shard, p = Shard(ufm, PETSc.COMM_WORLD), ufm.random_point(3)
        last = COMM.size - 1
        for root in (0, last, None):
            x = shard.scatter(p if root in (None, COMM.rank) else None, root)
            close(shard.gather(x, None), p, 0)
            back = shard.gather(x, last)
            assert (back is None) == (COMM.rank != last)
        part = shard.local(x)
        np.testing.assert_array_equal(part.H, p.H[shard.rows.start : shard.rows.stop])
        np.testing.assert_array_equal(part.W, p.W[shard.classes.start : shard.classes.stop])
        part.H[...] *= 2
        del part
        close(shard.gather(x, None), p._replace(H=2 * p.H), 0)


def ranks_of_a_part_of_the_job():
    ufm = MODELS["classes"]
    part = COMM.Split(COMM.rank % 2)
    for comm in (part, MPI.COMM_SELF):
        shard = Shard(ufm, comm)
        value, gradient = shard.fun_and_grad(shard.scatter(ufm.random_point(COMM.rank % 2), None))
        expected = ufm.loss_and_grad(ufm.random_point(COMM.rank % 2))
        assert abs(value - expected[0]) <= 1e-12 * expected[0]
        close(shard.gather(gradient, None), expected[1], 1e-12)
    part.Free()


def errors_are_raised_on_all_ranks():
    ufm, last = MODELS["classes"], COMM.size - 1
    shard, p = Shard(ufm), ufm.random_point(0)
    x = shard.scatter(p, None)
    if COMM.rank == last:
        shard.local(x).H[-1, 1] = np.nan
    raises(ValueError, "H must be finite", lambda: shard.fun_and_grad(x))
    raises(ValueError, "H must be finite", lambda: shard.hvp(x, shard.scatter(p, None)))
    if COMM.rank == last:
        shard.local(x).H[-1, 1] = 1e200
    raises(FloatingPointError, "overflows", lambda: shard.fun_and_grad(x))
    value, gradient = shard.fun_and_grad(x, overflow="inf")
    assert value == shard.fun(x, overflow="inf") == np.inf
    assert gradient.norm() == 0
    wrong = p._replace(W=p.W[:-1])
    raises(ValueError, "W must have shape", lambda: shard.scatter(wrong if COMM.rank == 0 else None))
    raises(TypeError, "p must be a Point on the rank", lambda: shard.scatter(p if COMM.rank else None))
    raises(ValueError, "root must be between", lambda: shard.scatter(p, COMM.size))
    short = PETSc.Vec().createMPI(ufm.size + COMM.rank % 2 + 1)
    raises(ValueError, "a vector of this shard must have", lambda: shard.fun(short))
    raises(TypeError, "must be a PETSc.Vec", lambda: shard.fun(x if COMM.rank else p))
    raises(TypeError, "ufm must be a UFM", lambda: Shard(ufm if COMM.rank else "model"))
    raises(TypeError, "comm must be a communicator", lambda: Shard(ufm, 3))
    raises(TypeError, "must be a PETSc.Vec", lambda: shard.hessian(p if COMM.rank == last else x))
    other = uf.UFM(7, 4, 3, **DECAYS)
    if COMM.size > 1:
        raises(ValueError, "the same model on every rank", lambda: Shard(ufm if COMM.rank else other))


run(
    derivatives_are_those_of_one_process, full_sample_coordinates, conversions, ranks_of_a_part_of_the_job,
    errors_are_raised_on_all_ranks,
)  # fmt: skip
