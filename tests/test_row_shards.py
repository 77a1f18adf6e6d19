"""Parts of a model's rows: their values, gradients and products add up to the whole's."""

import pickle

import numpy as np
import pytest
import scipy.sparse

import ufm_fast as uf

K, D = 6, 4
DECAYS = {"lambda_W": 2e-2, "lambda_H": 3e-3, "lambda_b": 0.05}
COUNTS = [5, 1, 2, 7, 3, 1]
LABELS = np.array([3, 0, 5, 5, 1, 2, 4, 0, 3, 3, 2])
SOFT = np.random.default_rng(1).dirichlet(np.ones(K), 11)


def classes(**options):
    return uf.UFM(K, D, COUNTS, **DECAYS, **options)


def of_targets(targets, **options):
    n = np.linspace(0.5, 3, 11)
    return uf.UFM(K, D, n, targets=targets, weights=n[::-1], ridges=n**2, **DECAYS, **options)


AFFINE = uf.CrossEntropy(0.1, scale=np.linspace(0.5, 2, K), shift=np.arange(K), margin=np.linspace(0, 1, K))
MODELS = {
    "classes": lambda **o: classes(**o),
    "weighted classes": lambda **o: classes(weights=[1, 2, 3, 1, 2, 0.1], loss="mse", **o),
    "samples": lambda **o: classes(collapse=False, weights=[1, 2, 3, 1, 2, 0.1], **o),
    "no bias": lambda **o: classes(bias=False, loss="bce", **o),
    "affine": lambda **o: classes(loss=AFFINE, collapse=False, **o),
    "focal": lambda **o: classes(loss=uf.Focal(1.5), **o),
    "labels": lambda **o: of_targets(LABELS, loss=uf.CrossEntropy(0.2), **o),
    "soft": lambda **o: of_targets(SOFT, **o),
    "sparse": lambda **o: of_targets(scipy.sparse.csr_array(np.where(SOFT > 0.1, SOFT, 0)), loss="bce", **o),
    "ordinal": lambda **o: classes(loss=uf.Ordinal([-2, -1, 0, 1, 2]), **o),
    "learned thresholds": lambda **o: classes(loss=uf.Ordinal(link="probit"), collapse=False, **o),
    "levels in rows": lambda **o: of_targets(LABELS, loss=uf.Ordinal(), **o),
}


def parts_of(ufm, edges):
    return [ufm.rows(start, stop) for start, stop in zip([0, *edges], [*edges, ufm.M], strict=True)]


def point_of(part, p):
    return p._replace(H=p.H[part.start : part.stop])


def added(points):
    return uf.Point(sum(q.W for q in points), np.concatenate([q.H for q in points]), sum(q.b for q in points))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("edges", [[1], [2, 3, 5], []], ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_parts_add_up(kind, edges, dtype):
    ufm, rel = MODELS[kind](dtype=dtype), 1e-13 if dtype == "float64" else 2e-6
    p, v, parts = ufm.random_point(1, 0.7), ufm.random_point(2, 0.5), parts_of(ufm, edges)
    value, gradient = ufm.loss_and_grad(p)
    found = [part.loss_and_grad(point_of(part, p)) for part in parts]
    assert sum(loss for loss, _ in found) == pytest.approx(value, rel=rel)
    assert sum(part.loss(point_of(part, p)) for part in parts) == pytest.approx(value, rel=rel)
    products = added([part.hvp(point_of(part, p), point_of(part, v)) for part in parts])
    for total, whole in ((added([g for _, g in found]), gradient), (products, ufm.hvp(p, v))):
        for mine, theirs in zip(total, whole, strict=True):
            assert mine.dtype == ufm.dtype
            np.testing.assert_allclose(mine, theirs, atol=rel * max(1e-300, np.abs(theirs).max()))


def test_larger_parts_on_several_threads():
    ufm = uf.UFM(300, 40, np.arange(1, 301), threads=3, **DECAYS)
    p, parts = ufm.random_point(0), parts_of(ufm, [90, 91])
    found = [part.loss_and_grad(point_of(part, p)) for part in parts]
    value, gradient = ufm.loss_and_grad(p)
    assert sum(loss for loss, _ in found) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(added([g for _, g in found]).W, gradient.W, atol=1e-13 * np.abs(gradient.W).max())


def test_a_part_has_packed_points_and_a_hessian_operator():
    ufm = classes()
    part, p = ufm.rows(2, 5), ufm.random_point(0)
    x = part.pack(point_of(part, p))
    assert len(x) == part.size == (K + 3) * D + K
    np.testing.assert_array_equal(part.fun_and_grad(x)[1], part.pack(part.loss_and_grad(part.unpack(x))[1]))
    np.testing.assert_allclose(part.hessian(part.unpack(x)) @ x, part.hessp(x, x), rtol=1e-12)
    np.testing.assert_array_equal(part.metric[K * D : -K], np.repeat(COUNTS[2:5], D))


@pytest.mark.parametrize("kind", MODELS)
def test_parts_can_be_sent_to_other_processes(kind):
    ufm = MODELS[kind]()
    for part in parts_of(ufm, [2]):
        copy, p = pickle.loads(pickle.dumps(part)), point_of(part, ufm.random_point(3))
        assert copy.loss(p) == part.loss(p)
        assert (copy.start, copy.stop, copy.lambda_W) == (part.start, part.stop, part.lambda_W)


def test_not_finite_entries_are_refused_in_parts_without_ridge_of_W():
    ufm = classes()
    part = ufm.rows(2, 4)
    for name in ("W", "H", "b"):
        p = point_of(part, ufm.random_point(0))
        getattr(p, name).flat[1] = np.nan
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            part.loss_and_grad(p)
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            part.loss(p)
    huge = point_of(part, ufm.random_point(0))
    with pytest.raises(FloatingPointError, match="overflows"):
        part.loss(huge._replace(W=huge.W * 1e200, H=huge.H * 1e200))


@pytest.mark.parametrize(
    ("start", "stop", "error", "message"),
    [
        (-1, 3, ValueError, "start must be between 0 and 5, not -1"),
        (6, 7, ValueError, "start must be between 0 and 5, not 6"),
        (2, 2, ValueError, "stop must be between 3 and 6, not 2"),
        (2, 7, ValueError, "stop must be between 3 and 6, not 7"),
        (0.0, 3, TypeError, "start must be an int"),
        (0, None, TypeError, "stop must be an int"),
    ],
)
def test_rows_that_are_not_there_are_refused(start, stop, error, message):
    with pytest.raises(error, match=message):
        classes().rows(start, stop)
