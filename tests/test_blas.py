"""BLAS is held to one thread in every public function that multiplies or factorises matrices."""

import numpy as np
import pytest
import scipy.linalg

import ufm_fast as uf
from ufm_fast._runtime import blas, core

IN_THE_CORE = ["matrix_product", "gram", "leading_eigenpairs", "hessian_eigenpairs", "gradient_eigenpairs",
               "hessian_lanczos", "pair_metric", "dual_sums", "curvature_sums"]  # fmt: skip
OF_NUMPY = ["svd", "eigh", "eigvalsh", "qr", "inv", "solve"]


@pytest.fixture
def guarded(monkeypatch):
    """The names of what was called, each while BLAS was held to one thread."""
    called = set()

    def guard(owner, name):
        original = getattr(owner, name)

        def checked(*arguments, **options):
            assert blas._callers > 0, name
            called.add(name)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, checked)

    for name in IN_THE_CORE:
        guard(core, name)
    for name in OF_NUMPY:
        guard(np.linalg, name)
    guard(scipy.linalg, "solve")
    return called


CALLS = {
    "certify": lambda ufm, p: uf.certify(ufm, p),
    "classify": lambda ufm, p: uf.classify(ufm, p),
    "minimize": lambda ufm, p: uf.minimize(ufm),
    "minimize from a point": lambda ufm, p: uf.minimize(ufm, p),
    "global_minimum": lambda ufm, p: uf.global_minimum(ufm).point,
    "saddle": lambda ufm, p: uf.saddle(ufm, 2),
    "lowest_eigenpairs": lambda ufm, p: uf.lowest_eigenpairs(ufm, p),
    "spectrum": lambda ufm, p: uf.spectrum(ufm, p, steps=5, probes=1),
    "nc_metrics": lambda ufm, p: uf.nc_metrics(*features()),
    "inspect": lambda ufm, p: uf.inspect(*features()),
}


def features():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 5
    W = rng.standard_normal((5, 6))
    return W, W[labels] + 0.1 * rng.standard_normal((40, 6)), labels


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_public_function_holds_blas(guarded, call, loss):
    ufm = uf.UFM(5, 6, [5, 4, 3, 2, 1], loss=loss, lambda_W=1e-2, lambda_H=1e-2, lambda_b=0.1)
    call(ufm, ufm.random_point())
    assert guarded
    assert blas._callers == 0
