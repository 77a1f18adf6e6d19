"""certify against global minima found independently: closed forms, or a Newton run on the oracle."""

import contextlib
import dataclasses
import functools
import itertools
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ufm_fast as uf
from oracle import Oracle, two_class_minimum
from reference import as_point, global_minimum
from ufm_fast._certify.certificate import certified_gap, quick_certificate_at
from ufm_fast._certify.linearization import linearized
from ufm_fast._exact.closed_form import closed_form

LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(label_smoothing=0.1), uf.MSE()]
BIASES = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 1e-2}, {"lambda_b": 1e-5}]
COUNTS = [(2, 2, 2, 2), (40, 12, 12, 3, 1)]
# signal of every strength, from tau = 1e-5 to none at all (K t > 1); the third leaves the small classes without any
DECAYS = [(1e-4, 1e-6), (5e-3, 2e-4), (4e-2, 1e-3), (2.0, 0.5)]
CASES = list(itertools.product(COUNTS, LOSSES, BIASES, DECAYS))


@functools.cache
def _optimum(counts, loss, bias, decays):
    K, (lambda_W, lambda_H) = len(counts), decays
    ufm = uf.UFM(K, K, counts, loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, **dict(bias))
    point, value = global_minimum(Oracle.of(ufm))
    return ufm, as_point(point), value


def optimum(case):
    """Model, global minimiser and minimum. A minimum that is not one is above f*, where no bound can touch it."""
    counts, loss, bias, decays = case
    return _optimum(counts, loss, tuple(bias.items()), decays)


def perturbed(ufm, p, size, rng):
    """Every entry moved by about ``size`` times the largest of its array (bias: of the bias, or 1)."""

    def move(x):
        return x + size * max(np.abs(x).max(), 1e-3) * rng.standard_normal(x.shape)

    return uf.Point(move(p.W), move(p.H), move(p.b) if ufm.bias else p.b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_never_above_the_minimum_and_tight_at_it(case):
    ufm, minimiser, minimum = optimum(case)
    rng = np.random.default_rng(3)
    points = [ufm.random_point(rng, scale) for scale in (None, 1e-6, 1e-3, 0.03, 1, 30, 1e3)]
    points += [perturbed(ufm, minimiser, size, rng) for size in 10.0 ** np.arange(-8, 0)]
    for p in points:
        certificate = uf.certify(ufm, p)
        assert certificate.lower_bound <= minimum
        assert certificate.loss == pytest.approx(float(Oracle.of(ufm).loss(*p)), rel=1e-10)
    certificate = uf.certify(ufm, minimiser)
    assert minimum * (1 - 1e-11) <= certificate.lower_bound <= minimum
    assert certificate.is_global(1e-11)
    assert certificate.spectral_norm <= certificate.threshold * (1 + 1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gap_is_second_order(case):
    """Near the minimum the certified gap is at most a small multiple of the true one (worst: lambda_b near tau)."""
    ufm, minimiser, minimum = optimum(case)
    multiple = 6 if ufm.lambda_b == 1e-5 else 1.5
    rng = np.random.default_rng(5)
    for size in (1e-5, 1e-3):
        certificate = uf.certify(ufm, perturbed(ufm, minimiser, size, rng))
        assert certificate.gap <= multiple * (certificate.loss - minimum) + 2e-13 * minimum


@pytest.mark.parametrize("bias", BIASES[:2], ids=str)
@pytest.mark.parametrize("decays", DECAYS, ids=str)
def test_squared_error_bound_is_the_minimum_from_anywhere(bias, decays):
    ufm = uf.UFM(5, 5, COUNTS[1], loss="mse", lambda_W=decays[0], lambda_H=decays[1], **bias)
    exact = closed_form(ufm).value
    for scale in (1e-3, 0.3, 10):
        assert exact * (1 - 1e-9) <= uf.certify(ufm, ufm.random_point(0, scale)).lower_bound <= exact


@given(
    K=st.integers(2, 60),
    n=st.integers(1, 1000),
    loss=st.sampled_from(LOSSES),
    bias=st.sampled_from(BIASES),
    Kt=st.floats(-9, 0.7).map(lambda x: 10**x),
    ratio=st.floats(-3, 3).map(lambda x: 10**x),
    size=st.floats(-10, 0).map(lambda x: 10**x),
    seed=st.integers(0, 1000),
)
def test_closed_forms(K, n, loss, bias, Kt, ratio, size, seed):
    """Balanced minima over nine decades of decay: exact to the stated allowance at the minimum, valid around it."""
    tau = Kt / K / np.sqrt(n)
    ufm = uf.UFM(K, K, n, loss=loss, lambda_W=tau * ratio, lambda_H=tau / ratio, **bias)
    form = closed_form(ufm)
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    minimiser = uf.Point(rho * form.A, form.B / (rho * np.sqrt(n)), form.b)
    rng = np.random.default_rng(seed)
    assert form.value * (1 - 3e-12) <= uf.certify(ufm, minimiser).lower_bound <= form.value
    assert uf.certify(ufm, perturbed(ufm, minimiser, size, rng)).lower_bound <= form.value
    assert uf.certify(ufm, ufm.random_point(rng, size * 100)).lower_bound <= form.value


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_small_width_keeps_the_bound(loss):
    """The bound of d < K - 1 is that of the convex problem, below the best loss of that width."""
    case = (COUNTS[1], loss, BIASES[2], DECAYS[1])
    _, minimiser, minimum = optimum(case)
    ufm = uf.UFM(5, 2, COUNTS[1], loss=loss, lambda_W=DECAYS[1][0], lambda_H=DECAYS[1][1], lambda_b=1e-2)
    U, s, V = np.linalg.svd(minimiser.H @ minimiser.W.T)
    H, W = U[:, :2] * np.sqrt(s[:2]), V[:2].T * np.sqrt(s[:2])
    for p in (as_point((W, H, minimiser.b)), ufm.random_point(1)):
        certificate = uf.certify(ufm, p)
        assert certificate.lower_bound <= minimum < certificate.loss
        assert not certificate.is_global()


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_row_per_sample(loss, bias):
    """The loss is the point's own; the bound and the norm are those of its class means."""
    arguments = {"loss": loss, "lambda_W": 1e-2, "lambda_H": 2e-3, **bias}
    full, means = (uf.UFM(4, 4, [5, 3, 2, 1], collapse=collapse, **arguments) for collapse in (False, True))
    p = full.random_point(0, 0.5)
    certificate, collapsed = uf.certify(full, p), uf.certify(means, full.collapse(p))
    assert certificate.loss == full.loss(p) > collapsed.loss
    assert certificate.lower_bound == pytest.approx(collapsed.lower_bound, rel=1e-13)
    oracle = Oracle.of(means)
    isometric = oracle.residuals(*full.collapse(p)) / np.sqrt(oracle.multiplicities)[:, None]
    assert certificate.spectral_norm == pytest.approx(np.linalg.norm(isometric, 2), rel=1e-12)


@pytest.mark.parametrize("case", CASES[::7], ids=str)
def test_float32_is_certified_in_float64(case):
    ufm, minimiser, minimum = optimum(case)
    single = uf.UFM(
        ufm.K, ufm.d, ufm.counts, loss=ufm.loss_function, lambda_W=ufm.lambda_W, lambda_H=ufm.lambda_H,
        lambda_b=ufm.lambda_b, bias=ufm.bias, dtype="float32",
    )  # fmt: skip
    p = uf.Point(*(part.astype(np.float32) for part in minimiser))
    certificate = uf.certify(single, p)
    assert certificate.loss == pytest.approx(ufm.loss(as_point(part.astype(np.float64) for part in p)), rel=1e-15)
    assert minimum * (1 - 1e-5) <= certificate.lower_bound <= minimum
    assert certificate.relative_gap < 1e-5


def test_certificate_object():
    ufm = uf.UFM(3, 3, 4, lambda_W=1e-2, lambda_H=1e-2)
    certificate = uf.certify(ufm, ufm.random_point(0))
    assert certificate.gap == certificate.loss + certificate.rounding - certificate.lower_bound
    assert certificate.relative_gap == certificate.gap / certificate.loss
    assert certificate.threshold == ufm.tau
    assert certificate.is_global(certificate.relative_gap)
    assert not certificate.is_global(certificate.relative_gap * 0.99)
    assert f"{certificate.loss:.12g}" in str(certificate)
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.loss = 0.0


def test_refuses_what_it_cannot_certify():
    ufm = uf.UFM(3, 2, 4, lambda_W=1e-2, lambda_H=1e-2)
    W, H, b = ufm.random_point(0)
    with pytest.raises(ValueError, match="H must be finite"):
        uf.certify(ufm, uf.Point(W, np.full_like(H, np.nan), b))
    with pytest.raises(ValueError, match="W must have shape"):
        uf.certify(ufm, uf.Point(H[:, :1], H, b))
    with pytest.raises(TypeError, match="b must be a float64 array"):
        uf.certify(ufm, uf.Point(W, H, b.astype(np.float32)))


def test_a_loss_without_a_dual_problem_says_so():
    ufm = uf.UFM(4, 5, [3, 1, 2, 2], loss=uf.Focal(2.0), lambda_W=1e-3, lambda_H=1e-3)
    p = ufm.random_point()
    for call in (uf.certify, uf.classify):
        with pytest.raises(ValueError, match="cannot be certified: no dual problem is known for it"):
            call(ufm, p)
    with pytest.raises(ValueError, match="cannot be certified"):
        uf.global_minimum(ufm)


@pytest.mark.parametrize("size", [1e10, 1e20, 1e40])
def test_huge_points_of_low_rank(size):
    """Where the ridge on the features drowns beside A^T A; the bound is at most the loss of the minimum."""
    ufm = uf.UFM(12, 12, np.arange(1, 13), lambda_W=1e-4, lambda_H=1e-5, lambda_b=1e-5)
    p = ufm.random_point(0)
    for part in (p.W, p.H):
        part[:, 5:] = 0
        part *= size
    assert 0 < uf.certify(ufm, p).lower_bound <= uf.minimize(ufm).fun


@given(
    least=st.integers(1, 1000),
    ratio=st.floats(0, 12).map(lambda x: 10**x),
    miss=st.floats(-9, -0.31).map(lambda x: 10**x),
    balance=st.floats(-6, 6).map(lambda x: 10**x),
    swap=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(least=1, ratio=119632509.0, miss=0.4956788, balance=334645.0, swap=False, seed=0)
def test_two_classes_with_a_free_bias(least, ratio, miss, balance, swap, seed):
    """No bound above the exact minimum, not by a unit in the last place."""
    counts = [least, round(least * ratio)]
    N = sum(counts)
    tau = miss * least / N / np.sqrt(counts[0] * counts[1] / (2 * N))
    ufm = uf.UFM(2, 2, counts[::-1] if swap else counts, lambda_W=tau * balance, lambda_H=tau / balance)
    exact = two_class_minimum(*counts, ufm.lambda_W, ufm.lambda_H)
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)  # minima below 1e-15 are not reached
        found, reduced = uf.minimize(ufm), uf.global_minimum(ufm)
    points = [ufm.unpack(np.zeros(ufm.size)), ufm.random_point(rng, 10 ** rng.uniform(-3, 3)), found.point]
    points.append(perturbed(ufm, found.point, 10 ** rng.uniform(-12, 0), rng))
    certificates = [found.certificate, reduced.certificate, *(uf.certify(ufm, p) for p in points)]
    for certificate in certificates:
        assert Decimal(certificate.lower_bound) <= exact <= Decimal(certificate.loss) + Decimal(certificate.rounding)


def test_the_repair_of_the_free_bias_costs_its_full_norm():
    """Where the repair's norm counts: rounding of a count of 1 beside one of 1e8."""
    ufm = uf.UFM(2, 2, [1, 119632509], lambda_W=0.00017579240603019522, lambda_H=1.5697156152263366e-15)
    exact = two_class_minimum(1, 119632509, ufm.lambda_W, ufm.lambda_H)
    assert Decimal(uf.certify(ufm, ufm.unpack(np.zeros(ufm.size))).lower_bound) <= exact


@pytest.mark.parametrize("shift", [1e5, 1e10, 2.0**53 - 9, 2.0**56 - 64, -(2.0**60)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_common_shift_of_the_bias_is_no_way_to_a_lower_loss(shift, smoothing):
    """The loss is that of these numbers (the shift rounds b), and no point is called global that is not."""
    loss = uf.CrossEntropy(label_smoothing=smoothing)
    ufm = uf.UFM(3, 3, [5, 3, 2], loss=loss, lambda_W=1e-4, lambda_H=1e-4)
    W, H, b = uf.minimize(ufm, tol=1e-11).point
    p = uf.Point(W, H, b + shift)
    exact, minimum = (Oracle.of(ufm).decimal_loss(W, H, bias) for bias in (p.b, b))
    certificate = uf.certify(ufm, p)
    assert abs(Decimal(certificate.loss) - exact) <= Decimal("1e-13") * exact
    assert Decimal(certificate.gap) >= exact - minimum
    is_global = exact <= minimum * (1 + Decimal("1e-8"))
    assert certificate.is_global() == is_global
    assert (uf.classify(ufm, p).kind == "global_minimum") == is_global


@given(
    loss=st.sampled_from(LOSSES),
    bias=st.sampled_from(BIASES),
    d=st.integers(1, 40),
    scale=st.floats(-6, 4).map(lambda x: 10**x),
    shift=st.sampled_from([0.0, 1.0, 1e8, 1e16]),
    collapse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_rounding_of_a_loss_is_bounded(loss, bias, d, scale, shift, collapse, seed):
    """Held against 60 digits; and the bound is no excuse for a large gap at a good fit."""
    ufm = uf.UFM(3, d, [4, 2, 1], loss=loss, lambda_W=1e-6, lambda_H=1e-7, collapse=collapse, **bias)
    W, H, b = ufm.random_point(seed, scale)
    for p in (
        (W, H, b + shift * ufm.bias),
        (W, 10 * scale * W[[0, 0, 0, 0, 1, 1, 2] if not collapse else [0, 1, 2]], b),
    ):
        certificate = uf.certify(ufm, uf.Point(*p))
        assert abs(Decimal(certificate.loss) - Oracle.of(ufm).decimal_loss(*p)) <= Decimal(certificate.rounding)


def test_a_bound_above_the_loss_is_an_error():
    assert certified_gap(1.0, 1e-13, 1.0 + 1e-14) == pytest.approx(1e-13, rel=1e-2)
    for bound in (1.0 + 2e-13, np.nan):
        with pytest.raises(ArithmeticError, match="please report"):
            certified_gap(1.0, 1e-13, bound)


@pytest.mark.parametrize("seed", range(8))
def test_saturated_points_with_smoothing(seed):
    """Probabilities of the right class that rounding makes negative still leave a bound."""
    ufm = uf.UFM(3, 3, [100000, 1, 1], loss=uf.CrossEntropy(label_smoothing=0.1), lambda_W=1e-4, lambda_H=1e-4)
    bound = uf.certify(ufm, ufm.random_point(seed, scale=30.0)).lower_bound
    assert 0.25 < bound <= uf.minimize(ufm).fun


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("lambda_b", [5e-324, 1e-100, 1e-22, 1e-20, 1e-18, 1e-16, 1e-15, 1e-14, 1e-12])
def test_tiny_decay_of_the_bias(loss, lambda_b):
    """Bounds for lambda_b = 0 take over before rounding, divided by lambda_b, empties those for lambda_b > 0."""
    ufm = uf.UFM(10, 10, np.arange(1, 11) ** 3, loss=loss, lambda_W=1e-4, lambda_H=1e-4, lambda_b=lambda_b)
    found = uf.minimize(ufm, tol=1e-11)
    assert found.success
    assert uf.certify(ufm, found.point).is_global(1e-11)


@pytest.mark.parametrize("lambda_b", [6e-17, 2e-16, 1e-15, 1e-12])
def test_decay_of_the_bias_between_two_bounds(lambda_b):
    """A loss so small that a decay, though within the rounding of a loss of order one, is a part of it that counts."""
    ufm = uf.UFM(2, 2, [29, 18845], lambda_W=1.6e-12, lambda_H=1.6e-12, lambda_b=lambda_b)
    found = uf.minimize(ufm)
    assert found.fun < 1e-8
    assert found.success


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_bias_far_from_its_best_does_not_empty_the_cheapest_bound(loss):
    """|e|^2 / (2 lambda_b) leaves nothing; the bound of the model without that decay is left."""
    counts, decays = [40, 21, 11, 6, 3], {"lambda_W": 1e-3, "lambda_H": 1e-3}
    decayed, free = (uf.UFM(5, 5, counts, loss=loss, lambda_b=lambda_b, **decays) for lambda_b in (1e-10, 0.0))
    p = uf.Point(*free.random_point(0)[:2], np.array([3.0, 1.0, 0.0, -1.0, -3.0]))
    bound = quick_certificate_at(linearized(decayed, p)).lower_bound
    assert 0.1 * uf.minimize(free).fun < bound <= uf.minimize(free).fun * (1 + 1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("lambda_b", [0.0, 1e-9, 1e-2, 1e5])
@pytest.mark.parametrize(("lambda_W", "lambda_H"), [(1e-4, 1e-4), (1e-4, 1e-12), (1e4, 1e3)])
def test_points_near_overflow(loss, lambda_b, lambda_W, lambda_H):
    """A bound or a FloatingPointError, and no warning: pytest makes errors of those."""
    ufm = uf.UFM(4, 4, [10, 3, 2, 1], loss=loss, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b)
    W, H, b = ufm.random_point(4, scale=1.0)
    minimum = uf.minimize(ufm, tol=1e-6).fun
    for size in (1e76, 1e100, 1e150, 1e151, 1e152, 1e153):
        for p in ((W * size, H * size, b), (W * size, H / size, 1e10 * b), (W / size, H * size, b)):
            with contextlib.suppress(FloatingPointError):
                certificate = uf.certify(ufm, uf.Point(*p))
                assert 0 <= certificate.lower_bound <= minimum
                assert uf.classify(ufm, uf.Point(*p)).kind == "not_critical"
    with pytest.raises(FloatingPointError, match="overflows"):
        uf.certify(ufm, uf.Point(W * 1e155, H, b))
