"""ufm_fast.jax: what is refused, when, and that no error in a compiled program is lost."""

import doctest
from functools import partial
from importlib import import_module

import numpy as np
import pytest

import ufm_fast as uf

jax = pytest.importorskip("jax", reason="the adapter for JAX needs JAX")
jnp = jax.numpy
uf_jax = import_module("ufm_fast.jax")

K, D, N = 4, 2, 7
RNG = np.random.default_rng(0)
H, W, B = (RNG.standard_normal(shape).astype("float32") for shape in ((N, D), (K, D), (K,)))
LABELS = RNG.integers(0, K, N)
SOFT = RNG.dirichlet(np.ones(K), N).astype("float32")
UFM = uf.UFM(K, D, lambda_W=1e-2, lambda_H=1e-2, dtype="float32")
P = UFM.random_point()

REFUSED_POINTS = [
    ({"ufm": uf.UFM(K, D, lambda_W=1e-2, lambda_H=1e-2)}, ValueError, "ufm must be of float32, not float64, while jax"),
    ({"ufm": P}, TypeError, r"ufm must be a UFM, not Point\(W=array"),
    ({"W": P.W.astype("float64")}, TypeError, "W must have 32 bits a number, not float64, while jax_enable_x64 is off"),
    ({"W": jnp.asarray(P.W, "bfloat16")}, TypeError, "W must be float32, as the model is, not bfloat16"),
    ({"W": jnp.zeros((K, D), "int32")}, TypeError, "W must be float32, as the model is, not int32"),
    ({"W": P.W.tolist()}, TypeError, "W must be an array of JAX or NumPy, not list"),
    ({"W": np.ma.masked_less(P.W, 0)}, TypeError, "W must not be a masked array"),
    ({"H": P.H.T}, ValueError, r"H must have shape \(4, 2\), not \(2, 4\)"),
    ({"b": None}, TypeError, "b must be an array of JAX or NumPy, not NoneType"),
    ({"b": P.b[:2]}, ValueError, r"b must have shape \(4,\), not \(2,\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED_POINTS)
def test_what_is_refused_of_models(change, error, message):
    arguments = {"ufm": UFM, "W": P.W, "H": P.H, "b": P.b} | change
    ufm = arguments.pop("ufm")
    with pytest.raises(error, match=message):
        uf_jax.loss(ufm, **arguments)
    if all(isinstance(array, jax.Array | np.ndarray) for array in arguments.values()) and "masked" not in message:
        if "32 bits" in message:
            return  # JAX itself rounds what is handed to a compiled function
        with pytest.raises(error, match=message):
            jax.jit(lambda x: uf_jax.loss(ufm, **x))(arguments)


def test_bias_of_a_model_without():
    with pytest.raises(ValueError, match="b must be None: the model has no bias"):
        uf_jax.loss(uf.UFM(K, D, lambda_W=1e-2, lambda_H=1e-2, bias=False, dtype="float32"), *P)


REFUSED_BATCHES = [
    ({"H": H.astype("float16")}, TypeError, "H must be float32 or float64, not float16"),
    ({"H": jnp.asarray(H, "bfloat16")}, TypeError, "H must be float32 or float64, not bfloat16"),
    ({"H": H.astype("float64")}, TypeError, "H must have 32 bits a number, not float64, while jax_enable_x64 is off"),
    ({"H": H.tolist()}, TypeError, "H must be an array of JAX or NumPy, not list"),
    ({"H": H[0]}, ValueError, "H must have two dimensions"),
    ({"W": W.T}, ValueError, r"W must have shape \(2, 2\), not \(2, 4\): H has shape \(7, 2\)"),
    ({"bias": B[1:]}, ValueError, r"bias must have shape \(4,\)"),
    ({"weights": np.ones(3, "float32")}, ValueError, r"weights must have shape \(7,\)"),
    ({"weights": np.ones(N, "int32")}, TypeError, "weights must be float32 or float64, not int32"),
    ({"labels": LABELS.tolist()}, TypeError, "labels must be an array of JAX or NumPy, not list"),
    ({"labels": LABELS[1:]}, ValueError, r"labels must have shape \(7,\), not \(6,\)"),
    ({"labels": LABELS + 2**40}, TypeError, "labels must have 32 bits a number, not int64"),
    ({"labels": LABELS > 1}, TypeError, "labels must be ints, or targets of float32 or float64"),
    ({"labels": LABELS.astype("float32")}, TypeError, "labels must be ints, or targets of float32 or float64"),
    ({"labels": jax.random.split(jax.random.key(0), N)}, TypeError, "labels must be ints, or targets of float32"),
    ({"H": H[:, :0], "W": W[:, :0]}, ValueError, "W must have a row for each class and a column for each"),
    ({"labels": SOFT[:, 1:]}, ValueError, r"labels must have shape \(7, 4\), not \(7, 3\)"),
    ({"labels": SOFT, "ignore_index": 1}, ValueError, "ignore_index must be None where labels are targets"),
    ({"loss": "hinge"}, ValueError, "loss must be"),
    ({"loss": uf.Ordinal([0.0])}, ValueError, "loss must have a logit a class"),
    ({"loss": uf.CrossEntropy(scale=[1.0, 2.0])}, ValueError, "scale must hold a number for each of the K = 4"),
    ({"reduction": "average"}, ValueError, "reduction must be 'mean', 'sum' or 'none'"),
    ({"ignore_index": 0.5}, TypeError, "ignore_index"),
    ({"threads": 0}, ValueError, "threads must be between 1 and 4096"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED_BATCHES)
def test_what_is_refused_of_batches(change, error, message):
    """Also before a program is compiled, but for what JAX itself rounds at its door."""
    arguments = {"H": H, "W": W, "labels": LABELS, "bias": B} | change
    with pytest.raises(error, match=message):
        uf_jax.linear_cross_entropy(**arguments)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, jax.Array | np.ndarray)}
    options = {name: value for name, value in arguments.items() if name not in arrays}
    if "32 bits" not in message:
        with pytest.raises(error, match=message):
            jax.jit(lambda x: uf_jax.linear_cross_entropy(**x, **options))(arrays)


AT_RUN_TIME = [
    ({"H": H * np.nan}, ValueError, "H must be finite, but entry 0"),
    ({"W": W * np.inf}, ValueError, "W must be finite, but entry 0"),
    ({"labels": LABELS + 2}, ValueError, r"labels must lie in \[0, 4\)"),
    ({"labels": 2 * SOFT}, ValueError, "row 0 sums to"),
    ({"labels": SOFT * np.nan}, ValueError, "must be finite, but row 0"),
    ({"labels": LABELS * 0 - 1, "ignore_index": -1}, ValueError, "labels must leave some rows for their mean"),
    ({"H": 1e30 * H, "W": 1e30 * W}, FloatingPointError, "overflows float32"),
    ({"weights": np.full(N, np.nan, "float32")}, ValueError, "weights must be finite"),
    ({"weights": np.full(N, np.nan, "float32"), "reduction": "none"}, ValueError, "weights must be finite"),
]
TRANSFORMS = {"value": lambda f: f, "gradient": jax.grad, "product": lambda f: jax.jacfwd(jax.grad(f))}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize(("change", "error", "message"), AT_RUN_TIME)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_errors_in_programs_reach_the_user(transform, change, error, message):
    arguments = {"H": H, "W": W, "labels": LABELS, "bias": B} | change
    options = {name: arguments.pop(name) for name in ("ignore_index", "reduction") if name in arguments}

    def fun(x, others):
        return jnp.sum(uf_jax.linear_cross_entropy(x, **others, **options))

    x = arguments.pop("H")
    function = TRANSFORMS[transform](fun)
    with pytest.raises(error, match=message):
        function(x, arguments)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        jax.block_until_ready(jax.jit(function)(x, arguments))


def test_errors_in_loops():
    """A loop ends where the loss overflows, and its results are not to be had."""
    fun = partial(uf_jax.loss, UFM, H=P.H, b=P.b)
    with pytest.raises(jax.errors.JaxRuntimeError, match="W must be finite"):
        jax.block_until_ready(jax.lax.scan(lambda W, _: (W * 1e20, fun(W)), jnp.asarray(P.W), None, length=4))


def test_no_derivative_in_labels():
    with pytest.raises(NotImplementedError, match="no derivative with respect to labels"):
        jax.grad(uf_jax.linear_cross_entropy, argnums=2)(H, W, SOFT)
    assert uf_jax.linear_cross_entropy(H, W, jax.lax.stop_gradient(SOFT)) > 0


@pytest.mark.parametrize("name", uf_jax.__all__)
def test_examples_in_docstrings(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(uf_jax, name), name, globs={"uf": uf})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
