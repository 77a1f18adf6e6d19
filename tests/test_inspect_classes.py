"""inspect where some classes have no samples: their rows of W stay in the loss."""

import numpy as np
import pytest

import ufm_fast as uf
from networks import DECAYS, D, K
from oracle import Oracle

PRESENT, ABSENT_COUNTS = np.array([0, 2, 3, 5]), np.array([12, 9, 7, 3])


def partial_network(loss, weights=None, noise=0.0, bias=True, seed=0):
    """A model in which classes 1 and 4 have logits but no samples, and samples at or near its minimum."""
    each = None if weights is None else weights[PRESENT]
    ufm = uf.UFM(K, D, targets=PRESENT, n=ABSENT_COUNTS, loss=loss, weights=each, bias=bias, **DECAYS)
    p = uf.minimize(ufm, tol=1e-11).point
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(len(PRESENT)), ABSENT_COUNTS))
    W, H, b = (part + noise * rng.standard_normal(part.shape) for part in (p.W, p.H[rows], p.b))
    return ufm, {"W": W, "H": H, "labels": PRESENT[rows], "b": b if bias else None}


MEMBERS = {
    "cross_entropy": uf.CrossEntropy(),
    "smoothed": uf.CrossEntropy(0.1),
    "mse": uf.MSE(),
    "bce": uf.BinaryCrossEntropy(),
    "vs": uf.CrossEntropy(scale=np.linspace(0.5, 2, K), shift=np.linspace(-1, 1, K), margin=np.linspace(0, 1, K)),
}


@pytest.mark.filterwarnings("ignore:2 of 6 classes have no samples:RuntimeWarning")
@pytest.mark.parametrize("loss", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 3, K)], ids=["plain", "weighted"])
def test_classes_without_samples_against_the_oracle(loss, weights):
    """A row a sample, logits of all classes."""
    _, arrays = partial_network(loss, weights, noise=0.2)
    found = uf.inspect(**arrays, loss=loss, weights=weights, **DECAYS)
    labels, N = arrays["labels"], len(arrays["labels"])
    each = np.ones(N) if weights is None else weights[labels]
    oracle = Oracle.of(found.ufm, rows=(np.eye(K)[labels], each / N, np.ones(N)))
    p = uf.Point(arrays["W"], arrays["H"], arrays["b"])
    assert found.loss == pytest.approx(oracle.loss(*p), rel=1e-12)
    G = oracle.residuals(*p)
    assert found.spectral_norm == pytest.approx(np.linalg.norm(G, 2), rel=1e-10)
    assert found.decays.slope == pytest.approx(np.vdot(G @ p.W, p.H), rel=1e-10)
    lowest = np.linalg.eigvalsh(oracle.hessian(*p))[0]
    assert lowest >= min(found.lowest_eigenvalue_bound, DECAYS["lambda_b"]) - 1e-12
    assert found.lower_bound < found.mean_loss < found.loss
    assert found.ufm.N == N
    assert found.metrics.missing.tolist() == [1, 4]
    assert found.metrics.nc1 == pytest.approx(uf.nc_metrics(**arrays).nc1, rel=1e-12)
    assert "2 of 6 classes without samples" in str(found)


@pytest.mark.filterwarnings("ignore:2 of 6 classes have no samples:RuntimeWarning")
@pytest.mark.parametrize("loss", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_minimum_is_recognised_where_classes_have_no_samples(loss, bias):
    ufm, arrays = partial_network(loss, bias=bias)
    found = uf.inspect(**arrays, loss=loss, **DECAYS)
    assert found.loss == pytest.approx(uf.minimize(ufm, tol=1e-11).fun, rel=1e-11)
    assert 0 <= found.relative_gap < 1e-8
    assert found.stationarity < 1e-4
    assert found.critical.kind == "global_minimum"
    assert found.spectral_norm / found.threshold == pytest.approx(1, abs=1e-3)
    fitted = uf.inspect(**arrays, loss=loss, solve=False).decays
    assert fitted.lambda_W == pytest.approx(DECAYS["lambda_W"], rel=1e-3)
    assert fitted.lambda_H == pytest.approx(DECAYS["lambda_H"], rel=1e-3)
    if loss.treats_classes_alike:  # without their rows of W it is another model, unless their logits are fitted to 0
        kept = {"W": arrays["W"][PRESENT], "b": arrays["b"][PRESENT] if bias else None}
        narrow = uf.inspect(**(arrays | kept), loss=loss, classes=PRESENT, **DECAYS, solve=False)
        assert (narrow.data_loss < found.data_loss * (1 - 1e-3)) == (loss.name != "mse")


@pytest.mark.filterwarnings("ignore:2 of 6 classes have no samples:RuntimeWarning")
def test_a_free_bias_where_classes_have_no_samples():
    """The bias of such a class has no best value, but any is inspected."""
    _, arrays = partial_network("cross_entropy", noise=0.1)
    free = DECAYS | {"lambda_b": 0.0}
    losses = []
    for low in (0.0, -5.0, -50.0):
        b = arrays["b"].copy()
        b[[1, 4]] = low
        found = uf.inspect(**(arrays | {"b": b}), **free)
        losses.append(found.loss)
        assert 0 < found.lower_bound < found.loss
    assert losses[0] > losses[1] > losses[2]
    assert found.lower_bound == pytest.approx(uf.global_minimum(uf.UFM(4, D, ABSENT_COUNTS, **free)).value, rel=1e-7)
