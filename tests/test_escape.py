"""escape: the way on from where SciPy's minimisers stop."""

import numpy as np
import pytest
import scipy.optimize

import certificate_models
import ufm_fast as uf

DECAYS = {"lambda_W": 5e-3, "lambda_H": 2e-4}
COUNTS = [40, 20, 10, 5, 3, 2]
LOSSES = ["cross_entropy", "mse", "bce"]


def model(loss="cross_entropy", d=6, **options):
    return uf.UFM(6, d, COUNTS, **({"loss": loss, "lambda_b": 0.1} | DECAYS | options))


def starts(ufm):
    return {"zero": ufm.unpack(np.zeros(ufm.size)), "saddle": uf.saddle(ufm, 2), "random": ufm.random_point(1)}


@pytest.mark.parametrize("start", ["zero", "saddle", "random"])
@pytest.mark.parametrize("method", ["Newton-CG", "trust-ncg", "L-BFGS-B", "CG", "TNC"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loop_around_any_minimiser_ends_at_the_certified_minimum(loss, method, start):
    ufm = model(loss)
    options = {"hessp": ufm.hessp} if method in ("Newton-CG", "trust-ncg") else {}
    p, losses = starts(ufm)[start], []
    while p is not None:
        losses.append(ufm.loss(p))
        x = scipy.optimize.minimize(ufm.fun_and_grad, ufm.pack(p), jac=True, method=method, **options).x
        losses.append(ufm.fun(x))
        p = uf.escape(ufm, ufm.unpack(x))
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] == pytest.approx(uf.global_minimum(ufm).value, rel=2e-8)
    assert len(losses) <= 2 * 12
    if start == "saddle":  # which no method leaves
        assert losses[1] == pytest.approx(losses[0], rel=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_step_off_a_saddle_is_further_down(loss, bias):
    ufm = model(loss, bias=bias, lambda_b=0.0)
    for rank in range(1, 5):
        p = uf.saddle(ufm, rank)
        q = uf.escape(ufm, p)
        assert ufm.loss(q) < ufm.loss(p) * (1 - 1e-6)
        assert q.W.shape == p.W.shape


def test_no_way_leads_on_from_the_minimum():
    ufm = model()
    assert uf.escape(ufm, uf.minimize(ufm).point) is None
    close = uf.minimize(ufm, tol=1e-6).point
    assert uf.escape(ufm, close, tol=1e-5) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"collapse": False}, {"loss": uf.Focal(2.0)}, {"d": 3}])
def test_kinds_of_models(options):
    ufm = model(**options)
    p = ufm.unpack(np.zeros(ufm.size))
    if options == {"d": 3}:
        p = uf.saddle(ufm, 1)
    q = uf.escape(ufm, p)
    assert ufm.loss(q) < ufm.loss(p)
    assert q.H.dtype == ufm.dtype
    assert q.H.shape == p.H.shape


def test_saddles_that_leave_no_direction_empty():
    """In two dimensions they have full rank: here, the best point at which two classes coincide with two others."""
    ufm = uf.UFM(6, 2, 5, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2)
    same = np.array([0, 1, 2, 3, 0, 1])

    def fun_and_grad(y):
        rows = y.reshape(4, 4)
        value, (to_W, to_H, _) = ufm.loss_and_grad(uf.Point(rows[same, :2].copy(), rows[same, 2:].copy(), np.zeros(6)))
        sums = np.zeros((4, 4))
        np.add.at(sums, same, np.hstack([to_W, to_H]))
        return value, sums.ravel()

    angles = np.array([0, 1.5, 3, 4.5])[:, None]
    start = np.hstack([np.cos(angles), np.sin(angles)] * 2)
    y = scipy.optimize.minimize(fun_and_grad, start.ravel(), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    rows = y.reshape(4, 4)
    p = uf.Point(rows[same, :2].copy(), rows[same, 2:].copy(), np.zeros(6))
    assert uf.classify(ufm, p).rank == 2
    assert uf.lowest_eigenpairs(ufm, p).eigenvalues[0] < -1e-5
    assert ufm.loss(uf.escape(ufm, p)) < ufm.loss(p) * (1 - 1e-3)


def test_a_local_minimum_is_said_to_be_no_end():
    ufm = uf.UFM(8, 2, 5, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2)
    with pytest.warns(uf.ConvergenceWarning):
        p = uf.minimize(ufm).point
    with pytest.warns(uf.ConvergenceWarning, match="no way down was found from this point, which is not certified"):
        assert uf.escape(ufm, p) is None


def test_what_is_refused():
    ufm = model()
    p = ufm.random_point(0)
    with pytest.raises(ValueError, match="W"):
        uf.escape(ufm, p._replace(W=p.W[:, :2]))
    with pytest.raises(ValueError, match="tol"):
        uf.escape(ufm, p, tol=0)


@pytest.mark.filterwarnings("ignore:no way down was found")
@pytest.mark.parametrize("start", ["zero", "saddle"])
@pytest.mark.parametrize("method", ["BFGS", "CG", "L-BFGS-B"])
def test_the_loop_ends_for_a_loss_without_a_certificate(method, start):
    """Where decays are weak a step off a saddle gains a little at each of very many points."""
    ufm = model(uf.Focal(2.0), lambda_W=2e-3, lambda_H=2e-6, lambda_b=0.5)
    p, escapes = starts(model(lambda_W=2e-3, lambda_H=2e-6, lambda_b=0.5))[start], -1
    while p is not None:
        x = scipy.optimize.minimize(ufm.fun_and_grad, ufm.pack(p), jac=True, method=method).x
        p, escapes = uf.escape(ufm, ufm.unpack(x)), escapes + 1
    assert escapes <= 30
    assert ufm.fun(x) == pytest.approx(uf.minimize(ufm).fun, rel=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e100), ("float64", 1e30), ("float32", 1e19)])
def test_far_points(dtype, size):
    ufm = model(dtype=dtype)
    p = uf.Point(*(part * ufm.dtype.type(size) for part in ufm.random_point(0)))
    assert ufm.loss(uf.escape(ufm, p)) < ufm.loss(p)
    with pytest.raises(FloatingPointError, match="overflows"):
        uf.escape(ufm, uf.Point(*(part * ufm.dtype.type(1e170 if dtype == "float64" else 1e15) for part in p)))


POINTS = {
    "saddle": lambda ufm, seed: uf.saddle(ufm, seed % (ufm.K - 1), seed),
    "near a saddle": lambda ufm, seed: moved(ufm, uf.saddle(ufm, seed % (ufm.K - 1), seed), seed, 10.0 ** -(seed % 9)),
    "random": lambda ufm, seed: ufm.random_point(seed, 10.0 ** (seed % 7 - 5)),
    "near the minimum": lambda ufm, seed: moved(ufm, uf.global_minimum(ufm).point, seed, 10.0 ** -(seed % 8 + 1)),
}


def moved(ufm, p, seed, scale):
    return uf.Point(*(part + change for part, change in zip(p, ufm.random_point(seed, scale), strict=True)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("loss", [*LOSSES, uf.CrossEntropy(label_smoothing=0.1)], ids=str)
def test_what_is_returned_is_lower_and_none_means_certified(loss, kind):
    """Where theory promises a way: random counts, widths, decays; points of all kinds."""
    rng = np.random.default_rng(7)
    for seed in range(12):
        K = int(rng.integers(2, 8))
        decays = dict(zip(("lambda_W", "lambda_H", "lambda_b"), 10 ** rng.uniform(-5, -2.5, 3), strict=True))
        ufm = uf.UFM(K, K + int(rng.integers(0, 3)), rng.integers(1, 40, K), loss=loss, **decays)
        p = POINTS[kind](ufm, seed)
        q = uf.escape(ufm, p)
        if q is None:
            assert uf.certify(ufm, p).is_global(1e-8)
        else:
            assert ufm.loss(q) < ufm.loss(p)
            assert not uf.certify(ufm, p).is_global(1e-8)


def test_a_descent_with_fewer_columns_than_the_model():
    """From W = H = 0 there were fewer ways down, and no bound told that this was the end."""
    ufm, _ = certificate_models.model(371)
    assert uf.minimize(ufm, tol=1e-11).success
