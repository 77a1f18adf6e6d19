"""Spectral densities and closed-form spectra against dense eigendecompositions of the oracle's Hessian."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

import ufm_fast as uf
from oracle import Oracle

BALANCED = [
    (6, 7, 3, {"lambda_b": 1e-2}),
    (4, 3, 1, {"lambda_b": 0.0}),
    (5, 5, 2, {"bias": False}),
    (2, 2, 3, {"lambda_b": 1e-2}),
    (2, 1, 2, {"bias": False}),
    (3, 4, 2, {"lambda_b": 1e-2}),
    (6, 7, 3, {"lambda_b": 1e-3, "loss": "mse"}),
    (5, 4, 2, {"lambda_b": 0.0, "loss": "mse"}),
    (2, 3, 2, {"lambda_b": 0.0, "loss": "mse"}),
]


def model(K, d, n, **options):
    return uf.UFM(K, d, n, lambda_W=3e-2, lambda_H=3e-3, **options)


def dense_eigenvalues(ufm, p):
    """Of the full-sample Hessian, from a point with class means or with all samples."""
    oracle = Oracle.of(ufm).full()
    full = ufm.expand(p) if ufm.collapse_classes else p
    return np.linalg.eigvalsh(oracle.hessian(*full))


@pytest.mark.parametrize(("K", "d", "n", "options"), BALANCED, ids=str)
def test_closed_form(K, d, n, options):
    ufm = model(K, d, n, **options)
    values, multiplicities = uf.closed_form_spectrum(ufm)
    assert (np.diff(values) > 0).all()
    eigenvalues = dense_eigenvalues(ufm, uf.global_minimum(ufm).point)
    np.testing.assert_allclose(np.repeat(values, multiplicities), eigenvalues, rtol=0, atol=1e-14)
    zeros = (K - 1) * (2 * d - K) // 2 + (ufm.bias and ufm.lambda_b == 0 and "loss" not in options)
    assert multiplicities[values == 0].sum() == zeros


def test_closed_form_is_refused_where_it_is_not_known():
    for ufm in (
        model(4, 4, [3, 3, 3, 2]),
        model(4, 2, 3),
        model(4, 4, 3, loss=uf.CrossEntropy(0.1)),
        model(4, 4, 3, loss="mse", bias=False),
        uf.UFM(4, 4, 3, lambda_W=1.0, lambda_H=1.0),
    ):
        assert uf.closed_form_spectrum(ufm) is None


@pytest.mark.parametrize("collapse", [False, True])
@pytest.mark.parametrize("options", [{"lambda_b": 1e-2}, {"bias": False, "loss": "mse"}], ids=str)
def test_density_of_all_eigenvalues(options, collapse):
    ufm = model(5, 4, [4, 3, 1, 5, 2], collapse=collapse, **options)
    p = uf.saddle(ufm, 2)
    eigenvalues = dense_eigenvalues(ufm, p)
    found = uf.spectrum(ufm, p, probes=60, steps=70)
    assert found.exact is None
    assert found.size == len(eigenvalues)
    assert found.weights.sum() == pytest.approx(found.size, rel=1e-12)
    assert found.nodes[0] == pytest.approx(eigenvalues[0], rel=1e-9)
    assert found.nodes[-1] == pytest.approx(eigenvalues[-1], rel=1e-9)
    for power in (1, 2, 3):  # unbiased, with a variance of at most 2 |A^power|_F^2 / probes
        error = found.weights @ found.nodes**power - (eigenvalues**power).sum()
        assert abs(error) < 4 * np.sqrt(2 / 60 * (eigenvalues ** (2 * power)).sum())
    gaps = np.diff(eigenvalues)
    middles = (eigenvalues[:-1] + gaps / 2)[gaps > 1e-4]
    assert len(middles) > 5
    np.testing.assert_allclose(found.count_below(middles), np.searchsorted(eigenvalues, middles), atol=3)
    x = np.linspace(-1, 2, 20001)
    assert trapezoid(found.density(x, 1e-2), x) == pytest.approx(found.size, rel=1e-9)


def test_density_beside_the_closed_form():
    ufm = model(8, 8, 4, lambda_b=1e-2)
    p = uf.global_minimum(ufm).point
    found = uf.spectrum(ufm, p)
    values, multiplicities = found.exact
    exact = np.repeat(values, multiplicities)
    np.testing.assert_allclose(found.count_below([-1e-9, 1e-9]), [0, (exact == 0).sum()], atol=3)
    assert uf.spectrum(ufm, ufm.random_point(0), steps=3, probes=1).exact is None
    again = uf.spectrum(ufm, p)
    assert np.array_equal(found.nodes, again.nodes)


def test_arguments():
    ufm = model(3, 3, 2)
    p = ufm.random_point()
    for name in ("steps", "probes"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            uf.spectrum(ufm, p, **{name: 0})
    with pytest.raises(ValueError, match="width must be positive"):
        uf.spectrum(ufm, p, steps=2, probes=1).density(0.0, 0.0)
    with pytest.raises(ValueError, match="W must have shape"):
        uf.spectrum(ufm, uf.Point(p.W[:2], p.H, p.b))


@pytest.mark.parametrize(("n", "times"), [(1, 1), (7, 2)])
def test_progress_counts_the_random_vectors(n, times):
    ufm, calls = uf.UFM(3, 3, n, lambda_W=1e-2, lambda_H=1e-3), []
    found = uf.spectrum(ufm, ufm.random_point(0), probes=4, progress=lambda *call: calls.append(call))
    assert calls == [(done, 4 * times) for done in range(1, 4 * times + 1)]
    assert found.nodes.tolist() == uf.spectrum(ufm, ufm.random_point(0), probes=4).nodes.tolist()
    with pytest.raises(TypeError, match="progress must be callable, not 3"):
        uf.spectrum(ufm, ufm.random_point(0), progress=3)
