"""Each public function that calls the core or LAPACK holds BLAS to one thread meanwhile."""

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._runtime import blas, core

COUNTS = [4, 3, 2, 2]
WITHOUT = {  # public functions that call neither
    "counts", "losses", "simplex_etf", "save_point", "load_point", "show_config", "set_num_threads", "get_num_threads",
    "get_include", "get_library_dir", "get_cmake_dir",
}  # fmt: skip
NO_ARITHMETIC = {
    "set_dgemm", "set_sgemm", "set_dsyrk", "set_ssyrk", "find_spec", "import_module", "empty64", "empty32",
}  # fmt: skip
LAPACK = ("svd", "eigh", "eigvalsh", "qr", "cholesky", "solve", "inv")


@pytest.fixture
def unlimited(monkeypatch):
    """Collect calls of the core and LAPACK that come while BLAS is not held to one thread, by name."""
    found = set()

    def watch(home, name):
        function = getattr(home, name)

        def watched(*args, **kwargs):
            if not blas._callers and not (
                args and type(args[-1]) is int and args[-1] == 1
            ):  # what takes microseconds runs on one thread
                found.add(name)
            return function(*args, **kwargs)

        monkeypatch.setattr(home, name, watched)

    for name, value in vars(core).copy().items():
        if callable(value) and not isinstance(value, type) and not name.startswith("_") and name not in NO_ARITHMETIC:
            watch(core, name)
    for kind in (core.Problem64, core.Problem32):
        for name in dir(kind):
            if not name.startswith("_"):
                watch(kind, name)
    for name in ("merge", "read", "update"):
        watch(core.ClassStatistics, name)
    for name in LAPACK:
        watch(np.linalg, name)
    return found


def models():
    options = {"lambda_W": 0.01, "lambda_H": 0.01, "lambda_b": 0.01}
    return [
        uf.UFM(4, 4, COUNTS, **options),
        uf.UFM(4, 4, COUNTS, collapse=False, **options),
        uf.UFM(4, 4, COUNTS, loss="mse", **options),
        uf.UFM(4, 4, 3, loss="mse", **options),
    ]


def sample():
    labels = np.repeat(np.arange(4), 3)
    return np.random.default_rng(0).standard_normal((12, 4)) + 3 * np.eye(4)[labels], labels


def of_thirty(n):
    labels = np.arange(n) % 30
    return np.eye(30)[labels], labels


def accumulated(merged):
    H, labels = sample()
    found = uf.NCAccumulator(4, 4).update(H, labels)
    if merged:
        found.merge(uf.NCAccumulator(4, 4).update(H, labels))
    return found.result(np.eye(4), batches=[H] * (1 + merged))


OF_MODELS = {
    "certify": lambda ufm, p: uf.certify(ufm, p),
    "classify": lambda ufm, p: uf.classify(ufm, p),
    "minimize": lambda ufm, p: uf.minimize(ufm),
    "minimize, fixed": lambda ufm, p: [uf.minimize(ufm, p, fixed=fixed) for fixed in "WH"],
    "global_minimum": lambda ufm, p: uf.global_minimum(ufm).point,
    "saddle": lambda ufm, p: uf.saddle(ufm, 1),
    "escape": lambda ufm, p: uf.escape(ufm, uf.saddle(ufm, 1)),
    "census": lambda ufm, p: uf.census([ufm], 3),
    "path": lambda ufm, p: uf.path(ufm, [0.01, 0.1]),
    "closed_form_spectrum": lambda ufm, p: uf.closed_form_spectrum(ufm),
    "lowest_eigenpairs": lambda ufm, p: uf.lowest_eigenpairs(ufm, p, 2),
    "spectrum": lambda ufm, p: uf.spectrum(ufm, p).count_below(0),
    "UFM.loss": lambda ufm, p: ufm.loss(p),
    "UFM.loss_and_grad": lambda ufm, p: ufm.loss_and_grad(p),
    "UFM.hvp": lambda ufm, p: ufm.hvp(p, p),
    "UFM.hessian": lambda ufm, p: ufm.hessian(p) @ ufm.pack(p),
    "UFM.hessian, columns": lambda ufm, p: ufm.hessian(p) @ np.stack([ufm.pack(p)] * 2, axis=1),
    "UFM.rotations": lambda ufm, p: ufm.rotations(p),
    "UFM.rows": lambda ufm, p: ufm.rows(0, ufm.M).loss_and_grad(p),
    "UFM.fun": lambda ufm, p: ufm.fun(ufm.pack(p)),
    "UFM.fun_and_grad": lambda ufm, p: ufm.fun_and_grad(ufm.pack(p)),
    "UFM.hessp": lambda ufm, p: ufm.hessp(ufm.pack(p), ufm.pack(p)),
}
OF_NETWORKS = {
    "nc_metrics": lambda: uf.nc_metrics(np.eye(4), *sample()),
    "nrc_metrics": lambda: uf.nrc_metrics(np.eye(4), sample()[0], sample()[0] ** 2),
    "onc_metrics": lambda: uf.onc_metrics(np.ones(4), *sample(), [-1, 0, 1]),
    "multilabel_angles": lambda: uf.multilabel_angles(sample()[0], np.eye(4)[sample()[1]]),
    "NCAccumulator": lambda: accumulated(merged=True),
    "inspect": lambda: uf.inspect(np.eye(4), *sample(), lambda_W=0.01, lambda_H=0.01),
    "linear_cross_entropy": lambda: [uf.linear_cross_entropy(np.eye(30), *of_thirty(n)) for n in (2, 300)],
    "linear_cross_entropy_hvp": lambda: [
        uf.linear_cross_entropy_hvp(np.eye(30), *of_thirty(n), (np.eye(30), of_thirty(n)[0], None)) for n in (2, 300)
    ],
}


def test_every_public_function_is_here():
    functions = {name for name in uf.__all__ if not isinstance(getattr(uf, name), type)}
    assert functions - WITHOUT == {name for name in {**OF_MODELS, **OF_NETWORKS} if name in functions}


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize("call", OF_MODELS.values(), ids=OF_MODELS)
def test_of_models(call, unlimited):
    for ufm in models():
        call(ufm, ufm.random_point(0))
    assert not unlimited


@pytest.mark.parametrize("name", [name for name in OF_MODELS if name.startswith("UFM.")])
def test_of_models_too_large_for_one_thread(name, unlimited):
    ufm = uf.UFM(200, 100, lambda_W=0.01, lambda_H=0.01)
    assert not ufm._inline
    OF_MODELS[name](ufm, ufm.random_point(0))
    assert not unlimited


@pytest.mark.parametrize("call", OF_NETWORKS.values(), ids=OF_NETWORKS)
def test_of_networks(call, unlimited):
    call()
    assert not unlimited


@pytest.mark.parametrize("when", [1, 2, 3])
def test_an_interruption_while_the_limit_is_set_or_lifted_leaves_no_caller(when, monkeypatch):
    """Later calls would take it for one that holds BLAS."""
    calls = []

    def interrupted():
        calls.append(None)
        if len(calls) == when:
            raise KeyboardInterrupt

    monkeypatch.setattr(blas, "_open_limits_to_all_threads", interrupted)
    with pytest.raises(KeyboardInterrupt), blas.single_threaded_blas():
        pass
    assert len(calls) == when
    assert blas._callers == 0
