"""UFM: values against the oracle, exact digits where they are small, and the contract of its points."""

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from comparison import CASES, LOSSES, SHAPE_CASES, SMALL, assert_close, check, models, tolerance
from oracle import Oracle


@pytest.mark.parametrize("case", CASES + SHAPE_CASES, ids=str)
def test_agrees_with_the_oracle(case):
    check(case)


@given(models, st.integers(0, 1000))
def test_agrees_with_the_oracle_on_any_model(ufm, seed):
    oracle = Oracle.of(ufm)
    p = ufm.random_point(seed, scale=1.0)
    loss, gradient = ufm.loss_and_grad(p)
    expected = oracle.loss(*map(np.float64, p))
    assert abs(loss - expected) <= tolerance(ufm.dtype) * expected
    assert_close(gradient, oracle.gradient(*map(np.float64, p)), ufm.dtype)


@pytest.mark.parametrize("case", [case for case in CASES if case.shape == SMALL], ids=str)
def test_hessian_operator_is_the_dense_hessian(case):
    ufm = case.ufm()
    p = ufm.random_point(3, scale=0.7)
    operator = ufm.hessian(p)
    assert isinstance(operator, scipy.sparse.linalg.LinearOperator)
    assert operator.shape == (ufm.size, ufm.size)
    identity = np.eye(ufm.size, dtype=ufm.dtype)
    assert_close([operator.matmat(identity)], [Oracle.of(ufm).hessian(*map(np.float64, p))], ufm.dtype)
    assert (operator.T @ identity[0] == operator @ identity[0]).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("count", [1, 8, 19])
def test_blocks_of_vectors_in_any_order(count, dtype):
    ufm = uf.UFM(23, 31, lambda_W=1e-3, lambda_H=1e-4, dtype=dtype, threads=2)
    operator = ufm.hessian(ufm.random_point(0))
    V = np.random.default_rng(1).standard_normal((ufm.size, 2 * count)).astype(dtype)[:, ::2]
    assert not V.flags.c_contiguous
    expected = np.column_stack([operator @ v for v in V.T])
    for block in (V, V.copy("C"), V.copy("F"), V.astype(np.float64)):
        np.testing.assert_array_equal(operator @ block, expected)


def test_hessian_operator_remembers_its_point():
    ufm = uf.UFM(4, 3, lambda_W=0.1, lambda_H=0.1)
    p, v = ufm.random_point(1), ufm.random_point(2)
    for memory in (0, None):
        operator = ufm.hessian(p, memory=memory)
        before = operator @ ufm.pack(v)
        p.W[:] += 1
        assert (operator @ ufm.pack(v) == before).all()


# Digits


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("collapse", [True, False])
def test_tiny_cross_entropy_keeps_its_digits(dtype, margin, collapse):
    # Logits margin * e_k and decays too small to matter: every sample has the same softmax, and l = log(1 + x).
    K, tiny = 4, {"float64": 1e-200, "float32": 1e-36}[dtype]
    ufm = uf.UFM(K, K, [1, 2, 3, 1], lambda_W=tiny, lambda_H=tiny, collapse=collapse, dtype=dtype)
    identity = np.eye(K, dtype=dtype)
    p = uf.Point(margin * identity, identity, np.zeros(K, dtype))
    if not collapse:
        p = ufm.expand(p)
    x = (K - 1) * np.exp(-margin)
    rel = {"float64": 1e-13, "float32": 1e-5}[dtype]
    loss, gradient = ufm.loss_and_grad(p)
    assert loss == pytest.approx(np.log1p(x), rel=rel, abs=0)
    assert ufm.loss(p) == pytest.approx(np.log1p(x), rel=rel, abs=0)
    # The gradient with respect to h is n_k/N W^T (softmax - e_k), and softmax = (q, ..., q, 1 - (K - 1) q).
    q = np.exp(-margin) / (1 + x)
    share = (ufm.counts if collapse else np.ones(ufm.N))[:, None] / ufm.N
    labels = np.eye(K)[np.arange(K) if collapse else np.repeat(np.arange(K), ufm.counts)]
    assert pytest.approx(margin * share * (q - K * q * labels), rel=rel, abs=0) == gradient.H


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_residual_is_subnormal(dtype):
    # Logits from 0 down to where exp underflows: a product with a subnormal number takes 100 times as long.
    K, limits = 1003, np.finfo(dtype)
    logits = np.linspace(0, 1.1 * np.log(limits.smallest_subnormal), K).astype(dtype)
    ufm = uf.UFM(K, 1, lambda_W=1e-4, lambda_H=1e-4, dtype=dtype)
    G = ufm._problem.data_term(np.tile(logits, (K, 1)), np.zeros(K, dtype), 1)[1]
    assert ((G == 0) | (np.abs(G) >= limits.tiny)).all()
    probabilities = scipy.special.softmax(logits.astype(float))[1:] / K
    large = probabilities > 2 * limits.tiny / limits.eps
    assert pytest.approx(probabilities[large], rel=float(500 * limits.eps), abs=0) == G[0, 1:][large]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("kept", [True, False])
def test_tiny_curvature_keeps_its_digits(dtype, margin, kept):
    # Two classes, logits (margin, 0) and (0, margin); along h the curvature of each is p (1 - p) (dz_0 - dz_1)^2.
    tiny = 1e-36
    ufm = uf.UFM(2, 2, lambda_W=tiny, lambda_H=tiny, dtype=dtype)
    identity = np.eye(2, dtype=dtype)
    p = uf.Point(margin * identity, identity, np.zeros(2, dtype))
    v = uf.Point(0 * identity, np.array([[3, 1], [0.5, 0]], dtype), np.zeros(2, dtype))
    product = ufm.unpack(ufm.hessian(p, memory=None if kept else 0) @ ufm.pack(v))
    curvature = np.exp(-margin) / (1 + np.exp(-margin)) ** 2
    change = margin * np.array([3 - 1, 0.5 - 0])[:, None] * [[1, -1]]
    rel = {"float64": 1e-13, "float32": 1e-5}[dtype]
    assert pytest.approx(margin / 2 * curvature * change, rel=rel, abs=0) == product.H


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("shift", [0, 2**20])
def test_tiny_curvature_at_wrong_classes_keeps_its_digits(dtype, margin, shift):
    # The same with the labels exchanged: logits (0, margin) for class 0 and (margin, 0) for class 1.
    tiny = 1e-36
    ufm = uf.UFM(2, 2, lambda_W=tiny, lambda_H=tiny, dtype=dtype)
    identity = np.eye(2, dtype=dtype)
    p = uf.Point(margin * identity, np.ascontiguousarray(identity[::-1]), np.full(2, shift, dtype))
    v = uf.Point(0 * identity, np.array([[0.5, 0], [3, 1]], dtype), np.array([4 + shift, 2 + shift], dtype))
    product = ufm.hvp(p, v)
    curvature = np.exp(-margin) / (1 + np.exp(-margin)) ** 2
    change = margin * np.array([0.5 - 0, 3 - 1]) + (4 - 2)
    rel = {"float64": 1e-13, "float32": 1e-5}[dtype]
    assert pytest.approx(margin / 2 * curvature * change[:, None] * [[1, -1]], rel=rel, abs=0) == product.H
    assert pytest.approx(curvature / 2 * change.sum() * np.array([1, -1]), rel=rel, abs=0) == product.b


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_loss_has_its_digits_at_a_good_fit(loss):
    # Near the optimum of a weak decay the loss is small beside the squares and exponentials it is made of.
    ufm = uf.UFM(6, 6, [9, 4, 4, 2, 1, 1], loss=loss, lambda_W=1e-9, lambda_H=1e-10, lambda_b=1e-9)
    rng = np.random.default_rng(5)
    size = 1.0 if loss.name == "mse" else 25.0
    W = size * (np.eye(6) + 1e-3 * rng.standard_normal((6, 6)))
    p = uf.Point(W, np.eye(6) / (1 if loss.name == "mse" else 2) + 1e-3 * rng.standard_normal((6, 6)), np.zeros(6))
    assert ufm.loss(p) == pytest.approx(float(Oracle.of(ufm).decimal_loss(*p)), rel=1e-13, abs=0)


@pytest.mark.parametrize("loss", [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.2)], ids=str)
@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e150), ("float32", 1e15)])
def test_huge_logits_are_safe(loss, dtype, size):
    # A hard max: logits of +-size**2 and an infinite exp(logit); right and wrong labels, and ties.
    ufm = uf.UFM(3, 2, loss=loss, lambda_W=1e-3, lambda_H=1e-3, dtype=dtype)
    directions = np.array([[1, 0], [-1, 0], [0, 0]], dtype)
    features = np.array([[1, 0], [1, 0], [0, 0]], dtype)
    p = uf.Point(size * directions, size * features, np.array([0, 0, 0], dtype))
    oracle = Oracle.of(ufm)
    value, gradient = ufm.loss_and_grad(p)
    assert value == pytest.approx(oracle.loss(*map(np.float64, p)), rel=tolerance(dtype), abs=0)
    assert_close(gradient, oracle.gradient(*map(np.float64, p)), dtype)
    assert_close(ufm.hvp(p, p), oracle.hvp(*map(np.float64, p), *map(np.float64, p)), dtype)


@pytest.mark.parametrize(
    ("loss", "dtype", "size"),
    [
        (uf.CrossEntropy(), "float64", 1e160),
        (uf.MSE(), "float64", 1e160),
        (uf.CrossEntropy(), "float32", 1e20),
        (uf.MSE(), "float32", 1e20),
        (uf.MSE(), "float32", 1e14),  # only the gradient overflows: the loss is summed in double
    ],
    ids=str,
)
def test_overflow_is_an_error(loss, dtype, size):
    ufm = uf.UFM(3, 3, loss=loss, lambda_W=1e-3, lambda_H=1e-3, dtype=dtype)
    p = uf.Point(*(part * part.dtype.type(size) for part in ufm.random_point(0, scale=1.0)))
    with pytest.raises(FloatingPointError, match=f"overflows {dtype}"):
        ufm.loss_and_grad(p)
    with pytest.raises(FloatingPointError, match=f"overflows {dtype}"):
        ufm.fun_and_grad(ufm.pack(p))
    with pytest.raises(FloatingPointError, match=f"overflows {dtype}"):
        ufm.hvp(p, p)


def test_more_than_two_to_the_31_logits():
    # W = 0, so all logits are b: value and gradient have closed forms. K * M = 2.16e9.
    K = 46_500
    ufm = uf.UFM(K, 2, loss="mse", lambda_W=1e-3, lambda_H=1e-6, dtype="float32")
    p = ufm.random_point(1, scale=1.0)
    value, gradient = ufm.loss_and_grad(p._replace(W=0 * p.W))
    H, b = p.H.astype(float), p.b.astype(float)
    assert value == pytest.approx((b @ b + 1) / 2 - b.mean() + 5e-7 * (H**2).sum(), rel=1e-6, abs=0)
    assert_close([gradient.W, gradient.b], [np.outer(b, H.mean(0)) - H / K, b - 1 / K], "float32")


# Points


@given(models, st.integers(0, 1000))
def test_pack_and_unpack_are_inverse(ufm, seed):
    p = ufm.random_point(seed)
    x = ufm.pack(p)
    assert x.shape == (ufm.size,)
    assert (x == Oracle.of(ufm).pack(*p)).all()
    back = ufm.unpack(x)
    assert all((part == other).all() for part, other in zip(p, back, strict=True))
    assert np.shares_memory(back.H, x)


@given(models, st.integers(0, 1000))
def test_collapse_takes_class_means_and_expand_repeats_them(ufm, seed):
    full = uf.UFM(
        ufm.K, ufm.d, ufm.counts, loss=ufm.loss_function, lambda_W=0.02, lambda_H=0.003,
        lambda_b=ufm.lambda_b, bias=ufm.bias, collapse=False, dtype=ufm.dtype,
    )  # fmt: skip
    p = full.random_point(seed, scale=1.0)
    means = [rows.mean(0, dtype=float) for rows in np.split(p.H, np.cumsum(ufm.counts)[:-1])]
    collapsed = ufm.collapse(p)
    assert np.abs(collapsed.H - means).max() <= {8: 1e-15, 4: 1e-6}[ufm.dtype.itemsize]
    expanded = ufm.expand(collapsed)
    assert (np.repeat(collapsed.H, ufm.counts, axis=0) == expanded.H).all()
    assert full.loss(expanded) <= full.loss(p) * (1 + tolerance(ufm.dtype))
    if ufm.collapse_classes:
        assert ufm.loss(collapsed) == pytest.approx(full.loss(expanded), rel=tolerance(ufm.dtype), abs=0)


def test_random_points_differ_by_seed_only():
    ufm = uf.UFM(4, 3, [1, 2, 3, 4], lambda_W=0.1, lambda_H=0.1)
    p, same, other = ufm.random_point(1), ufm.random_point(1), ufm.random_point(2)
    assert all((x == y).all() for x, y in zip(p, same, strict=True))
    assert (p.W != other.W).all()
    assert not uf.UFM(4, 3, lambda_W=0.1, lambda_H=0.1, bias=False).random_point(1).b.any()
    assert not any(part.any() for part in ufm.random_point(1, scale=0.0))


def test_models_can_be_pickled():
    ufm = uf.UFM(
        4, 3, [1, 2, 3, 4], loss=uf.CrossEntropy(0.1), lambda_W=0.1, lambda_H=0.2, lambda_b=0.3, collapse=False
    )
    twin = pickle.loads(pickle.dumps(ufm))
    assert repr(twin) == repr(ufm)
    assert twin.loss(ufm.random_point()) == ufm.loss(ufm.random_point())


# SciPy


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("collapse", [True, False])
def test_scipy_checks_the_gradient_and_minimises(loss, collapse):
    ufm = uf.UFM(4, 4, [3, 2, 2, 1], loss=loss, lambda_W=0.02, lambda_H=0.01, lambda_b=0.05, collapse=collapse)
    x = ufm.pack(ufm.random_point(1, scale=0.5))
    assert scipy.optimize.check_grad(ufm.fun, lambda y: ufm.fun_and_grad(y)[1], x) < 1e-6
    first = scipy.optimize.minimize(ufm.fun_and_grad, x, jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 0})
    second = scipy.optimize.minimize(ufm.fun_and_grad, x, jac=True, hessp=ufm.hessp, method="trust-ncg", tol=1e-9)
    assert first.fun == pytest.approx(second.fun, rel=1e-12, abs=0)
    assert np.abs(ufm.fun_and_grad(second.x)[1]).max() <= 1e-7


# Arguments


def test_read_only_points_are_fine():
    ufm = uf.UFM(4, 3, lambda_W=0.1, lambda_H=0.1)
    p = ufm.random_point()
    expected = ufm.loss(p)
    for part in p:
        part.flags.writeable = False
    x = ufm.pack(p)
    x.flags.writeable = False
    assert ufm.loss(p) == ufm.loss_and_grad(p)[0] == ufm.fun(x) == ufm.fun_and_grad(x)[0] == expected
    assert (ufm.pack(ufm.hvp(p, p)) == ufm.hessp(x, x)).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_points_are_not_copied(dtype):
    ufm = uf.UFM(100, 2000, lambda_W=0.1, lambda_H=0.1, dtype=dtype)
    p = ufm.random_point()
    x = ufm.pack(p)
    ufm.loss(p)
    tracemalloc.start()
    try:
        ufm.loss(p)
        ufm.fun(x)
        assert tracemalloc.get_traced_memory()[1] < p.W.nbytes // 10
        tracemalloc.reset_peak()
        gradient = ufm.fun_and_grad(x)[1]
        assert tracemalloc.get_traced_memory()[1] < 1.1 * gradient.nbytes
    finally:
        tracemalloc.stop()
