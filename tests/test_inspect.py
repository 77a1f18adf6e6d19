"""inspect: points whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from networks import DECAYS, N_CLASS, D, K, network
from oracle import Oracle


def in_class_order(arrays):
    order = np.argsort(arrays["labels"], kind="stable")
    return uf.Point(arrays["W"], np.ascontiguousarray(arrays["H"][order]), arrays["b"])


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("counts", [N_CLASS, [40, 30, 20, 10, 5, 5]])
def test_the_global_minimum_is_recognised(loss, counts):
    ufm, arrays = network(loss, counts=counts)
    found = uf.inspect(**arrays, loss=loss, **DECAYS)
    assert found.loss == pytest.approx(ufm.loss(uf.global_minimum(ufm).point), rel=1e-13)
    assert 0 <= found.relative_gap < 1e-7
    assert found.spectral_norm / found.threshold == pytest.approx(1, abs=1e-4)
    assert found.near_critical
    assert found.stationarity < 1e-3
    assert found.critical.kind == "global_minimum"
    assert found.mean_loss == pytest.approx(found.loss, rel=1e-13)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("bias", [True, False])
def test_against_the_oracle(loss, bias):
    """Loss, |G|_2 and the gradient are those of the model with a row a sample."""
    _, arrays = network(loss, noise=0.3)
    if not bias:
        arrays["b"] = None
    found = uf.inspect(**arrays, loss=loss, **DECAYS)
    p = in_class_order(arrays | {"b": np.zeros(K) if not bias else arrays["b"]})
    full = uf.UFM(K, D, N_CLASS, loss=loss, collapse=False, bias=bias, **DECAYS)
    oracle = Oracle.of(full)
    assert found.loss == pytest.approx(oracle.loss(*p), rel=1e-13)
    G = full._problem.gradient_matrix(*p, 1)
    assert found.spectral_norm == pytest.approx(np.linalg.norm(G, 2), rel=1e-12)
    gradient = uf.Point(*oracle.gradient(*p))
    rho = (DECAYS["lambda_H"] / DECAYS["lambda_W"]) ** 0.25
    data_W = gradient.W - DECAYS["lambda_W"] * p.W
    data_H = gradient.H - DECAYS["lambda_H"] * p.H
    data_b = gradient.b - DECAYS["lambda_b"] * p.b

    def norm(W, H, b):
        return np.sqrt(rho**2 * (W**2).sum() + (H**2).sum() / rho**2 + (b**2).sum() * bias)

    ridge = norm(DECAYS["lambda_W"] * p.W, DECAYS["lambda_H"] * p.H, DECAYS["lambda_b"] * p.b)
    expected = norm(gradient.W, gradient.H, gradient.b) / (norm(data_W, data_H, data_b) + ridge)
    assert found.stationarity == pytest.approx(expected, rel=1e-10)
    eigenvalues = np.linalg.eigvalsh(oracle.hessian(*p))
    assert eigenvalues[0] >= min(found.lowest_eigenvalue_bound, DECAYS["lambda_b"] if bias else np.inf) - 1e-12
    assert found.mean_loss < found.loss
    assert found.gap == pytest.approx(found.loss - found.lower_bound, rel=1e-12)


@given(noise=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_the_bound_lies_below_the_global_minimum(noise, seed):
    ufm, arrays = network(noise=noise, seed=seed)
    found = uf.inspect(**arrays, **DECAYS, solve=False)
    tight = uf.inspect(**arrays, **DECAYS)
    minimum = uf.global_minimum(ufm).value
    assert found.lower_bound <= tight.lower_bound <= minimum * (1 + 1e-14)
    assert tight.lower_bound == pytest.approx(minimum, rel=1e-7)
    assert found.loss >= minimum * (1 - 1e-14)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_decays_are_recovered_at_a_critical_point(loss):
    _, arrays = network(loss, counts=[40, 30, 20, 10, 5, 5])
    found = uf.inspect(**arrays, loss=loss).decays
    assert found.fitted == ("lambda_W", "lambda_H", "lambda_b")
    for name, value in DECAYS.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4), name
    assert max(found.residual_W, found.residual_H, found.residual_b, found.imbalance) < 1e-3


@pytest.mark.parametrize("given_name", ["lambda_W", "lambda_H"])
def test_one_decay_follows_from_the_other_by_balance(given_name):
    _, arrays = network()
    found = uf.inspect(**arrays, **{given_name: DECAYS[given_name]}).decays
    assert found.lambda_W == pytest.approx(DECAYS["lambda_W"], rel=1e-5)
    assert found.lambda_H == pytest.approx(DECAYS["lambda_H"], rel=1e-5)


def scaled(arrays, factor):
    return arrays | {"H": factor * arrays["H"]}


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "bce"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_slope_is_that_of_the_data_loss_in_a_scale_of_the_logits(loss, sign):
    _, arrays = network(loss, noise=0.05)
    away, step = scaled(arrays, sign), 1e-6
    up, down = (uf.inspect(**scaled(away, 1 + s), loss=loss, **DECAYS, solve=False).data_loss for s in (step, -step))
    slope = uf.inspect(**away, loss=loss, **DECAYS, solve=False).decays.slope
    assert slope * sign < 0
    assert slope == pytest.approx((up - down) / (2 * step), rel=1e-6)


def compared(found):
    numbers = (
        found.loss, found.mean_loss, found.lower_bound, found.gap, found.relative_gap, found.threshold,
        found.stationarity, found.lowest_eigenvalue_bound,
    )  # fmt: skip
    assert len(set(np.isnan(numbers))) == 1
    assert np.isnan(numbers[0]) == (found.ufm is None) == (found.critical is None) == bool(found.reason)
    assert not found.reason or not found.near_critical
    return not found.reason


def test_where_no_decays_fit_the_metrics_are_there_and_the_push_is_named():
    _, arrays = network(noise=0.1)
    away = scaled(arrays, -1)
    smaller = uf.inspect(**scaled(away, 0.999), **DECAYS, solve=False).data_loss
    with pytest.warns(RuntimeWarning, match="the data loss falls when the logits W h_i shrink") as caught:
        found = uf.inspect(**away)
    assert smaller < found.data_loss
    assert f"{found.decays.slope:+.3g}" in str(caught[0].message)
    assert found.reason in str(caught[0].message)
    assert found.reason in str(found)
    assert not compared(found)
    unfitted = ("lambda_W", "lambda_H", "residual_W", "residual_H", "imbalance")
    assert np.isnan([getattr(found.decays, name) for name in unfitted]).all()
    assert found.decays.fitted == ("lambda_b",)
    metrics, given = uf.nc_metrics(**away), uf.inspect(**away, **DECAYS, solve=False)
    assert found.metrics.scalars() == metrics.scalars()
    assert found.data_loss == given.data_loss
    assert found.spectral_norm == given.spectral_norm
    assert compared(given)


def test_a_bad_fit_says_so():
    _, arrays = network()
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0]
    found = uf.inspect(**(arrays | {"H": arrays["H"] @ rotation}), lambda_W=5e-3).decays
    assert found.imbalance > 0.1
    assert found.residual_W > 0.1


@pytest.mark.filterwarnings("ignore:.*metrics:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*is undefined:RuntimeWarning")
def test_zero_features_and_zero_classifiers():
    _, arrays = network()
    no_H, no_W = (arrays | {name: np.zeros_like(arrays[name]), "b": None} for name in "HW")
    found = uf.inspect(**no_H, lambda_W=5e-3, lambda_H=2e-4)
    assert found.loss == pytest.approx(np.log(K) + 5e-3 / 2 * (arrays["W"] ** 2).sum(), rel=1e-14)
    origin = uf.inspect(**(no_H | {"W": no_W["W"]}), lambda_W=5e-3, lambda_H=2e-4)
    assert origin.stationarity == 0
    assert origin.critical.kind == "strict_saddle"
    for what, arrays, decays in (
        ("all features are zero", no_H, {"lambda_W": 5e-3}),
        ("all features are zero", no_H, {}),
        ("W is zero", no_W, {"lambda_H": 5e-3}),
    ):
        with pytest.warns(RuntimeWarning, match=f"no decays fit, because {what}"):
            assert not compared(uf.inspect(**arrays, **decays))


@pytest.mark.filterwarnings("ignore:each row of W is orthogonal:RuntimeWarning")
def test_no_common_direction():
    apart = {
        "W": np.eye(K, 2 * K),
        "H": np.eye(K, 2 * K)[:, ::-1].repeat(2, axis=0),
        "labels": np.repeat(np.arange(K), 2),
    }
    for decays in ({"lambda_W": 5e-3}, {"lambda_H": 5e-3}):
        with pytest.warns(RuntimeWarning, match="no direction in common"):
            found = uf.inspect(**apart, **decays)
        assert {name: getattr(found.decays, name) for name in decays} == decays
        assert not compared(found)


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (100, r"the fitted lambda_W must lie between 1e-50 and 1e\+50"),
        (1e4, "the gradient of the data loss is zero"),
        (1e40, "H must be zero or have a norm between 1e-30 and 1e30"),
        (1e-40, "H must be zero or have a norm between 1e-30 and 1e30"),
    ],
)
def test_gradients_that_vanish_and_features_of_extreme_size(factor, reason):
    _, arrays = network()
    with pytest.warns(RuntimeWarning, match=reason):
        found = uf.inspect(**scaled(arrays, factor))
    assert not compared(found)
    assert found.metrics.nc3_duality == pytest.approx(uf.nc_metrics(**arrays).nc3_duality, abs=1e-12)
    assert 0 <= found.data_loss < 2


@pytest.mark.parametrize("scale", [1e-200, 1e40, 1e100])
def test_classifiers_of_extreme_size(scale):
    _, arrays = network()
    with pytest.raises(ValueError, match="W must be zero or have a norm between 1e-30 and 1e30"):
        uf.inspect(**(arrays | {"H": Unread(), "W": scale * arrays["W"]}))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_of_zero():
    """One class alone, fitted by a free bias."""
    b = np.eye(K)[2]
    found = uf.inspect(
        np.zeros((K, D)), np.zeros((5, D)), np.full(5, 2), b, loss="mse", lambda_W=1e-2, lambda_H=1e-2, lambda_b=0
    )
    assert (found.loss, found.lower_bound, found.gap, found.relative_gap) == (0, 0, 0, 0)


def test_what_all_logits_have_in_common_is_not_rounded():
    _, arrays = network(noise=0.3)
    free = DECAYS | {"lambda_b": 0.0}
    none, large = (uf.inspect(**(arrays | {"b": b}), **free, solve=False) for b in (np.zeros(K), np.full(K, 2.0**56)))
    assert large.data_loss == none.data_loss
    assert large.spectral_norm == none.spectral_norm
    W = np.round(arrays["W"] * 2**20) / 2**20
    small, shifted = (uf.inspect(**(arrays | {"W": W + shift}), **free, solve=False) for shift in (0, 2.0**30))
    assert shifted.data_loss == pytest.approx(small.data_loss, rel=1e-12)


class Unread:
    """Features that must not be read yet."""

    shape = (K * N_CLASS, D)

    def __getitem__(self, rows):
        raise AssertionError("read before the arguments were checked")


NAN_W, NAN_b = np.full((K, D), np.nan), np.full(K, np.nan)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("lambda_W must be positive and finite, not -1", {"lambda_W": -1.0}),
        ("lambda_H must be positive and finite, not inf", {"lambda_H": np.inf}),
        ("lambda_b must be non-negative and finite, not nan", {"lambda_b": np.nan}),
        ("lambda_W must be a real number", {"lambda_W": "1e-3"}),
        (r"lambda_W must lie between 1e-50 and 1e\+50", {"lambda_W": 1e300}),
        (r"lambda_H must lie between 1e-50 and 1e\+50", {"lambda_H": 1e-300}),
        (r"lambda_b must lie between 1e-50 and 1e\+50", {"lambda_b": 1e-300}),
        ("centre must be 'samples' or 'classes', not 'middle'", {"centre": "middle"}),
        ("labels must lie in", {"labels": np.full(K * N_CLASS, -1)}),
        ("labels must have shape", {"labels": np.zeros(3, int)}),
        ("labels must be integers", {"labels": np.zeros(K * N_CLASS)}),
        ("loss must be", {"loss": "hinge"}),
        ("loss must be convex", {"loss": uf.Focal(2)}),
        ("loss must have a logit a class", {"loss": uf.Ordinal((0.0, 1.0))}),
        ("scale must hold a number for each", {"loss": uf.CrossEntropy(scale=[1.0, 2.0])}),
        ("weights must be positive", {"weights": -np.ones(K)}),
        ("weights must be a positive number or 6", {"weights": np.ones(K - 1)}),
        ("weights must make terms in the range", {"weights": 5e-324}),
        ("threads must be between 1", {"threads": 0}),
        ("threads must be an int", {"threads": 1.5}),
        ("progress must be callable", {"progress": 3}),
        ("solve must be True or False", {"solve": 1}),
        ("classes must be 6 ints", {"classes": range(K + 1)}),
        ("classes must be different", {"classes": np.zeros(K, int)}),
        ("ignore_index must be an int", {"ignore_index": 1.5}),
        ("W must be finite", {"W": NAN_W}),
        ("b must be finite", {"b": NAN_b}),
        ("b must have shape", {"b": np.zeros(K + 1)}),
        ("W must be float32 or float64", {"W": np.full((K, D), 1j)}),
        (r"H must have shape \(rows, 10\)", {"W": np.zeros((K, D + 1))}),
    ],
)
def test_errors_come_before_the_work(message, change):
    _, arrays = network()
    with pytest.raises((ValueError, TypeError), match=message):
        uf.inspect(**(arrays | {"H": Unread()} | change))


def test_memory_is_asked_for_before_the_work(monkeypatch):
    _, arrays = network()
    monkeypatch.setattr("ufm_fast._runtime.memory.available_memory", lambda: 1e4)
    monkeypatch.setattr("ufm_fast._runtime.memory._SMALL", 0)
    with pytest.raises(MemoryError, match=r"inspect needs about .* GiB of memory for K = 6, M = 6, d = 9"):
        uf.inspect(**(arrays | {"H": Unread()}))


def test_the_bound_where_memory_does_not_suffice_to_solve(monkeypatch):
    _, arrays = network(noise=0.1)
    loose = uf.inspect(**arrays, **DECAYS, solve=False)

    def too_large(ufm):
        raise MemoryError("minimize needs more")

    monkeypatch.setattr("ufm_fast._networks.inspection.global_minimum", too_large)
    with pytest.warns(RuntimeWarning, match="the lower bound is that of the class means: minimize needs more"):
        assert uf.inspect(**arrays, **DECAYS).lower_bound == loose.lower_bound


@pytest.mark.filterwarnings("error")
def test_extreme_decays_and_sizes_do_not_overflow():
    _, arrays = network(noise=0.1)
    for ratio in (1e49, 1e-49):
        found = uf.inspect(**scaled(arrays, 1e27), lambda_W=ratio, lambda_H=1 / ratio)
        assert compared(found)
        assert 0 < found.lower_bound < found.loss


def test_metrics_are_there_where_memory_gives_out_in_the_comparison(monkeypatch):
    _, arrays = network(noise=0.1)

    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr("ufm_fast._networks.inspection.classified", too_large)
    with pytest.warns(RuntimeWarning, match="no comparison with a UFM: memory does not suffice"):
        found = uf.inspect(**arrays, **DECAYS)
    assert not compared(found)
    assert found.metrics.scalars() == uf.nc_metrics(**arrays).scalars()


def test_the_bound_is_over_every_feature_dimension():
    rng = np.random.default_rng(0)
    W, H, labels = rng.standard_normal((K, 2)), rng.standard_normal((60, 2)), np.repeat(np.arange(K), 10)
    minimum = uf.global_minimum(uf.UFM(K, K, 10, **DECAYS)).value
    found = uf.inspect(W, H, labels, np.zeros(K), **DECAYS)
    assert found.lower_bound == pytest.approx(minimum, rel=1e-9)
    assert found.lower_bound <= minimum


def test_numpy_scalars_become_floats():
    _, arrays = network(noise=0.1)
    given = {"lambda_W": np.float32(5e-3), "lambda_H": np.array(2e-4), "lambda_b": np.float64(1e-2)}
    found = uf.inspect(**arrays, **given, weights=np.float32(1.5), threads=np.int64(1), ignore_index=np.int32(-1))
    as_floats = {name: float(value) for name, value in given.items()}
    assert found.loss == uf.inspect(**arrays, **as_floats, weights=1.5, threads=1).loss
    for owner in (found, found.decays):
        numbers = [value for value in vars(owner).values() if not isinstance(value, str | tuple | bool)]
        assert {type(value) for value in numbers} - {float} <= {uf.NCMetrics, uf.Decays, uf.UFM, type(found.critical)}


def test_ignored_samples_are_left_out():
    _, arrays = network(noise=0.1)
    marked = {
        "H": np.concatenate([np.full((5000, D), 1e3), arrays["H"], np.full((7, D), -1e3)]),
        "labels": np.concatenate([np.full(5000, -100), arrays["labels"], np.full(7, -100)]),
    }
    calls = []
    found = uf.inspect(**(arrays | marked), **DECAYS, ignore_index=-100, progress=lambda *call: calls.append(call))
    expected = uf.inspect(**arrays, **DECAYS)
    assert calls == [(i, 6) for i in range(1, 7)]
    assert found.ufm.N == expected.ufm.N
    for name in ("loss", "gap", "spectral_norm", "stationarity", "lowest_eigenvalue_bound"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10), name
    assert found.metrics.nc1 == pytest.approx(expected.metrics.nc1, rel=1e-10)
    assert found.metrics.nc4_agreement == expected.metrics.nc4_agreement
    assert found.metrics.left_out == 5007
    other = np.where(np.arange(len(marked["labels"])) < 2000, 77, marked["labels"])
    masked = np.ma.masked_equal(other, -100)
    for labels, ignored in ((other, [-100, 77]), (masked, 77)):
        again = uf.inspect(**(arrays | marked | {"labels": labels}), **DECAYS, ignore_index=ignored)
        assert again.loss == found.loss
        assert again.metrics.left_out == 5007
    with pytest.raises(ValueError, match="sample 0 and 5006 others have -100: ignore_index=-100 leaves them out"):
        uf.inspect(**(arrays | marked), **DECAYS)


def test_a_saddle_has_its_direction_and_eigenvalue():
    ufm = uf.UFM(K, D, N_CLASS, **DECAYS)
    p = uf.saddle(ufm, 3, seed=1)
    labels = np.repeat(np.arange(K), N_CLASS)
    with pytest.warns(RuntimeWarning) as caught:
        found = uf.inspect(p.W, p.H[labels], labels, p.b, **DECAYS)
    assert any("NC1 leaves out 2 of 5 directions" in str(warning.message) for warning in caught)
    exact = uf.classify(ufm, p)
    assert found.critical.kind == "strict_saddle"
    assert found.near_critical
    assert found.lowest_eigenvalue_bound == pytest.approx(exact.lowest_eigenvalue, rel=1e-6)
    v = found.critical.direction
    Hv = ufm.hvp(p, v)
    assert sum(np.vdot(a, b) for a, b in zip(v, Hv, strict=True)) < 0
    assert found.spectral_norm > found.threshold
    assert found.metrics.rank_W == found.metrics.rank_means == 3


def test_progress_and_labels():
    _, arrays = network(noise=0.1)
    calls = []
    H, labels = np.tile(arrays["H"], (60, 1)), np.tile(arrays["labels"], 60)
    names = np.arange(3, 3 + K)
    found = uf.inspect(
        arrays["W"], H, names[labels], arrays["b"], **DECAYS, classes=names, progress=lambda *call: calls.append(call)
    )
    assert calls == [(i, 10) for i in range(1, 11)]
    assert found.metrics.nc1 == pytest.approx(uf.nc_metrics(**arrays).nc1, rel=1e-10)
