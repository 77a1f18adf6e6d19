"""Very wide models: certificates, kinds and eigenpairs are those of as many features as the rows span."""

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._model.narrowed import narrowed, widened

OPTIONS = {"lambda_W": 5e-3, "lambda_H": 2e-3, "lambda_b": 0.1}


def embedded(p, d, seed=0):
    """p in d features, along random axes."""
    axes = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, p.W.shape[1])))[0]
    turned = (np.ascontiguousarray((part @ axes.T).astype(part.dtype)) for part in (p.W, p.H))
    return uf.Point(*turned, p.b)


def models(dtype="float64", d=200, collapse=True):
    return [uf.UFM(4, d, [5, 3, 2, 1], **OPTIONS, dtype=dtype, collapse=collapse) for d in (9, d)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rank", [1, 2, None])
def test_kinds_and_bounds_are_those_of_a_narrow_model(rank, dtype):
    few, many = models(dtype)
    p = few.random_point(1) if rank is None else uf.saddle(few, rank)
    q = embedded(p, many.d)
    narrow, wide = uf.classify(few, p), uf.classify(many, q)
    assert wide.kind == narrow.kind
    assert wide.rank == narrow.rank
    rel = 1e-10 if dtype == "float64" else 1e-4
    assert wide.lowest_eigenvalue_bounds == pytest.approx(narrow.lowest_eigenvalue_bounds, rel=rel)
    for made in (uf.certify(many, q), wide.certificate):
        reference = uf.certify(few, p) if made is not wide.certificate else narrow.certificate
        assert made.lower_bound == pytest.approx(reference.lower_bound, rel=rel)
        assert made.spectral_norm == pytest.approx(reference.spectral_norm, rel=rel)
        double = uf.UFM(4, many.d, [5, 3, 2, 1], **OPTIONS)
        assert made.loss == double.loss(uf.Point(*(part.astype(float) for part in q)))  # of the point itself
    if wide.kind == "strict_saddle":
        v = wide.direction
        assert v.W.shape == (4, many.d)
        assert v.W.dtype == dtype
        curvature = sum(np.vdot(x, y) for x, y in zip(v, many.hvp(q, v), strict=True))
        assert curvature == pytest.approx(wide.lowest_eigenvalue, rel=1e-8 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("deflate", [None, True, False])
@pytest.mark.parametrize("critical", [True, False])
def test_eigenpairs_against_the_dense_hessian(critical, deflate):
    few, many = models(d=60)
    p = uf.saddle(few, 2) if critical else few.random_point(3)
    q = embedded(p, many.d)
    found = uf.lowest_eigenpairs(many, q, 5, deflate=deflate)
    hessian = many.hessian(q, coordinates="samples") @ np.eye(many.size)
    if found.deflated:
        projector = many.rotations(q, coordinates="samples")
        assert found.deflated == projector.dimension
        across = np.eye(many.size) - projector @ np.eye(many.size)
        hessian = across @ hessian @ across + 1e3 * (np.eye(many.size) - across)
    values = np.linalg.eigvalsh(hessian)[:5]
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-7, atol=1e-9)
    root = np.sqrt(many.metric)
    for value, v in zip(found.eigenvalues, found.vectors, strict=True):
        x = root * many.pack(v)
        assert np.linalg.norm(x) == pytest.approx(1, rel=1e-10)
        assert np.linalg.norm(hessian @ x - value * x) < 1e-6


def test_samples_in_many_features():
    few, many = models(collapse=False)
    p = few.expand(uf.saddle(uf.UFM(4, 9, [5, 3, 2, 1], **OPTIONS), 1))
    q = embedded(p, many.d)
    assert uf.classify(many, q).kind == "strict_saddle"
    assert uf.certify(many, q).lower_bound == pytest.approx(uf.certify(few, p).lower_bound, rel=1e-10)


def test_a_hundred_thousand_features():
    ufm = uf.UFM(6, 100_000, [5, 4, 3, 2, 2, 1], **OPTIONS)  # d x d numbers would be 80 GB
    p = uf.saddle(ufm, 2)
    found = uf.classify(ufm, p)
    assert found.kind == "strict_saddle"
    assert uf.lowest_eigenpairs(ufm, p).eigenvalues[0] == pytest.approx(found.lowest_eigenvalue, rel=1e-10)
    assert uf.classify(ufm, uf.minimize(ufm).point).kind == "global_minimum"


def test_the_axes_are_orthonormal_where_rows_depend_on_each_other():
    _, many = models()
    q = many.unpack(np.zeros(many.size))
    narrow, p, axes = narrowed(many, q, spare=2)
    np.testing.assert_allclose(axes.T @ axes, np.eye(10), atol=1e-14)
    assert narrow.d == 10
    assert not p.W.any()
    q = embedded(models()[0].random_point(0), many.d)
    back = widened(narrowed(many, q)[1], narrowed(many, q)[2], many.dtype)
    np.testing.assert_allclose(back.H, q.H, atol=1e-14)
