"""The shared library of C functions: equal to the Python package, and no wrong argument does harm."""

import ctypes
import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import c_library as c
import ufm_fast as uf
from ufm_fast._runtime import core

pytestmark = pytest.mark.skipif(not c.PATH.exists(), reason="the C library is part of installed packages only")

K, D = 7, 5
RNG = np.random.default_rng(0)
COUNTS = np.array([40.0, 30, 20, 10, 5, 2, 1])
DISTRIBUTIONS = RNG.dirichlet(np.ones(K), 11)
SPARSE = scipy.sparse.csr_array(np.where(DISTRIBUTIONS > 0.2, 1.0, 0.0))
WEIGHTS, RIDGES, SAMPLES = RNG.uniform(0.5, 2, (3, 11))
SCALE, SHIFT = RNG.uniform(0.5, 2, (2, K))


@pytest.fixture(scope="module")
def library():
    return c.load()


def set_rows(problem, targets, samples=None, weights=None, ridges=None):
    numbers = [None if x is None else np.ascontiguousarray(x, dtype=float) for x in (samples, weights, ridges)]
    if scipy.sparse.issparse(targets):
        parts = targets.indptr.astype(np.int64), targets.indices.astype(np.int64), targets.data
        problem.call("set_sparse_targets", targets.shape[0], *parts, *numbers)
    elif targets.ndim == 2:
        problem.call("set_targets", len(targets), np.ascontiguousarray(targets), *numbers)
    else:
        problem.call("set_labels", len(targets), targets.astype(np.int64), *numbers)


LABELS = np.array([3, 0, 0, 6, 2, 2, 1, 5, 4, 6, 0])
# loss, its parameters, the loss of the Python package, targets
CASES = {
    "cross-entropy": ("cross_entropy", {}, uf.CrossEntropy(), LABELS),
    "smoothed": ("cross_entropy", {"label_smoothing": 0.1}, uf.CrossEntropy(0.1), DISTRIBUTIONS),
    "affine": ("cross_entropy", {"scale": SCALE, "shift": SHIFT}, uf.CrossEntropy(scale=SCALE, shift=SHIFT), LABELS),
    "mse": ("mse", {}, uf.MSE(), RNG.normal(size=(11, K))),
    "bce": ("bce", {"label_smoothing": 0.05}, uf.BinaryCrossEntropy(0.05), SPARSE),
    "focal": ("focal", {"gamma": 2.0}, uf.Focal(2.0), LABELS),
    "given thresholds": (
        "ordinal",
        {"link": "probit", "thresholds": np.arange(6.0)},
        uf.Ordinal(np.arange(6.0), link="probit"),
        LABELS,
    ),
}


def make(library, case, dtype="float64", bias=True):
    """The same model in C and in Python."""
    name, parameters, loss, targets = CASES[case]
    problem = c.Problem(library, name, K, D, dtype)
    for key, value in parameters.items():
        if isinstance(value, str):
            problem.call("set_word", key.encode(), value.encode())
        elif isinstance(value, float):
            problem.call("set_number", key.encode(), value)
        else:
            problem.call("set_vector", key.encode(), len(value), value)
    problem.call("set_decays", 0.02, 0.01, 0.03, bias)
    set_rows(problem, targets, SAMPLES, WEIGHTS, RIDGES)
    ufm = uf.UFM(
        K, D, SAMPLES, targets=targets, loss=loss, weights=WEIGHTS, ridges=RIDGES, lambda_W=0.02, lambda_H=0.01,
        lambda_b=0.03 if bias else 0.0, bias=bias, dtype=dtype,
    )  # fmt: skip
    return problem, ufm


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_python_package(library, case, dtype, tolerance, bias, threads):
    problem, ufm = make(library, case, dtype, bias)
    problem.call("set_threads", threads)
    assert problem.size() == ufm.size
    x, v, w = RNG.normal(size=(3, ufm.size)).astype(dtype)
    value, gradient = ufm.fun_and_grad(x)
    products = np.stack([ufm.hessp(x, v), ufm.hessp(x, w)])
    found, found_gradient = problem.loss_and_gradient(x)
    assert found == pytest.approx(value, rel=tolerance)
    assert problem.loss(x) == pytest.approx(value, rel=tolerance)
    np.testing.assert_allclose(found_gradient, gradient, rtol=0, atol=tolerance * np.abs(gradient).max())
    found_products = problem.hessian_products(x, np.stack([v, w]))
    np.testing.assert_allclose(found_products, products, rtol=0, atol=tolerance * np.abs(products).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parts_are_those_of_the_packed_point(library, dtype):
    problem, ufm = make(library, "cross-entropy", dtype)
    p = ufm.random_point(3)
    value, gradient = problem.loss_and_gradient(ufm.pack(p))
    parts = [np.full_like(part, np.nan) for part in p]
    found = ctypes.c_double()
    problem.typed("loss_and_gradient_of_parts", *p, ctypes.byref(found), *parts)
    assert found.value == value
    np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts]), gradient)


def test_a_batch_without_decays_is_the_linear_cross_entropy(library):
    problem = c.Problem(library, "cross_entropy", K, D)
    for seed in (1, 2):  # one problem, several batches
        rng = np.random.default_rng(seed)
        N = 20 + seed
        W, H, b, labels = rng.normal(size=(K, D)), rng.normal(size=(N, D)), rng.normal(size=K), rng.integers(0, K, N)
        set_rows(problem, labels)
        value, gradients = uf.linear_cross_entropy(W, H, labels, b)
        found, found_gradients = problem.loss_and_gradient(np.concatenate([W.ravel(), H.ravel(), b]))
        assert found == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(found_gradients, np.concatenate([g.ravel() for g in gradients]), atol=1e-14)


def test_no_labels_stand_for_a_row_a_class(library):
    problem = c.Problem(library, "cross_entropy", K, D)
    problem.call("set_decays", 5e-3, 5e-4, 0.0, 0)
    problem.call("set_labels", K, None, COUNTS, None, None)
    ufm = uf.UFM(K, D, COUNTS.astype(int), lambda_W=5e-3, lambda_H=5e-4, bias=False)
    x = RNG.normal(size=ufm.size)
    assert problem.loss(x) == pytest.approx(ufm.fun(x), rel=1e-12)


def test_learned_thresholds(library):
    problem = c.Problem(library, "ordinal", 4, D)
    problem.call("set_word", b"link", b"logit")
    problem.call("set_decays", 0.02, 0.01, 0.0, 1)
    problem.call("set_labels", 4, None, None, None, None)
    ufm = uf.UFM(4, D, loss=uf.Ordinal(), lambda_W=0.02, lambda_H=0.01)
    x = np.concatenate([RNG.normal(size=5 * D), [-1, 0.5, 2]])
    assert problem.size() == ufm.size == len(x)
    assert problem.loss(x) == pytest.approx(ufm.fun(x), rel=1e-12)
    x[-1] = -3  # they do not ascend
    with pytest.raises(c.Refused, match="or the thresholds in b do not ascend") as refused:
        problem.loss(x)
    assert refused.value.code == c.OVERFLOW


def test_versions(library):
    assert library.ufm_fast_version().decode() == uf.__version__
    assert library.ufm_fast_instruction_set().decode() == core.isa


SCRIPT = """
import json, numpy as np, c_library as c
library = c.load()
isa = library.ufm_fast_instruction_set()
try:
    problem = c.Problem(library, "cross_entropy", 33, 17)
    problem.call("set_labels", 33, None, None, None, None)
    value = problem.loss(np.sin(np.arange(problem.size())))
except c.Refused as refused:
    value = [refused.code, str(refused)]
print(json.dumps([isa and isa.decode(), value]))
"""


def test_levels_are_those_of_the_python_package_and_agree(run_python):
    values = []
    for isa in core.available:
        found, value = json.loads(run_python(SCRIPT, UFM_FAST_ISA=isa))
        assert found == isa
        values.append(value)
    assert values == pytest.approx([values[0]] * len(values), rel=1e-13)
    assert json.loads(run_python(SCRIPT, UFM_FAST_ISA=""))[0] == core.available[-1]


def test_a_level_that_is_not_there_is_an_error(run_python):
    found, (code, message) = json.loads(run_python(SCRIPT, UFM_FAST_ISA="v9"))
    assert (found, code) == (None, c.UNAVAILABLE)
    assert "UFM_FAST_ISA" in message


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("set_number", (None, 1.0), "name must not be NULL"),
        ("set_vector", (b"scale", 0, np.ones(1)), "count must be positive, not 0"),
        ("set_vector", (b"scale", 1, None), "values must not be NULL"),
        ("set_word", (b"link", None), "word must not be NULL"),
        ("set_decays", (-1.0, 0.0, 0.0, 1), "lambda_W must be finite and at least 0"),
        ("set_decays", (0.0, math.nan, 0.0, 1), "lambda_H must be finite"),
        ("set_labels", (0, None, None, None, None), "M must be positive, not 0"),
        ("set_labels", (-1, None, None, None, None), "M must be positive, not -1"),
        ("set_labels", (2, np.array([0, K]), None, None, None), r"targets must lie in \[0, 7\), not 7"),
        ("set_labels", (2, np.array([-1, 0]), None, None, None), r"targets must lie in \[0, 7\), not -1"),
        ("set_labels", (K + 1, None, None, None, None), r"targets must lie in \[0, 7\), not 7"),
        ("set_labels", (1, None, np.zeros(1), None, None), "samples must be positive"),
        ("set_labels", (1, None, None, np.array([math.inf]), None), "weights must be finite, but number 0 is inf"),
        ("set_labels", (1, None, None, None, -np.ones(1)), "ridges must be finite and at least 0"),
        ("set_targets", (1, None, None, None, None), "entries must not be NULL"),
        ("set_targets", (1, np.ones(K), None, None, None), "row 0 sums to 7"),
        ("set_sparse_targets", (1, np.array([0, 1]), None, None, None, None, None), "columns must not be NULL"),
        (
            "set_sparse_targets",
            (1, np.array([0, 1]), np.array([K]), np.ones(1), None, None, None),
            "columns that ascend",
        ),
        ("set_sparse_targets", (1, np.array([0, -1]), np.zeros(1, int), np.ones(1), None, None, None), "starts must"),
        ("set_threads", (0,), "threads must be between 1 and 4096, not 0"),
        ("set_threads", (4097,), "not 4097"),
        ("size", (None,), "size must not be NULL"),
        ("size", (ctypes.byref(ctypes.c_int64()),), "problem must be given its targets first"),
    ],
)
def test_wrong_arguments_are_refused(library, name, arguments, message):
    problem = c.Problem(library, "cross_entropy", K, D)
    with pytest.raises(c.Refused, match=message) as refused:
        problem.call(name, *arguments)
    assert refused.value.code == c.INVALID


@pytest.mark.parametrize("name", c.SIGNATURES)
def test_null_for_everything_is_refused(library, name):
    nothing = {"d": 0.0, "i": 1, "n": 1}
    zeros = [nothing.get(letter) for letter in c.SIGNATURES[name]]
    assert getattr(library, f"ufm_fast_{name}")(None, *zeros) == c.INVALID
    assert b"NULL" in library.ufm_fast_message()
    problem = c.Problem(library, "cross_entropy", K, D, "float32" if name.endswith("_f") else "float64")
    if not name.startswith("set_"):
        set_rows(problem, LABELS)
    if name not in ("set_labels", "set_decays", "set_threads"):
        with pytest.raises(c.Refused, match="must not be NULL"):
            problem.call(name, *zeros)


def test_problems_that_cannot_be_made_are_refused(library):
    for arguments, message in [
        (("cross_entropy", 0, D), "K and d must be positive, not 0 and 5"),
        (("cross_entropy", K, -1), "K and d must be positive, not 7 and -1"),
    ]:
        with pytest.raises(c.Refused, match=message):
            c.Problem(library, *arguments)
    assert library.ufm_fast_new(None, K, D, 0, ctypes.byref(ctypes.c_void_p())) == c.INVALID
    assert library.ufm_fast_new(b"mse", K, D, 0, None) == c.INVALID
    library.ufm_fast_free(None)
    for loss, parameter, message in [
        ("hinge", None, "loss must be 'cross_entropy'"),
        ("mse", "gamma", "must not hold gamma"),
        ("focal", None, "must hold gamma"),
        ("cross_entropy", "label_smoothing", r"label_smoothing in \[0, 1\]"),
    ]:
        problem = c.Problem(library, loss, K, D)
        if parameter:
            problem.call("set_number", parameter.encode(), 2.0)
        with pytest.raises(c.Refused, match=message) as refused:
            set_rows(problem, LABELS)
        assert refused.value.code == c.INVALID
    with pytest.raises(c.Refused, match=r"less than 2\^63 bytes"):
        set_rows(c.Problem(library, "cross_entropy", K, 2**60), LABELS)
    ordinal = c.Problem(library, "ordinal", K, D)
    ordinal.call("set_word", b"link", b"logit")
    ordinal.call("set_decays", 0.1, 0.1, 0.0, 0)
    with pytest.raises(c.Refused, match="bias must be true"):
        set_rows(ordinal, LABELS)


def test_a_refused_batch_leaves_the_last(library):
    problem, ufm = make(library, "cross-entropy")
    x = RNG.normal(size=ufm.size)
    before = problem.loss(x)
    with pytest.raises(c.Refused, match="targets must lie in"):
        set_rows(problem, np.array([K]))
    assert problem.loss(x) == before
    with pytest.raises(c.Refused, match="must not have its targets yet"):
        problem.call("set_decays", 0.1, 0.1, 0.1, 1)


def test_numbers_that_are_not_finite(library):
    problem, ufm = make(library, "cross-entropy")
    x = RNG.normal(size=ufm.size)
    for entry, message in [(3, "W must be finite, but entry 3"), (-1, "b must be finite, but entry 6"), (40, "H must")]:
        for bad in (math.nan, math.inf):
            y = x.copy()
            y[entry] = bad
            for evaluate in (problem.loss, problem.loss_and_gradient, lambda y: problem.hessian_products(y, x[None])):
                with pytest.raises(c.Refused, match=message) as refused:
                    evaluate(y)
                assert refused.value.code == c.INVALID
            with pytest.raises(c.Refused, match="v, " + message):
                problem.hessian_products(x, y[None])
    value = ctypes.c_double()
    assert library.ufm_fast_loss(problem.handle, c.pointer(1e200 * x), ctypes.byref(value)) == c.OVERFLOW
    assert value.value == math.inf


def test_the_wrong_type_is_refused(library):
    double, ufm = make(library, "cross-entropy")
    single, _ = make(library, "cross-entropy", "float32")
    x, value = RNG.normal(size=ufm.size), ctypes.c_double()
    with pytest.raises(c.Refused, match="use the function in _f"):
        single.call("loss", x, ctypes.byref(value))
    with pytest.raises(c.Refused, match="must be of single precision"):
        double.call("loss_f", x.astype(np.float32), ctypes.byref(value))


def test_interruption_and_messages_of_threads(library):
    problem = c.Problem(library, "cross_entropy", 2000, 64)
    M = 20000
    set_rows(problem, np.arange(M) % 2000)
    asked = []
    stop = c.STOP(lambda context: asked.append(context) or 1)
    library.ufm_fast_set_interruption(problem.handle, stop, 5)
    with pytest.raises(c.Refused, match="interrupted") as refused:
        problem.loss_and_gradient(np.zeros(problem.size()))
    assert refused.value.code == c.INTERRUPTED
    assert asked == [5]
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(library.ufm_fast_message()))
    thread.start()
    thread.join()
    assert elsewhere == [b""]
    assert library.ufm_fast_message() == b"interrupted"


BLAS = """
import ctypes, numpy as np, c_library as c
from scipy.linalg import cython_blas
library = c.load()
problem = c.Problem(library, "cross_entropy", 300, 600)  # more features than our own kernels take
problem.call("set_labels", 300, None, None, None, None)
x = np.sin(np.arange(problem.size()) + 1.0)
own = problem.loss_and_gradient(x)
calls, bytes_of_integers = [], int(ctypes.sizeof(ctypes.c_int))
integers = ctypes.POINTER(ctypes.c_int)
doubles = ctypes.POINTER(ctypes.c_double)
letter = ctypes.POINTER(ctypes.c_char)  # no string: nothing ends it
kind = ctypes.CFUNCTYPE(None, letter, letter, *[integers] * 3, doubles, doubles, integers, doubles, integers,
                        doubles, doubles, integers)
name = ctypes.pythonapi.PyCapsule_GetName
name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
address = ctypes.pythonapi.PyCapsule_GetPointer
address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
capsule = cython_blas.__pyx_capi__["dgemm"]
real = kind(address(capsule, name(capsule)))
@kind
def dgemm(*arguments):
    calls.append(1)
    real(*arguments)
assert library.ufm_fast_set_gemm(ctypes.cast(dgemm, ctypes.c_void_p), None, 5) == c.INVALID
assert library.ufm_fast_set_gemm(ctypes.cast(dgemm, ctypes.c_void_p), None, bytes_of_integers) == c.OK
theirs = problem.loss_and_gradient(x)
assert calls
np.testing.assert_allclose(theirs[1], own[1], atol=1e-15)
assert library.ufm_fast_set_gemm(None, None, 4) == c.OK
"""


def test_blas_hook(run_python):
    run_python(BLAS)


def test_header_declares_what_the_library_exports(library):
    text = (Path(uf.get_include()) / "ufm_fast.h").read_text(encoding="utf-8")
    for name in ("new", "free", "version", "message", "instruction_set", "set_gemm", "set_interruption", *c.SIGNATURES):
        assert f" ufm_fast_{name}(" in text or f"* ufm_fast_{name}(" in text
        assert getattr(library, f"ufm_fast_{name}")
