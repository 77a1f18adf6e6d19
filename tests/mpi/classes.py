"""On some ranks: classes in parallel against one process."""

import numpy as np
from everywhere import raises, run
from mpi4py import MPI

import ufm_fast as uf
from ufm_fast.petsc import ClassParallel

COMM = MPI.COMM_WORLD
DECAYS = {"lambda_W": 2e-2, "lambda_H": 3e-3, "lambda_b": 0.05}
SMOOTHED = uf.CrossEntropy(label_smoothing=0.1)
MODELS = {
    "classes": uf.UFM(7, 4, [5, 1, 2, 7, 3, 1, 9], weights=np.arange(1, 8), **DECAYS),
    "smoothed": uf.UFM(8, 5, 3, loss=SMOOTHED, collapse=False, **DECAYS),
    "two classes": uf.UFM(2, 5, 3, **DECAYS),
    "no bias": uf.UFM(5, 3, 4, bias=False, lambda_W=0.02, lambda_H=0.003),
    "labels": uf.UFM(9, 6, [1, 2.5, 3, 4], targets=[8, 0, 0, 5], ridges=[1, 2, 3, 4], **DECAYS),
    "single precision": uf.UFM(30, 40, 5, loss=SMOOTHED, dtype="float32", collapse=False, **DECAYS),
    "many features": uf.UFM(300, 300, loss=SMOOTHED, **DECAYS),
    "threads": uf.UFM(200, 60, np.arange(1, 201), threads=2, **DECAYS),
}


def derivatives_are_those_of_one_process():
    for ufm in MODELS.values():
        rel, head = 1e-12 if ufm.dtype == np.float64 else 1e-4, ClassParallel(ufm)
        assert COMM.allreduce(len(head.classes)) == ufm.K
        for scale in (0.7, 3.0):
            p, v = ufm.random_point(1, scale), ufm.random_point(2, 0.5)
            value, gradient = ufm.loss_and_grad(p)
            found, mine = head.loss_and_grad(head.part(p))
            assert abs(found - value) <= rel * value
            assert abs(head.loss(head.part(p)) - value) <= rel * value
            for computed, whole in ((mine, gradient), (head.hvp(head.part(p), head.part(v)), ufm.hvp(p, v))):
                expected = head.part(whole)
                for a, b, all_ranks in zip(computed, expected, whole, strict=True):
                    assert (a.shape, a.dtype) == (b.shape, b.dtype)
                    assert np.abs(a - b).max(initial=0) <= rel * np.abs(all_ranks).max(initial=1e-300)


def confident_rows_keep_their_relative_accuracy():
    """Where the label's logit is 40 above the others, its residual is 4e-18 and not a rounding of one less one."""
    ufm = uf.UFM(6, 6, 2, lambda_W=1e-30, lambda_H=1e-30, bias=False)
    head, p = ClassParallel(ufm), uf.Point(40 * np.eye(6), np.eye(6), np.zeros(6))
    value, gradient = ufm.loss_and_grad(p)
    found, mine = head.loss_and_grad(head.part(p))
    assert abs(found - value) <= 1e-12 * value
    np.testing.assert_allclose(mine.W, head.part(gradient).W, rtol=1e-12)
    np.testing.assert_allclose(mine.H, head.part(gradient).H, rtol=1e-12)


def errors_are_raised_on_all_ranks():
    ufm, last = MODELS["classes"], COMM.size - 1
    head = ClassParallel(ufm)
    p = head.part(ufm.random_point(0))
    if COMM.rank == last:
        p.W[0, 1] = np.nan
    raises(ValueError, "W must be finite", lambda: head.loss_and_grad(p))
    if COMM.rank == last:
        p.W[0, 1] = 1e200
    raises(FloatingPointError, "overflow", lambda: head.loss_and_grad(p._replace(H=1e200 * p.H)))
    raises(FloatingPointError, "overflow", lambda: head.loss(p))
    raises(ValueError, "must have labels and cross-entropy", lambda: ClassParallel(uf.UFM(3, 3, loss="mse", **DECAYS)))
    soft = uf.UFM(2, 3, targets=[[0.5, 0.5]], **DECAYS)
    raises(ValueError, "targets that are no labels", lambda: ClassParallel(soft))
    raises(TypeError, "ufm must be a UFM", lambda: ClassParallel(3 if COMM.rank == last else ufm))


run(
    derivatives_are_those_of_one_process, confident_rows_keep_their_relative_accuracy, errors_are_raised_on_all_ranks,
)  # fmt: skip
