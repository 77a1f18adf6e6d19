"""The same numbers give the same bits, wherever their arrays lie in memory."""

import numpy as np
import pytest
import scipy.sparse

import ufm_fast as uf

K, d, N = 10, 7, 40
RNG = np.random.default_rng(0)
SOFT = RNG.dirichlet(np.full(K, 0.3), N)
LABELS = RNG.integers(0, K, N)
CASES = {
    "labels": ("cross_entropy", LABELS),
    "smoothed labels": (uf.CrossEntropy(0.1), LABELS),
    "soft targets": ("cross_entropy", SOFT),
    "smoothed soft targets": (uf.CrossEntropy(0.1), SOFT),
    "sparse targets": ("cross_entropy", scipy.sparse.csr_array(SOFT)),
    "scaled": (uf.CrossEntropy(scale=np.linspace(1, 2, K), shift=np.linspace(-1, 1, K)), SOFT),
    "focal": (uf.Focal(2.0), LABELS),
    "squared error": ("mse", SOFT),
    "binary": ("bce", SOFT),
}


def at(array, offset):
    """The same numbers, so many of them behind the beginning of a page."""
    room = np.zeros(array.size + 4096 // array.itemsize * 2, array.dtype)
    begin = -(room.ctypes.data // array.itemsize) % (4096 // array.itemsize) + offset
    place = room[begin : begin + array.size].reshape(array.shape)
    place[...] = array
    return place


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name, dtype):
    loss, targets = CASES[name]
    W, H, b = (RNG.standard_normal(shape).astype(dtype) for shape in ((K, d), (N, d), (K,)))
    found = set()
    for offset in range(17):
        parts = [at(array, offset) for array in (W, H, b)]
        out = tuple(at(0 * array, (3 * offset) % 16) for array in (W, H, b))
        value, gradient = uf.linear_cross_entropy(parts[0], parts[1], targets, parts[2], loss=loss, out=out)
        product = uf.linear_cross_entropy_hvp(*parts[:2], targets, (*parts[:2], parts[2]), parts[2], loss=loss)
        found.add((value, *(array.tobytes() for array in (*gradient, *product))))
    assert len(found) == 1


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize("targets", [SOFT, LABELS], ids=["soft", "labels"])
def test_runs(targets):
    """Memory in between moves what comes later."""
    ufm = uf.UFM(K, K, targets=targets, lambda_W=1e-2, lambda_H=1e-2, threads=1)
    ends, kept = set(), []
    for size in range(8):
        kept.append(np.zeros(size + 1))
        ends.add(uf.minimize(ufm, ufm.random_point(0), max_evaluations=12).x.tobytes())
    assert len(ends) == 1
