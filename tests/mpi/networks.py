"""On some ranks: neural-collapse metrics of features that are spread over them."""

import numpy as np
from everywhere import raises, run
from mpi4py import MPI

import ufm_fast as uf
from ufm_fast.petsc import merged

COMM = MPI.COMM_WORLD
K, D, N = 5, 7, 400


def accumulators_merge():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, N)
    H, W = rng.standard_normal((K, D))[labels] + 0.3 * rng.standard_normal((N, D)), rng.standard_normal((K, D))
    mine = uf.NCAccumulator(K, D)
    if COMM.rank != 1:  # one rank has nothing
        share = np.arange(N) % COMM.size == COMM.rank
        share |= (np.arange(N) % COMM.size == 1) & (COMM.rank == 0)
        mine.update(H[share], labels[share])
    before = mine.counts.copy()
    whole = merged(mine)
    np.testing.assert_array_equal(mine.counts, before)
    found, expected = whole.result(W), uf.nc_metrics(W, H, labels)
    np.testing.assert_array_equal(found.counts, expected.counts)
    for name in ("nc1", "nc1_trace_ratio", "cdnv", "nc2_means", "nc3_product", "norm_ratio"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, err_msg=name)
    assert len(set(COMM.allgather(found.nc1))) == 1  # the same bits


def accumulators_that_do_not_fit_are_refused_everywhere():
    for error, words, wrong in (
        (TypeError, "accumulator must be an NCAccumulator", None),
        (ValueError, "", uf.NCAccumulator(K + 1, D)),
        (ValueError, "statistics", uf.NCAccumulator(K, D, statistics="traces")),
    ):
        if COMM.size == 1 and wrong is not None:
            continue
        mine = wrong if COMM.rank == COMM.size - 1 else uf.NCAccumulator(K, D)
        raises(error, words, lambda mine=mine: merged(mine))


run(accumulators_merge, accumulators_that_do_not_fit_are_refused_everywhere)
