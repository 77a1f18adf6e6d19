"""Ordinal models: kernels, minima, certificates."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.special

import ufm_fast as uf
from ufm_fast._certify.ordinal import bound_at, lower_bound, ordinal_problem, radius
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._numerics.ordinal_problem import minimum
from ufm_fast._runtime import core

FINITE, INNER = [-2.0, -0.75, 0.25, 0.5, 1.5, 3.0], [-0.75, 0.25, 0.5, 1.5]
COUNTS = [40, 3, 17, 1, 9]
MODES = [  # thresholds, bias
    *itertools.product((FINITE, INNER), ({"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 0.07})),
    (None, {"lambda_b": 0.0}),
    (None, {"lambda_b": 0.07}),
]
LINKS = ["logit", "probit"]


def model(thresholds=FINITE, link="logit", n=COUNTS, d=4, lambda_W=3e-2, lambda_H=2e-3, **options):
    loss = uf.Ordinal(thresholds, link)
    return uf.UFM(len(n), d, n, loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, **options)


def random_model(seed, largest_K=40):
    """Both links, thresholds given and learned, all modes of the bias, uneven counts, decays over three decades."""
    rng = np.random.default_rng(seed)
    K, link, kind = (
        int(rng.integers(2, largest_K + 1)),
        str(rng.choice(LINKS)),
        rng.choice(["inner", "finite", "learn"]),
    )
    n = np.maximum(1, (rng.integers(1, 300) * rng.random(K) ** rng.choice([0, 1, 4])).astype(int))
    thresholds = np.cumsum(rng.random(K + 1) * 10 ** rng.uniform(-2, 0.5) + 1e-3)
    thresholds = {"inner": thresholds[1:-1], "finite": thresholds, "learn": None}[kind]
    if thresholds is not None:
        thresholds = thresholds - thresholds.mean()
    mode = rng.choice(["free", "decayed", "none"][: 2 if thresholds is None else 3])
    bias = {"free": {}, "decayed": {"lambda_b": float(10 ** rng.uniform(-6, 0))}, "none": {"bias": False}}[mode]
    tau, rho = 10 ** rng.uniform(-3, 0.2) / math.sqrt(n.sum()), 10 ** rng.uniform(-2, 2)
    d, collapse = int(rng.integers(1, 6)), bool(rng.random() < 0.8)
    return model(thresholds, link, n, d, tau * rho, tau / rho, collapse=collapse, **bias)


class Plain:
    """The loss in plain NumPy, for complex points too, so that derivatives can be taken by complex steps."""

    def __init__(self, ufm):
        self.ufm, self.loss = ufm, ufm.loss_function
        self.labels, self.ridges = ufm.data.labels, ufm.data.ridges
        self.g = {"logit": lambda x: 1 / (1 + np.exp(-x)), "probit": lambda x: 0.5 + scipy.special.erf(x / 2**0.5) / 2}

    def ends(self, b):
        K, given = self.ufm.K, self.loss.thresholds
        inner = b if given is None else given
        if len(inner) == K + 1:
            return np.array(inner), np.ones(K, bool), np.ones(K, bool)
        # infinite ends are written as finite ones, and left out: g = 0 or 1 there
        t = np.concatenate([[0], inner, [0]])
        return t, np.arange(K) > 0, np.arange(K) < K - 1

    def value(self, W, H, b):
        ufm, g = self.ufm, self.g[self.loss.link]
        z = (H @ W.T)[:, 0] + (b[0] if ufm.bias and self.loss.thresholds is not None else 0)
        t, has_lo, has_hi = self.ends(b)
        q = self.labels
        upper = np.where(has_hi[q], g(np.where(has_hi[q], t[q + 1] - z, 0)), 1)
        lower = np.where(has_lo[q], g(np.where(has_lo[q], t[q] - z, 0)), 0)
        ridge = ufm.lambda_W * (W**2).sum() + ufm.lambda_H * (self.ridges * (H**2).sum(axis=1)).sum()
        return -(ufm.data.weights * np.log(upper - lower)).sum() + (ridge + ufm.bias * ufm.lambda_b * (b**2).sum()) / 2

    def directional(self, p, v, step=1e-200):
        """Derivative of the loss at p along v."""
        return self.value(*(x.astype(complex) + 1j * step * y for x, y in zip(p, v, strict=True))).imag / step


def directions(ufm, seed, count=4):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        W, H, b = (rng.standard_normal(x.shape) for x in ufm.random_point(0))
        yield uf.Point(W, H, b if ufm.bias else 0 * b)


def dot(p, q):
    return sum(float(np.vdot(x.astype(float), y)) for x, y in zip(p, q, strict=True))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize(("thresholds", "bias"), MODES)
@pytest.mark.parametrize("link", LINKS)
def test_loss_gradient_and_hessian_product(link, thresholds, bias, collapse, dtype):
    """Against plain NumPy: the loss, its gradient by complex steps, Hessian products by differences of gradients."""
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    ufm = model(thresholds, link, collapse=collapse, dtype=dtype, threads=2, **bias)
    plain, p = Plain(ufm), ufm.random_point(1, scale=0.5)
    exact = uf.Point(*(x.astype(float) for x in p))
    value, gradient = ufm.loss_and_grad(p)
    assert value == pytest.approx(plain.value(*exact), rel=tolerance)
    assert ufm.loss(p) == pytest.approx(value, rel=tolerance)
    double = model(thresholds, link, collapse=collapse, **bias)
    for v in directions(ufm, 2):
        size = math.sqrt(dot(v, v))
        assert dot(gradient, v) == pytest.approx(plain.directional(exact, v), rel=tolerance, abs=tolerance * size)
        image = ufm.hvp(p, uf.Point(*(x.astype(dtype) for x in v)))
        h = 1e-3 / size
        at = [double.loss_and_grad(uf.Point(*(x + s * h * y for x, y in zip(exact, v, strict=True))))[1] for s in STEPS]
        for k, part in enumerate(image):
            numeric = sum(w * g[k] for w, g in zip(WEIGHTS, at, strict=True)) / h
            np.testing.assert_allclose(part, numeric, rtol=0, atol=max(1e-9, 10 * tolerance) * (1 + size))


STEPS, WEIGHTS = [-3, -2, -1, 1, 2, 3], np.array([-1, 9, -45, 45, -9, 1]) / 60


@pytest.mark.parametrize("link", LINKS)
def test_functions_of_a_row(link):
    """Far into the tails, and for narrow intervals, against 300 digits; errors relative to what rounding z explains."""
    rng = np.random.default_rng(0)
    n = 400
    width, middle = 10 ** rng.uniform(-6, 1.5, n), rng.choice([-1, 1], n) * 10 ** rng.uniform(-3, 1.4, n)
    z = rng.standard_normal(n)
    lo, hi = z + middle - width / 2, z + middle + width / 2
    lo[: n // 5], hi[n // 5 : 2 * n // 5] = -np.inf, np.inf
    found = core.ordinal_terms(link, z, lo, hi)
    for i in range(n):
        expected = _in_many_digits(link, z[i], lo[i], hi[i])
        moved = found[4, i] * abs(hi[i] - z[i]) if np.isfinite(hi[i]) else 0.0
        moved += found[5, i] * abs(lo[i] - z[i]) if np.isfinite(lo[i]) else 0.0
        shift = sum(f * abs(t - z[i]) for f, t in ((found[2, i], hi[i]), (found[3, i], lo[i])) if np.isfinite(t))
        width = hi[i] - lo[i] if np.isfinite(hi[i] - lo[i]) else 0.0
        for k, further in enumerate([shift, moved, moved + found[6, i] * width, moved + found[6, i] * width]):
            error = float(abs(found[k, i] - expected[k]))
            assert error <= 2e-15 * (abs(found[k, i]) + further) + 1e-300
        for k in range(4, 7):
            assert found[k, i] == pytest.approx(float(expected[k]), rel=1e-12, abs=1e-300)


def _in_many_digits(link, *ends):
    with mpmath.workdps(300):
        z, lo, hi = map(mpmath.mpf, map(float, ends))
        mirrored = lo + hi > 2 * z
        v, u = (z - hi, z - lo) if mirrored else (lo - z, hi - z)
        (P, p, dp), (Q, q, dq) = _distribution(link, u), _distribution(link, v)
        a, c = p / (P - Q), q / (P - Q)
        between = a * c
        at = a * a - dp / (P - Q) - between, c * c + dq / (P - Q) - between
        if mirrored:
            return -mpmath.log(P - Q), c - a, c, a, at[1], at[0], between
        return -mpmath.log(P - Q), a - c, a, c, at[0], at[1], between


def _distribution(link, x):
    """The distribution function and its first two derivatives."""
    if mpmath.isinf(x):
        return mpmath.mpf(x > 0), mpmath.mpf(0), mpmath.mpf(0)
    if link == "logit":
        p = 1 / (1 + mpmath.exp(-x))
        return p, p * (1 - p), p * (1 - p) * (1 - 2 * p)
    density = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2, density, -x * density


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("thresholds", [FINITE, INNER])
def test_phase_threshold(link, thresholds):
    """Zero is optimal iff lambda_W lambda_H >= C = sum of n_q l_q'(0)^2 / N^2."""
    n = np.array(COUNTS)
    at_zero = model(thresholds, link, bias=False)
    slopes = CanonicalProblem(at_zero).data_term(np.zeros((5, 1)), np.zeros(1))[1][:, 0] * n.sum() / np.sqrt(n)
    C = (n * slopes**2).sum() / n.sum() ** 2
    for factor, rank in ((0.98, 1), (1.02, 0)):
        tau = math.sqrt(factor * C)
        ufm = model(thresholds, link, lambda_W=5 * tau, lambda_H=tau / 5, bias=False)
        found = uf.minimize(ufm)
        assert found.success
        assert np.linalg.matrix_rank(found.point.W) == rank
        zero = uf.Point(*(0 * x for x in found.point))
        assert (uf.classify(ufm, zero).kind == "global_minimum") == (rank == 0)


@pytest.mark.parametrize("link", LINKS)
def test_logits_go_to_midpoints(link):
    """With all thresholds finite and decays that vanish (Ma, Obuchi & Tanaka, arXiv 2506.05801)."""
    midpoints = (np.array(FINITE[1:]) + np.array(FINITE[:-1])) / 2
    errors = []
    for decay in (1e-4, 1e-6, 1e-8):
        p = uf.global_minimum(model(FINITE, link, lambda_W=decay, lambda_H=decay, bias=False)).point
        z = (p.H @ p.W.T)[:, 0]
        assert (np.diff(z) > 0).all()
        errors.append(abs(z - midpoints).max())
    assert errors[2] < 1e-4
    assert errors[0] > 50 * errors[1] > 2500 * errors[2]


@pytest.mark.parametrize("link", LINKS)
def test_learned_thresholds_have_one_value(link):
    """From eight starts, far apart."""
    ufm = model(None, link, d=2, lambda_W=1e-3, lambda_H=1e-4)
    best = uf.global_minimum(ufm)
    for seed in range(8):
        found = uf.minimize(ufm, ufm.random_point(seed, scale=0.1 + seed), tol=1e-10)
        assert found.success
        assert found.fun == pytest.approx(best.value, rel=1e-10)
        assert (np.diff(found.point.b) > 0).all()


@pytest.mark.parametrize("seed", range(30))
def test_minimize(seed):
    """Certified in one evaluation without a start, and from zero and random points."""
    ufm = random_model(seed)
    found = uf.minimize(ufm)
    assert found.success
    assert found.nfev == 1
    p = ufm.random_point(seed)
    for start in (p, uf.Point(0 * p.W, 0 * p.H, 0 * p.b)):
        assert uf.minimize(ufm, start).certificate.relative_gap <= 1e-8


def test_minimize_in_single_precision():
    found = uf.minimize(model(None, dtype="float32"), tol=1e-4)
    assert found.success
    assert found.point.W.dtype == np.float32


@pytest.mark.parametrize("seed", range(100))
def test_bound_is_below_the_minimum(seed):
    """In 60 digits; also at points that are no minima, and with bounds on the scores from such."""
    rng = np.random.default_rng(seed)
    problem = ordinal_problem(CanonicalProblem(random_model(seed, 12)))
    near = minimum(problem)
    value = _value_in_many_digits(problem, near)
    bound = lower_bound(problem)
    assert value * (1 - 1e-9) <= bound <= value
    U = 1.001 * problem.value(near.z, near.b)
    assert radius(problem, 0.9 * near.z, near.b, U) >= np.linalg.norm(problem.root * near.z) * (1 - 1e-9)
    for _ in range(10):
        size = 10 ** rng.uniform(-15, 0)
        z = near.z + size * rng.standard_normal(len(near.z)) * abs(near.z)
        b = near.b + size * rng.standard_normal(len(near.b)) * problem.bias
        b = np.sort(b) if problem.learns_thresholds else b
        assert not bound_at(problem, z, b, U, U / problem.tau) > value


def _value_in_many_digits(problem, near):
    with mpmath.workdps(60):
        b, z = ([mpmath.mpf(float(x)) for x in numbers] for numbers in (near.b, near.z))
        if problem.thresholds is None:
            t = [-mpmath.inf, *b, mpmath.inf]
        else:
            t = [mpmath.mpf(float(x)) - b[0] * problem.bias for x in problem.thresholds]
        total = mpmath.mpf(0)
        for weight, one, level in zip(problem.weights, z, problem.labels, strict=True):
            v, u = t[level], t[level + 1]
            mirrored = v + u > 2 * one
            v, u = (one - u, one - v) if mirrored else (v - one, u - one)
            total -= mpmath.mpf(float(weight)) * mpmath.log(
                _distribution(problem.link, u)[0] - _distribution(problem.link, v)[0]
            )
        norm = mpmath.sqrt(sum((mpmath.mpf(float(r)) * x) ** 2 for r, x in zip(problem.root, z, strict=True)))
        decay = mpmath.mpf(problem.lambda_b) / 2 * sum(x * x for x in b)
        return total + mpmath.mpf(problem.tau) * norm + decay


@pytest.mark.parametrize(("thresholds", "bias"), MODES)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("collapse", [True, False])
def test_curvature_at_critical_points(link, thresholds, bias, collapse):
    """classify and lowest_eigenpairs against dense eigenvalues of the full-sample Hessian, at saddle and minimum."""
    n = [6, 2, 1, 3, 2]
    ufm = model(thresholds, link, n, 3, collapse=collapse, **bias)
    full = model(thresholds, link, n, 3, collapse=False, **bias)
    saddle = uf.saddle(ufm, 0)
    for p, kind in ((saddle, "strict_saddle"), (uf.global_minimum(ufm).point, "global_minimum")):
        at = full.expand(p) if collapse else p
        dense = full.hessian(at) @ np.eye(full.size)
        values = np.linalg.eigvalsh((dense + dense.T) / 2)
        scale = abs(values).max()
        found = uf.classify(ufm, p)
        assert found.kind == kind
        low, high = found.lowest_eigenvalue_bounds
        assert low - 1e-8 * scale <= values[0] <= high + 1e-8 * scale
        if kind == "strict_saddle":
            assert found.lowest_eigenvalue == pytest.approx(values[0], rel=1e-8)
        pairs = uf.lowest_eigenpairs(ufm, p, k=2, deflate=False)
        np.testing.assert_allclose(pairs.eigenvalues, values[:2], rtol=0, atol=1e-8 * scale)
        assert uf.spectrum(ufm, p, steps=20, probes=2).size == full.size


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("lambda_b", [0.0, 0.01])
def test_a_learned_threshold_is_not_added_to_the_logit(levels, lambda_b):
    """Not even the one of two levels: no features act as it, and with H fixed there is no solver."""
    ufm = uf.UFM(levels, 2, 5, loss=uf.Ordinal(None), lambda_W=1e-2, lambda_H=1e-3, lambda_b=lambda_b)
    problem, p = CanonicalProblem(ufm), ufm.random_point(0, 3.0)
    A, B, b = problem.coordinates(p)
    polished = problem.point(A, *problem.polish(A, B, b))
    assert ufm.loss(polished) <= ufm.loss(p)
    with pytest.raises(ValueError, match="needs a bias that is added to the logits"):
        uf.minimize(ufm, p, fixed="H")


def test_rows():
    """Labels in any order, weights and ridges: as many classes merged, and certified."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 50)
    loss = uf.Ordinal(None, "probit")
    ufm = uf.UFM(4, 3, targets=labels, loss=loss, lambda_W=1e-2, lambda_H=1e-3)
    classes = uf.UFM(4, 3, np.bincount(labels), loss=loss, lambda_W=1e-2, lambda_H=1e-3)
    assert uf.minimize(ufm).fun == pytest.approx(uf.minimize(classes).fun, rel=1e-12)
    merged, index = ufm.merged()
    best = uf.minimize(merged).point
    assert ufm.loss(best._replace(H=best.H[index])) == pytest.approx(uf.minimize(ufm).fun, rel=1e-12)
    uneven = uf.UFM(
        4, 2, targets=labels, n=rng.random(50) + 0.1, weights=rng.random(50) + 0.1, ridges=rng.random(50) + 0.1,
        loss=uf.Ordinal([-1, 0, 1]), lambda_W=1e-2, lambda_H=1e-3,
    )  # fmt: skip
    assert uf.minimize(uneven).success
    assert uf.minimize(uneven, uneven.random_point(1)).success


def test_one_level_alone():
    """Without the levels on one side a free bias has no best value; the bound says no more than that losses are."""
    ufm = uf.UFM(3, 2, targets=[0, 0], loss=uf.Ordinal([-1, 1]), lambda_W=1e-2, lambda_H=1e-3)
    p = ufm.random_point(0)
    assert 0 <= uf.certify(ufm, p).lower_bound <= ufm.loss(p)


def test_thresholds_out_of_order():
    """An infinite loss is an overflow, also for SciPy; minimize does not mind where it starts."""
    ufm = model(None)
    p = ufm.random_point(0)
    assert (np.diff(p.b) > 0).all()
    assert (np.diff(ufm.random_point(0, scale=0.0).b) > 0).all()
    for b in (p.b[::-1].copy(), 0 * p.b):
        for evaluate in (ufm.loss, ufm.loss_and_grad, lambda q: ufm.hvp(q, p)):
            with pytest.raises(FloatingPointError, match="ascend"):
                evaluate(p._replace(b=b))
        assert uf.minimize(ufm, p._replace(b=b)).success


def test_files(tmp_path):
    for thresholds in (FINITE, None):
        ufm = model(thresholds, "probit")
        p = ufm.random_point(0)
        uf.save_point(tmp_path / "p.npz", ufm, p)
        loaded, q = uf.load_point(tmp_path / "p.npz")
        assert loaded.loss_function == ufm.loss_function
        assert loaded.loss(q) == ufm.loss(p)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [0, 1]}, "thresholds must be K - 1 = 4 or K [+] 1 = 6 numbers for K = 5 levels, not 2"),
        ({"thresholds": [0, 2, 1, 3]}, "ascend"),
        ({"thresholds": [0, 1, np.inf, 3]}, "thresholds.2. must lie"),
        ({"link": "cauchit"}, "link"),
        ({"thresholds": None, "bias": False}, "bias must be True where thresholds are learned"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        model(**change)


def test_refused_targets():
    options = {"lambda_W": 1e-2, "lambda_H": 1e-3, "loss": uf.Ordinal(None)}
    with pytest.raises(ValueError, match="lack level 1"):
        uf.UFM(3, 2, targets=[0, 2, 2], **options)
    with pytest.raises(ValueError, match="labels"):
        uf.UFM(3, 2, targets=np.eye(3), **options)


def test_saddles_and_census():
    ufm = model(None, d=2, n=[4, 3, 5], lambda_W=1e-2, lambda_H=1e-3)
    with pytest.raises(ValueError, match="rank must be between 0 and 0"):
        uf.saddle(ufm, 1)
    points = uf.census([ufm], 3).points
    assert (points["kind"][points["end"]] == "global_minimum").all()
