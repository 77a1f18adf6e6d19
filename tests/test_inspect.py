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


def test_a_bad_fit_says_so():
    rng = np.random.default_rng(0)
    _, arrays = network()
    away = arrays | {"H": -arrays["H"]}  # the loss falls if these are made smaller, which decays do anyway
    larger = away | {"H": 1.001 * away["H"]}
    losses = [uf.inspect(**given, **DECAYS, solve=False).data_loss for given in (away, larger)]
    assert losses[0] < losses[1]
    with pytest.raises(ValueError, match="none fit, because the data term does not ask for larger logits"):
        uf.inspect(**away)
    arrays["H"] = arrays["H"] @ np.linalg.qr(rng.standard_normal((D, D)))[0]
    found = uf.inspect(**arrays, lambda_W=5e-3).decays
    assert found.imbalance > 0.1
    assert found.residual_W > 0.1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_features_and_zero_classifiers():
    _, arrays = network()
    nothing = arrays | {"H": np.zeros_like(arrays["H"]), "b": None}
    found = uf.inspect(**nothing, lambda_W=5e-3, lambda_H=2e-4)
    assert found.loss == pytest.approx(np.log(K) + 5e-3 / 2 * (arrays["W"] ** 2).sum(), rel=1e-14)
    with pytest.raises(ValueError, match="lambda_H must be given: W and H have no direction in common"):
        uf.inspect(**nothing, lambda_W=5e-3)
    with pytest.raises(ValueError, match="lambda_W must be given: W and H have no direction in common"):
        uf.inspect(**(arrays | {"W": np.zeros((K, D))}), lambda_H=5e-3)
    apart = {"W": np.eye(K, 2 * K), "H": np.eye(K, 2 * K)[:, ::-1], "labels": np.arange(K)}
    with pytest.raises(ValueError, match="lambda_H must be given: W and H have no direction in common"):
        uf.inspect(**apart, lambda_W=5e-3)
    with pytest.raises(ValueError, match="lambda_W or lambda_H must be given"):
        uf.inspect(**nothing)
    for scale in (1e-200, 1e40, 1e100):
        with pytest.raises(ValueError, match="W must be zero or have a norm between 1e-30 and 1e30"):
            uf.inspect(**(arrays | {"W": scale * arrays["W"]}))
    with pytest.raises(ValueError, match="H must be zero or have a norm between 1e-30 and 1e30"):
        uf.inspect(**(arrays | {"H": 1e40 * arrays["H"]}), lambda_W=1.0)


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


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("lambda_W must be positive and finite, not -1", {"lambda_W": -1.0}),
        ("lambda_H must be positive and finite, not inf", {"lambda_H": np.inf}),
        ("lambda_b must be non-negative and finite, not nan", {"lambda_b": np.nan}),
        ("centre must be 'samples' or 'classes', not 'middle'", {"centre": "middle"}),
        ("labels must lie in", {"labels": np.full(K * N_CLASS, -1)}),
        ("class 1 has none", {"labels": np.zeros(K * N_CLASS, int)}),
    ],
)
def test_errors_come_before_the_work(message, change):
    _, arrays = network()
    with pytest.raises(ValueError, match=message):
        uf.inspect(**(arrays | {"H": Unread()} | change))


def test_ignored_samples_are_left_out():
    _, arrays = network(noise=0.1)
    marked = {
        "H": np.concatenate([np.full((5000, D), 1e3), arrays["H"], np.full((7, D), -1e3)]),
        "labels": np.concatenate([np.full(5000, -100), arrays["labels"], np.full(7, -100)]),
    }
    calls = []
    found = uf.inspect(**(arrays | marked), **DECAYS, ignore_index=-100, progress=lambda *call: calls.append(call))
    expected = uf.inspect(**arrays, **DECAYS)
    assert calls == [(i, 4) for i in range(1, 5)]
    assert found.ufm.N == expected.ufm.N
    for name in ("loss", "gap", "spectral_norm", "stationarity", "lowest_eigenvalue_bound"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10), name
    assert found.metrics.nc1 == pytest.approx(expected.metrics.nc1, rel=1e-10)
    assert found.metrics.nc4_agreement == expected.metrics.nc4_agreement
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


def test_every_class_needs_a_sample():
    _, arrays = network()
    keep = arrays["labels"] != 4
    with pytest.raises(ValueError, match="class 4 has none"):
        uf.inspect(arrays["W"], arrays["H"][keep], arrays["labels"][keep], **DECAYS)


@pytest.mark.parametrize("name", ["lambda_W", "lambda_H"])
def test_decays_must_be_positive(name):
    _, arrays = network()
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        uf.inspect(**arrays, **{name: -1.0})


def test_progress_and_labels():
    _, arrays = network(noise=0.1)
    calls = []
    H, labels = np.tile(arrays["H"], (60, 1)), np.tile(arrays["labels"], 60)
    names = np.arange(3, 3 + K)
    found = uf.inspect(
        arrays["W"], H, names[labels], arrays["b"], **DECAYS, classes=names, progress=lambda *call: calls.append(call)
    )
    assert calls == [(i, 6) for i in range(1, 7)]
    assert found.metrics.nc1 == pytest.approx(uf.nc_metrics(**arrays).nc1, rel=1e-10)
