"""Certificates of the family of losses: against exact minima in 50 digits, and at the ends of descents."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ufm_fast as uf

BIASES = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 0.02}]


def losses_of(K, rng):
    scale, shift, margin = np.exp(rng.uniform(-1, 1, K)), 2 * rng.standard_normal(K), rng.uniform(0, 2, K)
    return {
        "scale": uf.CrossEntropy(scale=scale),
        "shift": uf.CrossEntropy(0.1, shift=shift),
        "margin": uf.CrossEntropy(margin=margin),
        "all": uf.CrossEntropy(0.05, scale, shift, margin),
        "bce": uf.BinaryCrossEntropy(),
        "smoothed bce": uf.BinaryCrossEntropy(0.1),
        "mse": uf.MSE(),
    }


NAMES = list(losses_of(2, np.random.default_rng(0)))


def exact_loss(loss, z, label):
    """The loss of logits and a label in mpmath, and its gradient."""
    K = len(z)
    if isinstance(loss, uf.MSE):
        rest = [z[k] - (k == label) for k in range(K)]
        return sum(r * r for r in rest) / 2, rest
    a = mpmath.mpf(loss.label_smoothing)
    if isinstance(loss, uf.BinaryCrossEntropy):
        t = [(1 - a) * (k == label) + a / 2 for k in range(K)]
        value = sum(mpmath.log1p(mpmath.exp(z[k])) - t[k] * z[k] for k in range(K))
        return value, [1 / (1 + mpmath.exp(-z[k])) - t[k] for k in range(K)]
    scale = [mpmath.mpf(x) for x in loss.scale or [1] * K]
    shift = [mpmath.mpf(x) for x in loss.shift or [0] * K]
    margin = [mpmath.mpf(x) for x in loss.margin or [0] * K]
    logits = [scale[k] * z[k] + shift[k] - (margin[k] if k == label else 0) for k in range(K)]
    t = [(1 - a) * (k == label) + a / K for k in range(K)]
    total = sum(map(mpmath.exp, logits))
    value = mpmath.log(total) - sum(t[k] * logits[k] for k in range(K))
    return value, [scale[k] * (mpmath.exp(logits[k]) / total - t[k]) for k in range(K)]


def exact_minimum(loss, label, weight, threshold, start):
    """Of weight loss(z) + threshold |z|, one row's convex problem, by Newton's method in 50 digits from near it."""

    def gradient(*z):
        norm = mpmath.sqrt(sum(x * x for x in z))
        return [weight * g + threshold * x / norm for g, x in zip(exact_loss(loss, z, label)[1], z, strict=True)]

    z = mpmath.findroot(gradient, [mpmath.mpf(x) for x in start], tol=1e-80, maxsteps=60)
    return weight * exact_loss(loss, list(z), label)[0] + threshold * mpmath.norm(z)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_one_row_against_fifty_digits(name, seed):
    """With one row and no bias the convex problem is weight loss(z) + tau sqrt(ridge) |z|."""
    rng = np.random.default_rng(seed)
    K, label = int(rng.integers(2, 5)), 0
    loss = losses_of(K, rng)[name]
    ridge, decay = float(rng.uniform(0.5, 3)), float(10 ** rng.uniform(-4, -1.5))
    ufm = uf.UFM(K, K, targets=[label], ridges=ridge, loss=loss, lambda_W=decay, lambda_H=decay, bias=False)
    found = uf.minimize(ufm, tol=1e-11)
    with mpmath.workdps(50):
        threshold = mpmath.mpf(ufm.lambda_W) * mpmath.sqrt(mpmath.mpf(ridge))  # lambda_W = lambda_H = tau
        logits = found.point.W @ found.point.H[0]
        least = exact_minimum(loss, label, 1, threshold, logits)
        assert least * (1 - mpmath.mpf(1e-11)) <= found.certificate.lower_bound <= least
        assert abs(found.fun - least) <= found.certificate.rounding + 1e-11 * least
        for scale in (1e-3, 0.1, 1.0, 10.0):
            certificate = uf.certify(ufm, ufm.random_point(seed, scale))
            assert certificate.lower_bound <= least
        near = found.point._replace(W=found.point.W * (1 + 1e-6), H=found.point.H * (1 - 2e-6))
        assert least * (1 - mpmath.mpf(1e-4)) <= uf.certify(ufm, near).lower_bound <= least


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(range(3)), st.booleans(), st.integers(0, 10**6))
def test_descents_from_anywhere_end_certified_at_one_value(name, bias, weighted, seed):
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 8))
    loss, lambda_W = losses_of(K, rng)[name], 10 ** rng.uniform(-3.5, -1)
    n = rng.integers(1, 60, K)
    weights = np.exp(rng.uniform(-1, 1, K)) if weighted else None
    lambda_H = lambda_W / n.mean() * 10 ** rng.uniform(-1, 1)
    ufm = uf.UFM(K, K + 1, n, weights=weights, loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, **BIASES[bias])
    zero = uf.Point(np.zeros((K, K + 1)), np.zeros((K, K + 1)), np.zeros(K))
    ends = [uf.minimize(ufm, start) for start in (None, zero, ufm.random_point(seed))]
    assert all(end.success for end in ends)
    best = min(end.fun for end in ends)
    assert max(end.fun for end in ends) <= best * (1 + 1e-7)
    for bound in (end.certificate.lower_bound for end in ends):
        assert bound <= best + ends[0].certificate.rounding
    for scale in (0.01, 1.0, 10.0):
        assert uf.certify(ufm, ufm.random_point(seed, scale)).lower_bound <= best + ends[0].certificate.rounding


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("kind", [None, 0, 1], ids=["minimum", "zero", "rank 1"])
def test_classify_agrees_with_the_dense_hessian(name, bias, kind):
    rng = np.random.default_rng(5)
    K, n = 4, np.array([30, 12, 12, 5])
    loss = losses_of(K, rng)[name]
    options = {"weights": [1, 1.5, 2, 3], "loss": loss, "lambda_W": 0.01, "lambda_H": 5e-4, **bias}
    ufm = uf.UFM(K, K, n, **options)
    p = uf.minimize(ufm, tol=1e-10).point if kind is None else uf.saddle(ufm, kind)
    scale = np.concatenate([np.ones(K * K), np.repeat(n**-0.5, K), np.ones(K * ufm.bias)])
    dense = scale[:, None] * (ufm.hessian(p) @ np.eye(ufm.size)) * scale
    lowest = np.linalg.eigvalsh(dense)[0]
    found = uf.classify(ufm, p)
    assert found.kind == ("global_minimum" if kind is None else "strict_saddle")
    if kind is not None:
        assert found.lowest_eigenvalue == pytest.approx(lowest, rel=1e-8)
        flat = scale**-1 * ufm.pack(found.direction)
        assert flat @ flat == pytest.approx(1, rel=1e-12)
        assert flat @ dense @ flat == pytest.approx(lowest, rel=1e-6)


def regression(seed, M=40, K=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((M, K)) @ rng.standard_normal((K, K)) + rng.standard_normal(K)


@pytest.mark.parametrize("bias", BIASES[:2], ids=str)
@pytest.mark.parametrize("cc", [1e-3, 0.3, 2.0, 1e3])
def test_regression_has_the_published_closed_form(bias, cc):
    """Of Andriopoulos et al. 2024, arXiv 2409.04180, where no s_j is below cc; with the positive part otherwise."""
    Y, N, d = regression(0), 40, 5
    lambda_W = 0.02
    lambda_H = cc / (N * lambda_W)
    ufm = uf.UFM(3, d, targets=Y, loss="mse", lambda_W=lambda_W, lambda_H=lambda_H, **bias)
    centred = Y - Y.mean(axis=0) if ufm.bias else Y
    s, V = np.linalg.eigh(centred.T @ centred / N)
    value = np.where(s > cc, np.sqrt(cc * s) - cc / 2, s / 2).sum()
    root = np.sqrt(N * lambda_H / lambda_W) * (V * np.maximum(np.sqrt(s) - np.sqrt(cc), 0)) @ V.T
    best = uf.global_minimum(ufm)
    assert best.method == "closed_form"
    assert best.value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(best.point.W @ best.point.W.T, root, atol=1e-12 * max(1, abs(root).max()))
    assert best.certificate.relative_gap < 1e-12
    assert uf.minimize(ufm, ufm.random_point(0)).fun == pytest.approx(value, rel=1e-8)
    nrc = uf.nrc_metrics(best.point.W, best.point.H, Y, bias=ufm.bias) if root.any() else None
    assert nrc is None or max(nrc.nrc1, nrc.nrc2, nrc.nrc3_positive) < 1e-12
