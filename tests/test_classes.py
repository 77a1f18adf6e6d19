"""The problem on class means in canonical coordinates, against the oracle on all samples."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from comparison import BIASES, LOSSES
from oracle import Oracle
from ufm_fast._model.canonical import CanonicalProblem

COUNTS = [6, 3, 3, 2, 1]


def probabilities(q, G):
    """Softmax rows from a gradient matrix of the cross-entropy."""
    return G * (q.root / q.weights)[:, None] + q.targets


def model(**options):
    return uf.UFM(5, 4, COUNTS, **{"lambda_W": 3e-2, "lambda_H": 2e-3, **options})


def full_point(q, A, B, b):
    """(W, H, b) with a row a sample, from the definition of the coordinates."""
    means = B / (q.ufm.rho * np.sqrt(COUNTS))[:, None]
    return q.ufm.rho * A, np.repeat(means, COUNTS, axis=0), b


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
def test_value_and_gradient_are_those_of_all_samples(loss, bias):
    ufm = model(loss=loss, **bias)
    q, oracle = CanonicalProblem(ufm), Oracle.of(ufm).full()
    A, B, b = q.coordinates(ufm.random_point(1, scale=1.0))
    point = full_point(q, A, B, b)
    value, G, gb = q.data_term(B @ A.T, b)
    F = value + q.tau / 2 * ((A**2).sum() + (B**2).sum()) + q.lambda_b / 2 * (b**2).sum()
    assert pytest.approx(oracle.loss(*point), rel=1e-13) == F
    gW, gH, full_gb = oracle.gradient(*point)
    first = np.cumsum([0, *COUNTS[:-1]])  # one sample of each class
    assert q.ufm.rho * gW == pytest.approx(G.T @ B + q.tau * A, rel=1e-12)
    assert gH[first] * (np.sqrt(COUNTS) / q.ufm.rho)[:, None] == pytest.approx(G @ A + q.tau * B, rel=1e-12)
    assert full_gb == pytest.approx(gb + q.lambda_b * b, rel=1e-12)
    assert np.linalg.norm(G, 2) == pytest.approx(np.linalg.norm(oracle.residuals(*point), 2), rel=1e-13)
    assert q.targets == pytest.approx(oracle.targets[first], rel=1e-15)
    if loss.name == "cross_entropy":
        assert probabilities(q, G) == pytest.approx(oracle.probabilities(*point)[first], rel=1e-12)


@given(st.booleans(), st.sampled_from(["float64", "float32"]), st.sampled_from(BIASES), st.integers(0, 100))
def test_coordinates_and_point_are_inverse(collapse, dtype, bias, seed):
    ufm = model(collapse=collapse, dtype=dtype, **bias)
    q = CanonicalProblem(ufm)
    coordinates = q.coordinates(ufm.random_point(seed))
    p = q.point(*coordinates)
    assert [part.dtype for part in p] == [dtype] * 3
    assert p.H.shape == (ufm.M, ufm.d)
    tolerance = {"float64": 1e-14, "float32": 1e-6}[dtype]
    for part, again in zip(coordinates, q.coordinates(p), strict=True):
        assert part.dtype == np.float64
        assert again == pytest.approx(part, rel=tolerance)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_best_bias_is_the_minimum(loss, bias, scale):
    q = CanonicalProblem(model(loss=loss, **bias))
    rng = np.random.default_rng(2)
    Z, start = scale * rng.standard_normal((5, 5)), rng.standard_normal(5)
    best = q.best_bias(Z, start)
    if not q.bias:
        assert (best == 0).all()
        return

    def value_and_gradient(b):
        value, _, gradient = q.data_term(Z, b)
        return value + q.lambda_b / 2 * b @ b, gradient + q.lambda_b * b

    value, gradient = value_and_gradient(best)
    assert np.abs(gradient).max() <= 1e-10
    search = scipy.optimize.minimize(value_and_gradient, start, jac=True, method="BFGS")
    assert value <= search.fun * (1 + 1e-14)
    if q.lambda_b == 0 and loss.name == "cross_entropy":
        assert abs(best.sum()) <= 1e-12
