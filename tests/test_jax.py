"""ufm_fast.jax: derivatives against differences, JAX's own losses and the model's; in every kind of program."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import scipy.special

import ufm_fast as uf
from comparison import affine_cross_entropy

jax = pytest.importorskip("jax", reason="the adapter for JAX needs JAX")
jnp = jax.numpy
uf_jax = import_module("ufm_fast.jax")
check_grads = import_module("jax.test_util").check_grads

K, D, N = 4, 2, 7
RNG = np.random.default_rng(0)
H, W, B = (RNG.standard_normal(shape) for shape in ((N, D), (K, D), (K,)))
LABELS, WEIGHTS = RNG.integers(0, K, N), RNG.uniform(0.5, 2, N)
SOFT = RNG.dirichlet(np.ones(K), N)
BATCH_LOSSES = ["cross_entropy", affine_cross_entropy(K), "mse", uf.BinaryCrossEntropy(0.1), uf.Focal(1.5)]


@pytest.fixture(autouse=True)
def in_double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def model(**options):
    rows = {} if "targets" in options else {"n": [3, 1, 2, 1]}
    return uf.UFM(K, D, **(rows | {"lambda_W": 3e-2, "lambda_H": 2e-3, "lambda_b": 0.05, "bias": True} | options))


MODELS = {
    "collapsed": {},
    "samples": {"collapse": False},
    "without bias": {"bias": False},
    "class weights": {"weights": [1.0, 2.0, 0.5, 4.0]},
    "rows of labels": {"targets": [3, 0, 0, 2, 1], "n": [1.5, 1, 2, 1, 4], "ridges": 2.0},
    "soft targets": {"targets": SOFT},
    "affine": {"loss": affine_cross_entropy(K)},
    "squared error": {"loss": "mse"},
    "binary": {"loss": uf.BinaryCrossEntropy(0.1)},
    "focal": {"loss": uf.Focal(1.5)},
    "ordinal": {"loss": uf.Ordinal([-1.0, 0.0, 0.5])},
    "learned thresholds": {"loss": uf.Ordinal(None), "lambda_b": 0.0},
}


def function_of(ufm, x):
    """The loss of a packed point, by the adapter."""
    _, M, d = ufm.layout.K, ufm.M, ufm.d
    W, H, b = jnp.split(x, [ufm.layout.end_W, ufm.layout.end_H])
    return uf_jax.loss(ufm, W.reshape(-1, d), H.reshape(M, d), *([b] if ufm.bias else []))


@pytest.mark.parametrize("name", MODELS)
def test_models_to_second_order(name):
    ufm = model(**MODELS[name])
    p = ufm.random_point(1, scale=0.7)
    x = ufm.pack(p)
    fun = partial(function_of, ufm)
    value, gradient = jax.value_and_grad(fun)(x)
    assert value == ufm.fun(x)
    np.testing.assert_array_equal(gradient, ufm.fun_and_grad(x)[1])
    np.testing.assert_array_equal(jax.jit(jax.hessian(fun))(x), ufm.hessian(p) @ np.eye(ufm.size))
    check_grads(fun, (x,), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", BATCH_LOSSES, ids=str)
def test_batches_to_second_order(loss, reduction):
    """In all arrays, weights of both signs among them; rows are left out."""
    signs = np.where(np.arange(N) == 1, -1, 1)
    fun = partial(uf_jax.linear_cross_entropy, loss=loss, reduction=reduction, ignore_index=2)
    check_grads(
        lambda H, W, b, w: fun(H, W, LABELS, b, weights=w), (H, W, B, signs * WEIGHTS), order=2, modes=("fwd", "rev")
    )
    if loss == "cross_entropy":
        check_grads(lambda H, W: fun(H, W, LABELS), (H, W), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["labels", "soft"])
@pytest.mark.parametrize(("dtype", "x64"), [("float64", True), ("float32", True), ("float32", False)])
def test_batches_by_definition(labels, dtype, x64):
    jax.config.update("jax_enable_x64", x64)
    targets = np.eye(K)[labels] if labels.ndim == 1 else labels.astype(dtype)
    arrays = [array.astype(dtype) for array in (H, W, B)]
    logits = H @ W.T + B
    losses = -(targets * scipy.special.log_softmax(logits, axis=1)).sum(axis=1)
    G = scipy.special.softmax(logits, axis=1) - targets
    labels = labels if labels.ndim == 1 else targets

    def fun(H, W, b, reduction):
        return uf_jax.linear_cross_entropy(H, W, labels, b, reduction=reduction)

    for reduction, share in {"mean": 1 / N, "sum": 1.0}.items():
        value, gradient = jax.jit(jax.value_and_grad(fun, (0, 1, 2)), static_argnums=3)(*arrays, reduction)
        wanted = (losses.sum(), G @ W, G.T @ H, G.sum(axis=0))
        for a, b in zip((value, *gradient), wanted, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, share * b, atol={"float64": 1e-13, "float32": 5e-6}[dtype])
    np.testing.assert_allclose(fun(*arrays, "none"), losses, rtol={"float64": 1e-13, "float32": 2e-6}[dtype])


def of_W(W):
    return uf_jax.linear_cross_entropy(H, W, LABELS, B)


PROGRAMS = {
    "jvp of vjp": lambda f, W: jax.jvp(jax.grad(f), (W,), (jnp.ones_like(W),))[1],
    "vjp of vjp": lambda f, W: jax.grad(lambda W: jnp.sum(jax.grad(f)(W)))(W),
    "vjp of jvp": lambda f, W: jax.grad(lambda W: jax.jvp(f, (W,), (jnp.ones_like(W),))[1])(W),
    "jvp of jvp": lambda f, W: jax.jvp(lambda W: jax.jvp(f, (W,), (W**2,))[1], (W,), (jnp.ones_like(W),))[1],
    "linearize": lambda f, W: jax.linearize(jax.grad(f), W)[1](W),
    "linear_transpose": lambda f, W: jax.linear_transpose(jax.linearize(jax.grad(f), W)[1], W)(W),
    "checkpoint": lambda f, W: jax.grad(jax.checkpoint(f))(W),
    "vmap": lambda f, W: jax.vmap(jax.grad(f))(jnp.stack([W, 2 * W])),
    "vmap along the last axis": lambda f, W: jax.vmap(f, in_axes=2)(jnp.stack([W, 2 * W], axis=2)),
    "empty vmap": lambda f, W: jax.vmap(f)(jnp.zeros((0, *W.shape))),
    "twice in one program": lambda f, W: f(W) + f(2 * W),
    "scan": lambda f, W: jax.lax.scan(lambda W, _: (W - jax.grad(f)(W), f(W)), W, None, length=4),
    "while": lambda f, W: jax.lax.while_loop(lambda W: f(W) > 1.3, lambda W: W - 0.5 * jax.grad(f)(W), W),
    "cond": lambda f, W: jax.lax.cond(jnp.sum(W) > 100, lambda W: jnp.sum(W), f, W),
    "through a scan": lambda f, W: jax.grad(
        lambda rate: f(jax.lax.scan(lambda W, _: (W - rate * jax.grad(f)(W), None), W, None, length=3)[0])
    )(0.1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_give_what_jax_gives(name):
    """Compiled, at once, and step by step; compared with the same program of JAX's own operations."""

    def plain(W):
        return -jax.nn.log_softmax(H @ W.T + B)[np.arange(N), LABELS].mean()

    wanted = jax.tree.leaves(jax.jit(partial(PROGRAMS[name], plain))(W))
    compiled = jax.tree.leaves(jax.jit(partial(PROGRAMS[name], of_W))(W))
    at_once = jax.tree.leaves(PROGRAMS[name](of_W, jnp.asarray(W)))
    assert len(wanted) == len(compiled) == len(at_once)
    for a, b, c in zip(wanted, compiled, at_once, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(c, a, rtol=1e-10, atol=1e-13)


def test_batches_of_constants_are_a_loop_in_programs():
    program = jax.make_jaxpr(lambda: jax.vmap(of_W)(np.stack([W] * 50)))()
    assert [equation.primitive.name for equation in program.eqns].count("scan") == 1


def test_step_by_step_and_looking_for_nans():
    with jax.disable_jit():
        step_by_step = jax.jit(jax.grad(of_W))(jnp.asarray(W))
    with jax.debug_nans(True):
        np.testing.assert_array_equal(jax.jit(jax.grad(of_W))(W), step_by_step)


def test_donated_memory():
    step = jax.jit(lambda W: W - jax.grad(of_W)(W), donate_argnums=0)
    found, wanted = jnp.array(W), W
    for _ in range(3):
        found, wanted = step(found), wanted - np.asarray(jax.grad(of_W)(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_layouts_of_numpy():
    for array in (np.asfortranarray(W), np.repeat(W, 2, axis=0)[::2], W[::-1].copy()[::-1], read_only(W)):
        assert of_W(array) == of_W(W) == jax.jit(of_W)(array)


def read_only(array):
    array = np.array(array)
    array.flags.writeable = False
    return array


def test_empty_batches():
    empty = partial(uf_jax.linear_cross_entropy, H[:0], labels=LABELS[:0])
    assert jax.jit(partial(empty, reduction="sum"))(W=W) == 0
    assert not np.any(jax.jit(jax.grad(lambda W: empty(W=W, reduction="sum")))(W))
    assert empty(W=W, reduction="none").shape == (0,)
    with pytest.raises(ValueError, match="labels must leave some rows"):
        empty(W=W)


def test_many_threads():
    compiled = jax.jit(jax.value_and_grad(of_W))
    wanted = jax.value_and_grad(of_W)(W)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(compiled if i % 2 else jax.value_and_grad(of_W), W) for i in range(64)]
        for call in calls:
            np.testing.assert_array_equal(call.result()[1], wanted[1])


def test_third_derivatives_are_refused():
    for third in (
        lambda W: jax.jacfwd(jax.hessian(of_W))(W),
        lambda W: jax.grad(lambda W: jnp.sum(jax.grad(lambda W: jnp.sum(jax.grad(of_W)(W) ** 2))(W) ** 2))(W),
        lambda W: jax.jit(jax.jacrev(jax.hessian(lambda W: jnp.sum(rows_of(W) ** 2))))(W),
    ):
        with pytest.raises(NotImplementedError, match="no third ones"):
            third(jnp.asarray(W))


def rows_of(W):
    return uf_jax.linear_cross_entropy(H, W, LABELS, B, reduction="none")


def test_interrupt():
    """Ctrl-C while a call runs at once, in the main thread."""
    rng = np.random.default_rng(0)
    H, W = rng.standard_normal((50_000, 64)), rng.standard_normal((2000, 64))
    labels = rng.integers(0, 2000, 50_000)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call_often(partial(jax.grad(uf_jax.linear_cross_entropy), H, W, labels))


def call_often(call):
    for _ in range(100):
        call()


# What the machine looks like

SINGLE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
import ufm_fast.jax
rng = np.random.default_rng(0)
H, W = (jnp.asarray(rng.standard_normal(shape, dtype="float32")) for shape in ((100_000, 16), (10, 16)))
labels = jnp.asarray(rng.integers(0, 10, 100_000))

gradient = jax.jit(jax.grad(ufm_fast.jax.linear_cross_entropy, argnums=(0, 1)))

@jax.jit
def descend(H, W):
    def step(x, _):
        found = gradient(*x, labels)
        return (x[0] - found[0], x[1] - found[1]), None
    return jax.lax.scan(step, (H, W), None, length=3)[0]

for i in range(5):
    found = jax.block_until_ready([gradient(H + 0.1 * i, W, labels), descend(H + 0.1 * i, W)])
print(all(np.isfinite(x).all() for x in jax.tree.leaves(found)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system gives a process all cores")
def test_one_processor_core_is_enough(run_python):
    """Nothing waits for a thread of the program that called: arrays of megabytes, computed and constant ones."""
    assert run_python(SINGLE_CORE).split() == ["True"]


DEVICES = """
import jax, numpy as np
from functools import partial
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import ufm_fast.jax
loss = partial(ufm_fast.jax.linear_cross_entropy, reduction="sum")
rng = np.random.default_rng(0)
H, W = (rng.standard_normal(shape, dtype="float32") for shape in ((8, 3), (5, 3)))
labels = rng.integers(0, 5, 8)
mesh = Mesh(np.array(jax.devices()), ("rows",))
sharded = jax.device_put(H, NamedSharding(mesh, P("rows")))
gradient = jax.grad(loss, argnums=(0, 1))
wanted = gradient(H, W, labels)

def compare(found):
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)

compare(gradient(sharded, W, labels))
compare(jax.jit(gradient)(sharded, W, labels))
shards = partial(jax.shard_map, mesh=mesh, in_specs=(P("rows"), P(), P("rows")), out_specs=P())
sum_of_shards = lambda H, W, labels: jax.lax.psum(loss(H, W, labels), "rows")
compare(jax.jit(jax.grad(shards(sum_of_shards, check_vma=False), argnums=(0, 1)))(H, W, labels))
try:
    shards(loss)(H, W, labels)
except NotImplementedError as error:
    print(error)
"""


def test_several_devices(run_python):
    found = run_python(DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert found.strip() == "ufm_fast.jax needs check_vma=False where it is called in jax.shard_map"
