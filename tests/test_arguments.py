"""Arguments of public functions: NumPy's numbers are numbers; other things, and impossible sizes, are refused."""

import json
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse

import ufm_fast as uf
from ufm_fast._model.storage import describe_ufm

MODEL = uf.UFM(3, 3, [3, 2, 1], lambda_W=0.02, lambda_H=0.01, lambda_b=0.05)
POINT = MODEL.random_point(1)
X = MODEL.pack(POINT)
DATA = (
    np.eye(3),
    np.repeat(np.eye(3), 2, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((6, 3)),
    [0, 0, 1, 1, 2, 2],
)


def with_model(function, *arguments):
    return lambda **options: function(MODEL, *arguments, **options)


def make(**options):
    return uf.UFM(**{"K": 3, "d": 3, "n": 1, "lambda_W": 0.02, "lambda_H": 0.01, **options})


# function, argument, a number that it takes and one that is out of range
WHOLE = [
    (make, "K", 3, 1),
    (make, "d", 2, 0),
    (make, "n", 2, 0),
    (make, "threads", 2, 0),
    (MODEL.random_point, "seed", 3, -1),
    (lambda memory: MODEL.hessian(POINT, memory=memory) @ X, "memory", 100, -1),
    (lambda start: MODEL.rows(start, 3).loss(POINT._replace(H=POINT.H[2:])), "start", 2, -1),
    (lambda stop: MODEL.rows(0, stop).loss(POINT._replace(H=POINT.H[:2])), "stop", 2, 0),
    (with_model(uf.minimize), "max_evaluations", 3, 0),
    (with_model(uf.minimize), "seed", 3, -1),
    (with_model(uf.minimize), "restarts", 1, -1),
    (with_model(uf.saddle), "rank", 1, -1),
    (with_model(uf.saddle, 1), "seed", 3, -1),
    (with_model(uf.lowest_eigenpairs, POINT), "k", 2, 0),
    (with_model(uf.lowest_eigenpairs, POINT), "max_products", 100, 0),
    (with_model(uf.lowest_eigenpairs, POINT), "seed", 3, -1),
    (with_model(uf.spectrum, POINT), "steps", 3, 0),
    (with_model(uf.spectrum, POINT), "probes", 2, 0),
    (with_model(uf.spectrum, POINT), "seed", 3, -1),
    (with_model(uf.census), "runs", 1, 0),
    (lambda workers: uf.census(MODEL, 1, workers=workers), "workers", 1, 0),
    (lambda seed: uf.census(MODEL, 2, seed=seed), "seed", 3, -1),
    (lambda max_evaluations: uf.census(MODEL, 1, max_evaluations=max_evaluations), "max_evaluations", 3, 0),
    (lambda K: uf.NCAccumulator(K, 3), "K", 2, 0),
    (lambda d: uf.NCAccumulator(3, d), "d", 2, 0),
    (lambda threads: uf.NCAccumulator(3, 3, threads=threads), "threads", 2, 0),
    (lambda threads: uf.nc_metrics(*DATA, threads=threads), "threads", 2, 0),
]
REAL = [
    (make, "lambda_W", 0.5, 0.0),
    (make, "lambda_H", 0.5, -1.0),
    (make, "lambda_b", 0.5, -1.0),
    (uf.CrossEntropy, "label_smoothing", 0.5, 1.0),
    (MODEL.random_point, "scale", 0.5, -1.0),
    (with_model(uf.minimize), "tol", 0.5, 1.0),
    (with_model(uf.lowest_eigenpairs, POINT), "tol", 0.5, 0.0),
    (with_model(uf.classify, POINT), "gradient_tol", 0.5, 0.0),
    (with_model(uf.classify, POINT), "certificate_tol", 0.5, 0.0),
    (with_model(uf.census, 1), "tol", 0.5, 1.0),
    (uf.certify(MODEL, POINT).is_global, "tol", 0.5, -1.0),
    (lambda width: uf.spectrum(MODEL, POINT, steps=3).density([0.0], width), "width", 0.5, 0.0),
    (lambda imbalance: uf.counts("cifar10-lt", imbalance), "imbalance", 32.0, 0.5),
    (lambda lambda_W: uf.inspect(*DATA, lambda_W=lambda_W), "lambda_W", 0.5, 0.0),
    (lambda lambda_H: uf.inspect(*DATA, lambda_H=lambda_H), "lambda_H", 0.5, 0.0),
    (lambda lambda_b: uf.inspect(*DATA, np.zeros(3), lambda_b=lambda_b), "lambda_b", 0.5, -1.0),
]
FLAGS = [
    (make, "bias"),
    (make, "collapse"),
    (with_model(uf.lowest_eigenpairs, POINT), "deflate"),
    (lambda solve: uf.inspect(*DATA, solve=solve), "solve"),
]


def called(case):
    return f"{case[1]}-{WHOLE.index(case) if case in WHOLE else REAL.index(case)}"


def outcome(function, **argument):
    """What a call gives, as text; times differ from run to run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        found = function(**argument)
    if isinstance(found, dict):  # of minimize
        return repr((found.x, found.fun, found.nfev))
    return repr(vars(found)) if isinstance(found, uf.Spectrum) else repr(found).split(" at 0x")[0]


@pytest.mark.parametrize("case", WHOLE, ids=called)
def test_whole_numbers(case):
    function, name, good, below = case
    expected = outcome(function, **{name: good})
    for number in (np.int64(good), np.uint8(good), np.array(good)):
        assert outcome(function, **{name: number}) == expected
    for wrong in (True, np.bool_(True), str(good), float(good), np.float64(good), 1j, np.ma.masked, np.ma.array(good)):
        with pytest.raises(TypeError, match=rf"\b{name} must "):
            function(**{name: wrong})
    for wrong in (below, np.int64(below)):
        with pytest.raises(ValueError, match=rf"\b{name} must .*{below}"):
            function(**{name: wrong})


@pytest.mark.parametrize("case", REAL, ids=called)
def test_real_numbers(case):
    function, name, good, wrong = case
    expected = outcome(function, **{name: good})
    for number in (np.float32(good), np.float64(good), np.longdouble(good), np.array(good)):
        assert outcome(function, **{name: number}) == expected
    for other in (True, np.bool_(True), str(good), 1j, np.complex128(good), [good], np.ma.masked, np.ma.array(good)):
        with pytest.raises(TypeError, match=rf"\b{name} must "):
            function(**{name: other})
    for value in (wrong, np.float32(wrong), np.nan, np.inf, -np.inf, 10**400):
        with pytest.raises(ValueError, match=rf"\b{name} must "):
            function(**{name: value})


@pytest.mark.parametrize(("function", "name"), FLAGS)
def test_flags(function, name):
    for value in (True, False):
        assert outcome(function, **{name: np.bool_(value)}) == outcome(function, **{name: value})
    for wrong in (0, 1.0, "no", np.array(True)):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            function(**{name: wrong})


def test_numbers_of_numpy_can_be_kept(tmp_path):
    loss = uf.CrossEntropy(label_smoothing=np.float32(0.1))
    assert type(loss.label_smoothing) is float
    assert repr(loss) == f"CrossEntropy(label_smoothing={float(np.float32(0.1))})"
    assert pickle.loads(pickle.dumps(loss)) == loss
    ufm = make(loss=loss, lambda_W=np.float32(0.1), lambda_b=np.float16(0.25), bias=np.True_, threads=np.int32(1))
    assert json.loads(json.dumps(describe_ufm(ufm))) == describe_ufm(ufm)
    uf.save_point(tmp_path / "point.npz", ufm, ufm.random_point())
    loaded, _ = uf.load_point(tmp_path / "point.npz")
    assert describe_ufm(loaded) == describe_ufm(ufm)
    settings = {"seed": np.int64(2), "tol": np.float32(1e-6), "max_evaluations": np.int64(50)}
    census = uf.census(ufm, np.int64(1), **settings, path=tmp_path / "census.jsonl")
    assert uf.Census.load(tmp_path / "census.jsonl").settings == census.settings
    run = uf.minimize(ufm, **settings, restarts=np.int64(0), checkpoint=tmp_path / "run.npz")
    again = uf.minimize(ufm, seed=2, tol=float(np.float32(1e-6)), checkpoint=tmp_path / "run.npz")
    assert again.fun == run.fun


def test_counts_of_a_data_set_do_not_depend_on_the_type_of_the_imbalance():
    for imbalance in range(1, 5000, 7):
        for number in (np.float32(imbalance), np.float64(imbalance), np.int64(imbalance)):
            assert (uf.counts("cifar10-lt", number) == uf.counts("cifar10-lt", imbalance)).all()


# Losses


class Focal(uf.CrossEntropy):
    """A loss derived from another, as users write it."""


@pytest.mark.parametrize("loss", [Focal(), Focal, uf.CrossEntropy, type("Huber", (uf.MSE,), {})(), None, 3])
def test_only_its_own_losses_are_taken(loss):
    name = type(loss).__name__
    for call in (
        lambda: make(loss=loss),
        lambda: uf.minimize(make(loss=loss)),
        lambda: uf.certify(make(loss=loss), POINT),
        lambda: uf.inspect(*DATA, loss=loss),
    ):
        with pytest.raises(TypeError, match=f"loss must be .*{name}"):
            call()


# Sizes


@pytest.mark.parametrize(
    ("n", "total"),
    [
        ([2**62] * 4, 2**64),
        (2**62, 2**64),
        (np.array([2**63, 1, 1, 1], np.uint64), 2**63 + 3),
        (np.uint64(2**63), 2**65),
        ([2**70] * 4, 2**72),
        (2**63 - 1, 4 * (2**63 - 1)),
    ],
    ids=str,
)
def test_samples_are_fewer_than_two_to_the_63(n, total):
    with pytest.raises(ValueError, match=f"n must .*{total}"):
        make(K=4, n=n)


def test_as_many_samples_as_an_int_counts():
    ufm = make(n=[2**62, 2**61, 2**61 - 1])
    assert ufm.N == 2**63 - 1
    twin = make(n=[2, 1, 1])  # the same frequencies to 1e-18
    p = twin.random_point(1)
    ridge = 0.5 * ufm.lambda_H * np.sum(p.H**2 * (ufm.counts - twin.counts)[:, None])
    assert ufm.loss(p) == pytest.approx(twin.loss(p) + ridge, rel=1e-14)


@pytest.mark.parametrize(
    "sizes", [{"K": 2, "d": 2**62}, {"K": 2**61}, {"d": 2**61}, {"n": 2**60, "d": 4, "collapse": False}], ids=str
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_points_that_no_array_can_hold_are_refused(sizes, dtype):
    with pytest.raises(ValueError, match=r"K = \d+.* d = \d+.* must be smaller"):
        make(**sizes, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_largest_point_that_an_array_can_hold(dtype):
    d = 2**61 // np.dtype(dtype).itemsize  # 4 d numbers have 2^63 bytes
    assert make(K=2, d=d - 1, dtype=dtype).size == 4 * (d - 1) + 2
    with pytest.raises(ValueError, match=f"K = 2 and d = {d} must be smaller"):
        make(K=2, d=d, dtype=dtype)


def test_sizes_that_wrap_do_not_crash(run_python):
    assert run_python(
        "import numpy as np, ufm_fast as uf\n"
        "try:\n"
        "    uf.UFM(2, 2**62, lambda_W=0.1, lambda_H=0.1).fun(np.zeros(2))\n"
        "except ValueError as error:\n"
        "    print(error)"
    ).startswith("K = 2 and d = 4611686018427387904 must be smaller")


def test_memory_that_is_not_there():
    with pytest.raises(MemoryError, match=r"random_point needs about .* GiB .* K = 2, M = 2, d = 1125899906842624"):
        make(K=2, d=2**50).random_point()
    with pytest.raises(MemoryError, match="K = 2, d = 4194304"):
        uf.NCAccumulator(2, 2**22)
    with pytest.raises(ValueError, match="K = 2 and d = 1099511627776 must be smaller"):
        uf.NCAccumulator(2, 2**40)


def test_decays_that_the_dtype_cannot_hold():
    for name in ("lambda_W", "lambda_H", "lambda_b"):
        for wrong in (1e-50, 1e-44, 1e50):  # zero, 7 % off and infinite in float32
            with pytest.raises(ValueError, match=f"{name} must be in the range of float32"):
                make(**{name: wrong}, dtype="float32")
            make(**{name: wrong})


def test_random_points_that_overflow():
    for dtype, scale in (("float32", 3e38), ("float64", 1.7e308)):
        with pytest.raises(ValueError, match=f"scale must .* overflow {dtype}"):
            make(dtype=dtype).random_point(scale=scale)


# Arrays


@pytest.mark.parametrize("spoil", [np.ma.array, lambda x: np.ma.masked_less(x, 0), lambda x: x + 0j])
@pytest.mark.parametrize("name", ["W", "H", "b"])
def test_masked_and_complex_points_are_refused(spoil, name):
    bad = POINT._replace(**{name: spoil(getattr(POINT, name))})
    for call in (
        lambda: MODEL.loss(bad),
        lambda: MODEL.loss_and_grad(bad),
        lambda: MODEL.hvp(bad, POINT),
        lambda: MODEL.hvp(POINT, bad),
        lambda: MODEL.hessian(bad),
        lambda: MODEL.pack(bad),
        lambda: MODEL.collapse(make(n=[3, 2, 1], collapse=False).expand(bad)),
        lambda: MODEL.expand(bad),
        lambda: uf.certify(MODEL, bad),
        lambda: uf.classify(MODEL, bad),
        lambda: uf.minimize(MODEL, bad),
        lambda: uf.lowest_eigenpairs(MODEL, bad),
        lambda: uf.spectrum(MODEL, bad),
    ):
        with pytest.raises(TypeError, match=rf"\b{name} must "):
            call()


@pytest.mark.parametrize("spoil", [np.ma.array, lambda x: np.ma.masked_less(x, 0), lambda x: x + 0j, lambda x: x > 0])
def test_masked_and_complex_vectors_are_refused(spoil):
    bad, operator = spoil(X), MODEL.hessian(POINT)
    for call in (
        lambda: MODEL.fun(bad),
        lambda: MODEL.fun_and_grad(bad),
        lambda: MODEL.hessp(bad, X),
        lambda: MODEL.hessp(X, bad),
        lambda: MODEL.unpack(bad),
        lambda: uf.minimize(MODEL, bad),
        lambda: operator @ bad,
        lambda: operator.matvec(bad),
        lambda: operator.rmatvec(bad),
        lambda: operator @ bad[:, None],
    ):
        with pytest.raises(TypeError, match=r"\b[xv] must "):
            call()


@pytest.mark.parametrize(
    "n", [np.ma.masked_less([3, 2, 1], 2), np.ma.array([3, 2, 1]), np.array([3, 2, 1 + 0j]), "3", None]
)
def test_counts_are_ints(n):
    with pytest.raises(TypeError, match=r"\bn must "):
        make(n=n)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_packed_vectors_are_converted(dtype):
    ufm = make(n=[3, 2, 1], dtype=dtype)
    rng = np.random.default_rng(2)
    x, v = rng.integers(-3, 4, (2, ufm.size)).astype(dtype)
    value, gradient = ufm.fun_and_grad(x)
    product = ufm.hessp(x, v)
    operator = ufm.hessian(ufm.unpack(x))
    ways = [
        lambda y: y.astype(np.int8),
        lambda y: y.astype(np.float16),
        lambda y: y.astype(np.float32),
        lambda y: y.astype(np.float64),
        lambda y: y.astype(np.longdouble),
        lambda y: y.astype(y.dtype.newbyteorder()),
        lambda y: np.repeat(y, 2)[::2],
        lambda y: y[::-1].copy()[::-1],
        lambda y: y[:, None],
        lambda y: np.repeat(y[:, None], 2, axis=1)[:, :1],
        lambda y: np.frombuffer(b"x" + y.tobytes(), np.uint8)[1:].view(y.dtype),
        lambda y: y.tolist(),
    ]
    for way in ways:
        assert ufm.fun(way(x)) == value
        assert (ufm.fun_and_grad(way(x))[1] == gradient).all()
        assert (ufm.hessp(way(x), way(v)) == product).all()
        assert all((a == b).all() for a, b in zip(ufm.unpack(way(x)), ufm.unpack(x), strict=True))
        converted = np.asarray(way(v))
        vector = converted[:, 0] if converted.ndim == 2 else converted
        for result in (operator @ converted, operator.matvec(vector), operator.rmatvec(vector)):
            assert result.dtype == ufm.dtype
            np.testing.assert_allclose(result.ravel(), product, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-4)
            assert (result.ravel() == operator @ v).all()
    for wrong in (x[:-1], x[None], np.float64(3), []):
        with pytest.raises(ValueError, match="x must have shape"):
            ufm.fun(wrong)
    for wrong in [np.nan, np.inf, *([1e39] if dtype == "float32" else [])]:
        with pytest.raises(ValueError, match=r"\b[xW] must be finite"):
            ufm.fun(np.where(np.arange(ufm.size) == 1, wrong, x.astype(float)))


ROWS = {"lambda_W": 0.02, "lambda_H": 0.01, "lambda_b": 0.05}


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        uf.UFM(3, 3, targets=[0, 2, 1, 1], n=[1.0, 2, 3, 4], **ROWS),
        uf.UFM(3, 3, targets=np.eye(3)[[0, 2, 1, 1]], weights=[1.0, 2, 3, 4], **ROWS),
        uf.UFM(3, 3, targets=scipy.sparse.csr_array(np.eye(3)[[0, 2, 1, 1]]), **ROWS),
        uf.UFM(3, 3, targets=[0, 2, 1, 1], **ROWS).rows(1, 3),
    ],
    ids=["classes", "labels", "targets", "sparse targets", "shard"],
)
def test_models_unpickle_wherever_their_arrays_lie(model):
    """Dask and others hand over the arrays of a pickle apart from it, at any address."""
    buffers = []
    stream = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    moved = [memoryview(b"?" + bytes(buffer.raw()))[1:] for buffer in buffers]
    x = np.random.default_rng(0).standard_normal(model.size)
    assert pickle.loads(stream, buffers=moved).fun(x) == model.fun(x)
