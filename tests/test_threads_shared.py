"""Objects that threads of Python share: the same results as one after the other, under a scheduler that never rests."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._runtime import blas

CALLERS = 8


@pytest.fixture(autouse=True)
def restless_scheduler():
    """Let threads take the interpreter's lock from each other at every chance, where there is such a lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work, callers=CALLERS):
    """Call work(0), work(1) and so on, in threads that begin at the same time; return their results."""
    barrier = threading.Barrier(callers)

    def begin(caller):
        barrier.wait()
        return work(caller)

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(begin, range(callers)))


def ends(work):
    """Whether work() ends, in a thread that is left alone if it does not."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def bits(found):
    """Return the bytes of numbers and arrays, which tuples and lists hold in any depth."""
    return tuple(map(bits, found)) if isinstance(found, (tuple, list)) else np.asarray(found).tobytes()


def labels_of(p):
    return np.arange(len(p.H)) % len(p.W)


MODELS = {
    "small": {"K": 6, "d": 6, "n": [9, 7, 5, 4, 2, 1], "lambda_b": 0.01},
    "large": {"K": 40, "d": 40, "n": [2] * 20 + [1] * 20, "collapse": False, "threads": 2},
}


def model(size):
    return uf.UFM(lambda_W=0.01, lambda_H=0.004, **MODELS[size])


CALLS = {
    "UFM.loss": lambda ufm, p: ufm.loss(p),
    "UFM.loss_and_grad": lambda ufm, p: ufm.loss_and_grad(p),
    "UFM.hvp": lambda ufm, p: ufm.hvp(p, p),
    "UFM.fun_and_grad": lambda ufm, p: ufm.fun_and_grad(ufm.pack(p)),
    "UFM.rows": lambda ufm, p: ufm.rows(0, 2).loss_and_grad(p._replace(H=p.H[:2])),
    "certify": lambda ufm, p: attrgetter("loss", "lower_bound", "spectral_norm")(uf.certify(ufm, p)),
    "classify": lambda ufm, p: attrgetter("gradient_norm", "rank")(uf.classify(ufm, p)),
    "lowest_eigenpairs": lambda ufm, p: attrgetter("eigenvalues", "vectors")(uf.lowest_eigenpairs(ufm, p, tol=0.01)),
    "minimize": lambda ufm, p: tuple(uf.minimize(ufm, p, tol=1e-2).point),
    "linear_cross_entropy": lambda ufm, p: uf.linear_cross_entropy(p.W, p.H, labels_of(p), p.b),
    "nc_metrics": lambda ufm, p: attrgetter("nc1", "nc4_agreement")(uf.nc_metrics(p.W, p.H, labels_of(p))),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("size", MODELS)
@pytest.mark.parametrize("name", CALLS)
def test_a_model(name, size):
    ufm, call = model(size), CALLS[name]
    alone = [bits(call(ufm, ufm.random_point(caller))) for caller in range(CALLERS)]
    assert together(lambda caller: bits(call(ufm, ufm.random_point(caller)))) == alone


@pytest.mark.parametrize("size", MODELS)
def test_operators(size):
    ufm = model(size)
    p = ufm.random_point(99)
    hessians = [ufm.hessian(p), ufm.hessian(p, memory=0), ufm.hessian(p, coordinates="samples")]
    for operator in (*hessians, ufm.rotations(p)):
        vectors = np.random.default_rng(0).standard_normal((CALLERS, ufm.size, 2))
        alone = [bits(operator @ V) for V in vectors]
        assert together(lambda caller, A=operator, V=vectors: bits(A @ V[caller])) == alone


def test_what_is_made_at_first_use():
    def solutions():
        return uf.global_minimum(uf.UFM(40, 40, [9] * 20 + [1] * 20, lambda_W=0.01, lambda_H=0.001))

    expected = bits(tuple(solutions().point))
    shared = solutions()
    assert set(together(lambda _: bits(tuple(shared.point)))) == {expected}


def batches(callers, count, rows=50, d=7):
    """Return features (callers, count, rows, d) and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (callers, count, rows))
    return rng.standard_normal((5, d))[labels] + 0.1 * rng.standard_normal((*labels.shape, d)), labels


def test_an_accumulator_that_all_update():
    rows, d = 3000, 64  # so that an update takes longer than a thread's turn at the interpreter
    H, labels = batches(CALLERS, 3, rows, d)
    W = np.random.default_rng(1).standard_normal((4, d))
    shared, alone = (uf.NCAccumulator(4, d, ignore_index=4) for _ in range(2))

    def work(caller):
        for batch in zip(H[caller], labels[caller], strict=True):
            shared.update(*batch)
            state = shared.state()
            assert (state["counts"].sum() + state["left_out"]) % rows == 0  # a batch is in there as a whole

    together(work)
    alone.update(H.reshape(-1, d), labels.reshape(-1))
    assert (shared.counts == alone.counts).all()
    assert shared.left_out == alone.left_out
    np.testing.assert_allclose(shared.class_means, alone.class_means, rtol=1e-12)
    assert shared.result(W).nc1 == pytest.approx(alone.result(W).nc1, rel=1e-11)


def test_accumulators_that_are_merged_into_each_other():
    H, labels = batches(4, 2)
    one, other = (uf.NCAccumulator(5, 7).update(H[i, 0], labels[i, 0]) for i in range(2))

    def work(caller):
        for _ in range(6):
            if caller % 2:
                one.merge(other)
            else:
                other.merge(one)

    assert ends(lambda: together(work, 4))
    assert one.result(None).counts.sum() > H.shape[2]


class Labels:
    """Labels that make use of the accumulator which reads them, as a signal's handler can."""

    def __init__(self, values, use):
        self.values, self.use = values, use

    def __array__(self, dtype=None, copy=None):
        self.use()
        return self.values


@pytest.mark.parametrize("use", ["state", "update", "merge", "counts"])
def test_no_thread_waits_for_itself_at_an_accumulator(use):
    H, labels = batches(1, 1)
    shared, other, errors = uf.NCAccumulator(5, 7), uf.NCAccumulator(5, 7), []
    uses = {
        "state": shared.state,
        "update": lambda: shared.update(H[0, 0], labels[0, 0]),
        "merge": lambda: other.merge(shared),
        "counts": lambda: shared.counts,
    }

    def handle():
        try:
            uses[use]()
        except RuntimeError as error:
            errors.append(str(error))

    assert ends(lambda: shared.update(H[0, 0], Labels(labels[0, 0], handle)))
    assert len(errors) == 1
    assert "at work in this thread" in errors[0]
    assert shared.counts.sum() == len(labels[0, 0])


def test_no_thread_waits_for_itself_while_blas_is_limited(monkeypatch):
    entered = []

    class Limit:
        def restore_original_limits(self):
            entered.append("restored")
            compute()

    class Controller:
        lib_controllers = ()

        def limit(self, limits):
            entered.append("limited")
            compute()
            return Limit()

    def compute():
        with blas.single_threaded_blas():
            pass

    monkeypatch.setattr(blas, "_controller", Controller())
    assert ends(compute)
    assert entered == ["limited", "restored"]
    assert blas._callers == 0


class Term:
    """A term that lets other threads go on while it is compared."""

    def __init__(self, label):
        self.label = label

    def __eq__(self, other):
        time.sleep(0)
        return self.label == other.label


def test_terms_that_torch_compiles(monkeypatch):
    pytest.importorskip("torch")
    from ufm_fast.torch import compiled

    monkeypatch.setattr(compiled, "_terms", {})
    found = together(lambda _: [compiled.number_of(Term, label) for label in range(20)])
    assert len(set(found[0])) == 20
    assert all(numbers == found[0] for numbers in found)


def test_threads_of_a_fresh_process(run_python):
    """Modules are imported, and BLAS is looked for, when they are first needed: here by all threads at once."""
    script = """
import sys, threading
import ufm_fast as uf
sys.setswitchinterval(1e-6)
found, barrier = [], threading.Barrier(8)
def work():
    barrier.wait()
    ufm = uf.UFM(30, 60, n=3, lambda_W=0.01, lambda_H=0.01, collapse=False)
    p = ufm.random_point()
    found.append((ufm.loss(p), uf.certify(ufm, p).lower_bound, uf.nc_metrics(p.W, p.H, sorted([*range(30)] * 3)).nc1))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""
    assert run_python(script) == "8 1\n"


def test_blas_is_found_before_any_product(run_python):
    """What a product in one thread relies on does not change under it."""
    script = """
import ufm_fast as uf
from ufm_fast._runtime import core
ufm = uf.UFM(200, 300, lambda_W=0.01, lambda_H=0.01)
def late(*_): raise AssertionError
core.set_dgemm = core.set_sgemm = core.set_dsyrk = core.set_ssyrk = late
print(ufm.loss(ufm.random_point()) > 0)
"""
    assert run_python(script) == "True\n"


def test_subinterpreters_are_told(run_python):
    script = """
import sys
try:
    import _interpreters as interpreters
    made = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    made = interpreters.create()
interpreters.run_string(made, f'''
import sys
sys.path[:] = {sys.path}
try:
    import ufm_fast
    ufm_fast.UFM
except ImportError as error:
    print(error, flush=True)
''')
"""
    said = run_python(script)
    if "numpy._core" in said:
        pytest.skip("this NumPy refuses to be imported before ufm_fast does")
    assert "main interpreter" in said
