"""onc_metrics against the definitions in plain NumPy, and at exact minima of ordinal models."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special

import ufm_fast as uf


def example(K=4, d=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(K), rng.integers(1, 30, K)))
    return rng.standard_normal((1, d)), rng.standard_normal((len(labels), d)) + 0.3 * labels[:, None], labels


def by_definition(w, H, labels, thresholds, b):
    K = labels.max() + 1
    means = np.array([H[labels == q].mean(axis=0) for q in range(K)])
    counts = np.bincount(labels)
    z = means @ w + b
    projector = np.outer(w, w) / (w @ w)
    middle = (thresholds[:-1] + thresholds[1:]) / 2
    distance = abs(z[1:-1] - middle)
    cosines = means @ w / np.linalg.norm(means, axis=1) / np.linalg.norm(w)
    return {
        "onc1": ((H - means[labels]) ** 2).sum() / ((H - H.mean(axis=0)) ** 2).sum(),
        "onc2": (counts @ ((means - means @ projector) ** 2).sum(axis=1)) / (counts @ (means**2).sum(axis=1)),
        "onc3": max(0, (z[:-1] - z[1:]).max()) / (z.max() - z.min()),
        "violations": (z[:-1] > z[1:]).sum(),
        "onc3_midpoint": (2 * distance / np.diff(thresholds)).max(),
        "misalignment": 1 - abs(cosines),
        "scores": z,
        "midpoint_distance": np.array([np.nan, *distance, np.nan]),
    }


@pytest.mark.parametrize("seed", range(10))
def test_definitions(seed):
    w, H, labels = example(seed=seed)
    thresholds = np.array([-1.0, 0.2, 0.9])
    found = uf.onc_metrics(w, H, labels, thresholds, b=0.25)
    for name, value in by_definition(w[0], H, labels, thresholds, 0.25).items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-10, atol=1e-13, err_msg=name)
    assert found.counts.sum() == found.N == len(labels)


def ordinal_minimum(thresholds, counts, lambda_w, lambda_h):
    """Scores z_q at the minimum of the cumulative link model with all thresholds finite (logit), by root finding.

    l_q'(z_q) / N + tau z_q / |z|_n = 0 with |z|_n^2 = sum_q n_q z_q^2: for a given |z|_n each z_q is the root of an
    increasing function, and |z|_n is a root itself.
    """
    N, tau = counts.sum(), np.sqrt(lambda_w * lambda_h)

    def slope(z, low, high):
        return 1 - scipy.special.expit(high - z) - scipy.special.expit(low - z)

    def scores(size):
        return np.array(
            [
                scipy.optimize.brentq(lambda z, q=q: slope(z, *thresholds[q : q + 2]) / N + tau * z / size, -50, 50,
                                      xtol=1e-15, rtol=1e-15)
                for q in range(len(counts))
            ]
        )  # fmt: skip

    size = scipy.optimize.brentq(lambda s: np.sqrt(counts @ scores(s) ** 2) - s, 1e-3, 1e3, xtol=1e-14, rtol=1e-14)
    z = scores(size)
    w = np.random.default_rng(0).standard_normal(7)
    w *= (lambda_h / lambda_w) ** 0.25 * np.sqrt(size) / np.linalg.norm(w)
    return z, w, np.outer(z, w) / (w @ w)


@pytest.mark.parametrize("tau", [1e-4, 1e-7])
def test_vanish_at_the_minimum(tau):
    thresholds, counts = np.array([-3.0, -1.5, -0.5, 0.5, 1.5, 3.0]), np.array([40, 25, 10, 5, 20])
    z, w, means = ordinal_minimum(thresholds, counts, 10 * tau, tau / 10)
    labels = np.repeat(np.arange(5), counts)
    found = uf.onc_metrics(w, means[labels], labels, thresholds)
    assert max(found.onc1, found.onc2, found.onc3) < 1e-28
    assert found.violations == 0
    np.testing.assert_allclose(found.scores, z, rtol=1e-12, atol=1e-14)
    middles = (thresholds[:-1] + thresholds[1:]) / 2
    np.testing.assert_allclose(found.midpoint_distance, abs(z - middles), rtol=1e-9, atol=1e-12)
    assert found.onc3_midpoint < {1e-4: 0.5, 1e-7: 2e-3}[tau]


def test_thresholds():
    """All or the inner ones, given or learned; scores in the middle of their intervals."""
    w, labels = np.array([2.0, 0.0]), np.array([0, 1, 2, 3])
    H = np.array([-3.0, -0.5, 0.5, 4.0])[:, None] * [[0.5, 0.0]]
    inner = [-1.0, 0.0, 1.0]
    for found in (uf.onc_metrics(w, H, labels, inner), uf.onc_metrics(w, H, labels, b=inner)):
        np.testing.assert_allclose(found.midpoint_distance, [np.nan, 0, 0, np.nan])
        assert found.onc3_midpoint == 0
    full = uf.onc_metrics(w, H, labels, [-4.0, *inner, 5.0])
    np.testing.assert_allclose(full.midpoint_distance, [0.5, 0, 0, 1])
    assert full.onc3_midpoint == pytest.approx(0.5)
    infinite = uf.onc_metrics(w, H, labels, [-np.inf, *inner, np.inf])
    assert infinite.onc3_midpoint == 0
    assert np.isnan(uf.onc_metrics(w, H, labels).onc3_midpoint)
    moved = uf.onc_metrics(w, H, labels, inner, b=[0.25])
    np.testing.assert_allclose(moved.midpoint_distance[1:3], 0.25)


def test_absent_level_and_vanishing_mean():
    w, labels = np.array([[1.0, 0.0]]), np.array([0, 0, 2, 3])
    H = np.array([[-1.0, 0.5], [-1.0, -0.5], [0.0, 0.0], [2.0, 0.0]])
    found = uf.onc_metrics(w, H, labels, [-0.5, -0.2, 1.0])
    np.testing.assert_array_equal(found.counts, [2, 0, 1, 1])
    np.testing.assert_allclose(found.scores, [-1, np.nan, 0, 2])
    np.testing.assert_allclose(found.misalignment, [0, np.nan, np.nan, 0])
    assert found.violations == 0
    assert found.onc2 == 0
    assert found.onc1 == pytest.approx(0.5 / ((H - H.mean(axis=0)) ** 2).sum())


def test_undefined():
    with pytest.warns(RuntimeWarning, match="ONC1 is undefined"):
        found = uf.onc_metrics(np.ones(3), np.ones((4, 3)), [0, 1, 2, 2])
    assert np.isnan(found.onc1)
    assert found.onc2 < 1e-30
    with pytest.warns(RuntimeWarning, match="ONC2 is undefined"):
        found = uf.onc_metrics(np.zeros(3), np.eye(3), [0, 1, 2])
    assert np.isnan(found.onc2)
    assert found.onc3 == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"W": np.ones((2, 3))}, ValueError, r"W must have shape \(1, d\)"),
        ({"W": [np.nan, 1, 1]}, ValueError, "W must be finite"),
        ({"H": np.ones((9, 4))}, ValueError, "H must have shape"),
        ({"H": np.full((9, 3), np.nan)}, ValueError, "H must be finite"),
        ({"labels": np.zeros(9, int)}, ValueError, "labels must be levels"),
        ({"labels": np.arange(9) - 1}, ValueError, "labels must be levels"),
        ({"labels": np.ones(9)}, TypeError, "labels must be integers"),
        ({"labels": np.arange(8)}, ValueError, "labels must have shape"),
        ({"thresholds": [0.0, 1.0, 2.0]}, ValueError, "thresholds must be K - 1 = 8 or K \\+ 1 = 10 numbers"),
        ({"thresholds": np.arange(8)[::-1]}, ValueError, "thresholds must ascend"),
        ({"thresholds": [np.nan] * 8}, ValueError, "thresholds must ascend"),
        ({"thresholds": ["a"] * 8}, TypeError, "thresholds must be real numbers"),
        ({"thresholds": np.arange(8), "b": np.ones(8)}, ValueError, "b must be a number"),
        ({"b": np.nan}, ValueError, "b must be finite"),
        ({"b": np.ones(8)}, ValueError, "b must ascend"),
    ],
)
def test_refused(change, error, message):
    arguments = {"W": np.ones((1, 3)), "H": np.ones((9, 3)), "labels": np.arange(9), **change}
    with pytest.raises(error, match=message):
        uf.onc_metrics(**arguments)


def test_table():
    found = uf.onc_metrics(np.ones(3), np.random.default_rng(0).standard_normal((9, 3)), np.arange(9) // 3, [0.0, 1])
    heading, _, *rows = str(found).splitlines()
    assert heading == "K = 3, d = 3, N = 9"
    for row, name in zip(rows, ("onc1", "onc2", "onc3", "violations", "onc3_midpoint"), strict=True):
        assert row.split() == [name, f"{getattr(found, name):.4g}", "0"]
