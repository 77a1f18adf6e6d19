"""The data term alone against NumPy: values, gradients, Hessian products, what is left out and what is refused."""

import numpy as np
import pytest
import scipy.sparse
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from ufm_fast._networks import linear_cross_entropy as module

K, D, N = 7, 4, 23
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, K, N)
SOFT = RNG.dirichlet(np.ones(K), N)
SCALE, SHIFT, MARGIN = RNG.uniform(0.5, 2, K), RNG.standard_normal(K), RNG.uniform(0, 1, K)
ONE_HOT = np.eye(K)[LABELS]


def arrays(dtype="float64", seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((K, D), (N, D), K)]


def entropy(Z, T, smoothing=0.0):
    T = (1 - smoothing) * T + smoothing / K
    return scipy.special.logsumexp(Z, axis=1) - (T * Z).sum(axis=1), scipy.special.softmax(Z, axis=1) - T


def affine(Z, T):
    values, residual = entropy(Z * SCALE + SHIFT - T * MARGIN, T)
    return values, residual * SCALE


CASES = {  # losses of rows and their derivatives in the logits, by definition
    "labels": ("cross_entropy", LABELS, lambda Z: entropy(Z, ONE_HOT)),
    "smoothed": (uf.CrossEntropy(label_smoothing=0.2), LABELS, lambda Z: entropy(Z, ONE_HOT, 0.2)),
    "affine": (uf.CrossEntropy(scale=SCALE, shift=SHIFT, margin=MARGIN), LABELS, lambda Z: affine(Z, ONE_HOT)),
    "soft": ("cross_entropy", SOFT, lambda Z: entropy(Z, SOFT)),
    "sparse": ("cross_entropy", scipy.sparse.csr_array(ONE_HOT), lambda Z: entropy(Z, ONE_HOT)),
    "mse": ("mse", LABELS, lambda Z: (((Z - ONE_HOT) ** 2).sum(axis=1) / 2, Z - ONE_HOT)),
    "bce": (
        "bce", LABELS,
        lambda Z: ((np.logaddexp(0, Z) - ONE_HOT * Z).sum(axis=1), scipy.special.expit(Z) - ONE_HOT),
    ),
}  # fmt: skip


def by_definition(W, H, b, case, weights, reduction):
    values, residual = CASES[case][2](H @ W.T + b)
    each = weights / len(H) if reduction == "mean" else weights
    G = residual * each[:, None]
    return values * each if reduction == "none" else values @ each, (G.T @ H, G @ W, G.sum(axis=0))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_by_definition(case, reduction):
    W, H, b = arrays()
    weights = np.random.default_rng(2).uniform(0, 2, N)
    weights[3] = 0
    loss, labels, _ = CASES[case]
    for given_weights, each in ((None, np.ones(N)), (weights, weights)):
        for bias in (b, None):
            options = {"loss": loss, "weights": given_weights, "reduction": reduction}
            value, gradient = uf.linear_cross_entropy(W, H, labels, bias, **options)
            expected = by_definition(W, H, 0 if bias is None else b, case, each, reduction)
            np.testing.assert_allclose(value, expected[0], rtol=1e-13, atol=1e-15)
            for found, wanted in zip(gradient, expected[1], strict=True):
                if found is None:
                    assert bias is None
                else:
                    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_hessian_products_are_differences_of_gradients(case):
    W, H, b = arrays()
    V = arrays(seed=5)
    loss, labels, _ = CASES[case]
    weights = np.random.default_rng(2).uniform(0, 2, N)
    options = {"loss": loss, "weights": weights, "reduction": "mean"}
    step = 1e-6
    ends = [
        uf.linear_cross_entropy(W + s * V[0], H + s * V[1], labels, b + s * V[2], **options)[1] for s in (step, -step)
    ]
    found = uf.linear_cross_entropy_hvp(W, H, labels, V, b, **options)
    for product, up, down in zip(found, *ends, strict=True):
        np.testing.assert_allclose(product, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)
    without = uf.linear_cross_entropy_hvp(W, H, labels, (V[0], V[1], None), **options)
    assert without[2] is None


@pytest.mark.parametrize("case", ["labels", "smoothed", "affine", "soft"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_logsumexp(case, dtype):
    W, H, b = arrays(dtype)
    b += 100  # a common shift, which the core takes out
    loss, labels, _ = CASES[case]
    _, _, found = uf.linear_cross_entropy(W, H, labels, b, loss=loss, return_logsumexp=True)
    Z = (H @ W.T + b).astype(float)
    if case == "affine":
        Z = Z * SCALE + SHIFT - ONE_HOT * MARGIN
    np.testing.assert_allclose(found, scipy.special.logsumexp(Z, axis=1), rtol=1e-13 if dtype == "float64" else 3e-6)


@given(st.lists(st.integers(-2, K - 1), min_size=1, max_size=40), st.sampled_from(["mean", "sum", "none"]))
def test_rows_that_are_left_out(labels, reduction):
    """As if they were not there, and their features may be anything finite."""
    labels = np.array(labels)
    W, _, b = arrays()
    H = np.random.default_rng(3).standard_normal((len(labels), D))
    kept = labels >= 0
    ignored = {"ignore_index": [-1, -2]}
    if not kept.any() and reduction == "mean":
        with pytest.raises(ValueError, match="labels must leave some rows for their mean"):
            uf.linear_cross_entropy(W, H, labels, b, **ignored)
        return
    options = {"reduction": reduction, "return_logsumexp": True}
    value, gradient, logsumexp = uf.linear_cross_entropy(W, H, labels, b, **ignored, **options)
    alone, parts, of_kept = uf.linear_cross_entropy(W, H[kept], labels[kept], b, **options)
    for whole, part, fill in ((gradient[1], parts[1], 0), (logsumexp, of_kept, np.nan)):
        assert np.array_equal(whole[kept], part)
        np.testing.assert_array_equal(whole[~kept], fill)
    assert np.array_equal(gradient[0], parts[0])
    if reduction == "none":
        assert np.array_equal(value[kept], alone)
        assert not value[~kept].any()
    else:
        assert value == alone
    masked = np.ma.masked_array(np.maximum(labels, 0), ~kept)
    again = uf.linear_cross_entropy(W, H, masked, b, **options)
    assert np.array_equal(again[1][1], gradient[1])
    V = (W, H, b)
    product = uf.linear_cross_entropy_hvp(W, H, labels, V, b, **ignored, reduction="sum")
    of_kept = uf.linear_cross_entropy_hvp(W, H[kept], labels[kept], (W, H[kept], b), b, reduction="sum")
    assert np.array_equal(product[0], of_kept[0])
    assert np.array_equal(product[1][kept], of_kept[1])
    assert not product[1][~kept].any()


def test_dense_targets_in_blocks(monkeypatch):
    W, H, b = arrays()
    whole = uf.linear_cross_entropy(W, H, SOFT, b, reduction="none", return_logsumexp=True)
    product = uf.linear_cross_entropy_hvp(W, H, SOFT, (W, H, b), b)
    monkeypatch.setattr(module, "_NUMBERS", 5 * K)
    blocks = uf.linear_cross_entropy(W, H, SOFT, b, reduction="none", return_logsumexp=True)
    for one, other in zip(
        (whole[0], *whole[1], whole[2], *product),
        (blocks[0], *blocks[1], blocks[2], *uf.linear_cross_entropy_hvp(W, H, SOFT, (W, H, b), b)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    wrong = SOFT.copy()
    wrong[12, 0] += 1
    with pytest.raises(ValueError, match=r"row 2 sums to .* \(counted from row 10\)"):
        uf.linear_cross_entropy(W, H, wrong, b)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_batches_agree_with_numpy(dtype):
    """Beyond what is done inline, with packed products and without."""
    for classes, d in ((300, 40), (70, 300)):
        rng = np.random.default_rng(4)
        W, H = ((rng.standard_normal((rows, d)) / np.sqrt(d)).astype(dtype) for rows in (classes, 900))
        b, labels = rng.standard_normal(classes).astype(dtype), rng.integers(0, classes, 900)
        value, gradient = uf.linear_cross_entropy(W, H, labels, b, threads=2)
        Z = H.astype(float) @ W.T.astype(float) + b
        G = (scipy.special.softmax(Z, axis=1) - np.eye(classes)[labels]) / 900
        rel = 1e-12 if dtype == "float64" else 1e-4
        assert value == pytest.approx(np.mean(scipy.special.logsumexp(Z, axis=1) - Z[np.arange(900), labels]), rel=rel)
        for found, wanted in zip(gradient, (G.T @ H, G @ W, G.sum(axis=0)), strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, wanted, rtol=rel, atol=rel * abs(wanted).max())


@pytest.mark.parametrize(("classes", "d"), [(11_000, 3), (90_000, 50)])  # one tile, and two for which W is packed anew
def test_many_classes_agree_with_numpy(classes, d):
    rng = np.random.default_rng(5)
    W, H = (rng.standard_normal((rows, d), dtype="float32") for rows in (classes, 205))
    b, labels = rng.standard_normal(classes, dtype="float32"), rng.integers(0, classes, 205)
    Z = H @ W.T + b
    logsumexp = scipy.special.logsumexp(Z, axis=1)
    G = np.exp(Z - logsumexp[:, None]) / 205
    G[np.arange(205), labels] -= 1 / 205
    for threads in (1, 3):
        value, gradient, found = uf.linear_cross_entropy(W, H, labels, b, return_logsumexp=True, threads=threads)
        assert value == pytest.approx(np.mean(logsumexp - Z[np.arange(205), labels]), rel=1e-5)
        np.testing.assert_allclose(found, logsumexp, rtol=1e-5)
        for part, wanted in zip(gradient, (G.T @ H, G @ W, G.sum(axis=0)), strict=True):
            np.testing.assert_allclose(part, wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max())
        again = uf.linear_cross_entropy(W, H, labels, b, threads=threads)[1]
        assert all(np.array_equal(*parts) for parts in zip(gradient, again, strict=True))


def test_many_classes_with_what_is_not_finite():
    W, H, labels = np.zeros((11_000, 2), "float32"), np.ones((300, 2), "float32"), np.zeros(300, int)
    for array, name in ((W, "W"), (H, "H")):
        array[-1, 1] = np.nan
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            uf.linear_cross_entropy(W, H, labels, threads=2)
        array[-1, 1] = 1
    with pytest.raises(FloatingPointError, match="overflows float32"):
        uf.linear_cross_entropy(W + np.float32(1e30), H * np.float32(1e30), labels, threads=2)


def test_gradients_into_given_arrays():
    W, H, b = arrays("float32")
    value, expected = uf.linear_cross_entropy(W, H, LABELS, b)
    out = np.full_like(W, np.nan), np.full_like(H, np.nan), np.full_like(b, np.nan)
    again, found = uf.linear_cross_entropy(W, H, LABELS, b, out=out)
    assert value == again
    for given_array, returned, wanted in zip(out, found, expected, strict=True):
        assert returned is given_array
        assert np.array_equal(returned, wanted)
    ignored = np.where(np.arange(N) < 3, -100, LABELS)
    uf.linear_cross_entropy(W, H, ignored, b, ignore_index=-100, out=out)
    assert not out[1][:3].any()
    assert out[1][3:].any(axis=1).all()


W0, H0, B0 = arrays()
REFUSED = [
    ({"W": W0.astype("float16")}, TypeError, "W must be a NumPy array of float32 or float64, not float16"),
    ({"W": W0.tolist()}, TypeError, "W must be a NumPy array of float32 or float64, not list"),
    ({"H": H0.astype("float32")}, TypeError, "H must be float64, as W is, not float32"),
    ({"b": B0.astype("float32")}, TypeError, "b must be float64, as W is, not float32"),
    ({"H": H0.T.copy()}, ValueError, rf"H must have shape \(N, {D}\), as W has"),
    ({"H": H0[0]}, ValueError, "H must have two dimensions"),
    ({"H": np.asfortranarray(H0)}, ValueError, "H must be a C-contiguous"),
    ({"b": B0[:2]}, ValueError, "b must be a C-contiguous"),
    ({"H": np.where(np.arange(D) == 1, np.nan, H0)}, ValueError, "H must be finite, but entry 1"),
    ({"labels": LABELS[:3]}, ValueError, "labels must have shape"),
    ({"labels": LABELS + 1}, ValueError, rf"labels must lie in \[0, {K}\)"),
    ({"labels": LABELS / 1.0}, TypeError, "labels must be integers"),
    ({"labels": SOFT[:, 1:]}, ValueError, f"labels must have a column for each of the K = {K} rows of W"),
    ({"labels": SOFT[1:]}, ValueError, f"labels must have {N} rows"),
    ({"labels": 2 * SOFT}, ValueError, "sums to 2"),
    ({"labels": SOFT, "ignore_index": -1}, ValueError, "ignore_index must be None where labels are targets"),
    ({"weights": np.ones(3)}, ValueError, rf"weights must have shape \({N},\)"),
    ({"weights": -np.ones(N)}, ValueError, "weights must be finite and not negative, but number 0 is not"),
    ({"reduction": "average"}, ValueError, "reduction must be 'mean', 'sum' or 'none'"),
    ({"loss": uf.Ordinal([0.0])}, ValueError, "loss must have a logit a class"),
    ({"loss": uf.CrossEntropy(scale=[1.0, 2.0])}, ValueError, f"scale must hold a number for each of the K = {K}"),
    ({"loss": "mse", "return_logsumexp": True}, ValueError, "return_logsumexp must be False for squared error"),
    ({"threads": 0}, ValueError, "threads"),
    ({"out": (W0, H0.copy(), B0.copy())}, ValueError, r"out\[0\] must not overlap W, H or b"),
    ({"out": (W0.copy(), H0[1:].copy(), B0.copy())}, ValueError, r"out\[1\] must have shape"),
    ({"out": (W0.copy(), H0.copy(), None)}, ValueError, "out must be three"),
    ({"out": (W0[:2].copy(), H0.copy(), B0.copy())}, ValueError, r"out\[0\] must be a C-contiguous"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED)
def test_what_is_refused(change, error, message):
    arguments = {"W": W0, "H": H0, "labels": LABELS, "b": B0} | change
    with pytest.raises(error, match=message):
        uf.linear_cross_entropy(**arguments)


def test_arrays_that_cannot_be_written():
    out = W0.copy(), H0.copy(), B0.copy()
    out[1].flags.writeable = False
    with pytest.raises(ValueError, match=r"out\[1\] must be writable"):
        uf.linear_cross_entropy(W0, H0, LABELS, B0, out=out)


def test_overflow():
    W, H = (np.full((3, 2), 1e30, "float32") * [[1], [2], [3]] for _ in range(2))
    with pytest.raises(FloatingPointError, match="overflows float32"):
        uf.linear_cross_entropy(W.astype("float32"), H.astype("float32"), [0, 1, 2])
