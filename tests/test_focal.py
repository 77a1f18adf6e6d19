"""The focal loss is not convex: its spurious local minimum, and eigenpairs of a Hessian that this bends."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import ufm_fast as uf
from comparison import BIASES
from oracle import Oracle
from ufm_fast._model.canonical import CanonicalProblem
from ufm_fast._runtime import core


def isometric_hessian(ufm, p):
    """Dense, by the oracle, in the coordinates in which a collapsed row counts n_k times."""
    oracle = Oracle.of(ufm)
    root = np.repeat(oracle.multiplicities**-0.5, ufm.d)
    scale = np.concatenate([np.ones(ufm.K * ufm.d), root, np.ones(ufm.K * ufm.bias)])
    return scale[:, None] * oracle.hessian(*p) * scale


def simplex(K, s):
    """Factors with W H^T = s (I - 1/K) and of equal norms, in K columns."""
    root = np.sqrt(s) * (np.eye(K) - 1 / K)
    return uf.Point(root, root.copy(), np.zeros(K))


def test_the_zero_point_can_be_a_spurious_local_minimum():
    """K = 30, gamma = 3: f(0) > f(ETF), yet the Hessian at zero is positive in W and H, and so in all.

    At zero |G|_2 = A / K with A = q^gamma (1 - gamma p log(p) / q), p = 1/K, and the lowest eigenvalue is t - |G|_2.
    """
    K, gamma, t = 30, 3.0, 0.04097
    ufm = uf.UFM(K, K, loss=uf.Focal(gamma), lambda_W=t, lambda_H=t, lambda_b=0.1)
    zero = ufm.unpack(np.zeros(ufm.size))

    def value(s):
        p = 1 / (1 + (K - 1) * np.exp(-s))
        return -((1 - p) ** gamma) * np.log(p) + t * (K - 1) * s

    best = minimize_scalar(value, bounds=(0.5, 1.5), method="bounded", options={"xatol": 1e-12})
    etf = simplex(K, best.x)
    assert ufm.loss(etf) == pytest.approx(best.fun, rel=1e-13)
    assert max(np.abs(part).max() for part in ufm.loss_and_grad(etf)[1]) <= 1e-8
    assert ufm.loss(zero) == pytest.approx(3.0723, abs=5e-5)
    assert ufm.loss(etf) == pytest.approx(3.0656, abs=2e-4)  # t is rounded

    p, q = 1 / K, 1 - 1 / K
    lowest = t - q**gamma * (1 - gamma * p * np.log(p) / q) / K
    found = uf.lowest_eigenpairs(ufm, zero, 3)
    assert lowest == pytest.approx(2.6e-4, abs=1e-5)
    np.testing.assert_allclose(found.eigenvalues, lowest, rtol=1e-10)
    small = uf.UFM(K, 2, loss=uf.Focal(gamma), lambda_W=t, lambda_H=t, lambda_b=0.1)  # each column is alike at zero
    dense = np.linalg.eigvalsh(isometric_hessian(small, small.unpack(np.zeros(small.size))))
    assert dense[0] == pytest.approx(lowest, rel=1e-9)
    assert uf.lowest_eigenpairs(small, small.unpack(np.zeros(small.size))).eigenvalues[0] == pytest.approx(
        dense[0], rel=1e-9
    )


@pytest.mark.parametrize("bias", BIASES, ids=["free", "decayed", "none"])
@pytest.mark.parametrize("gamma", [0.5, 3.0])
@pytest.mark.parametrize(("K", "d", "n", "scale"), [(5, 3, [4, 1, 2, 2, 9], 1.0), (36, 7, 2, 1.5), (36, 7, 1, 0.1)])
def test_lowest_eigenpairs_are_those_of_the_dense_hessian(K, d, n, scale, gamma, bias):
    """Decomposed for the small model, searched for the others (more than 400 coordinates)."""
    ufm = uf.UFM(K, d, n, loss=uf.Focal(gamma), lambda_W=0.02, lambda_H=0.01, **bias)
    p = ufm.random_point(0, scale)
    dense = np.linalg.eigvalsh(isometric_hessian(ufm, p))
    found = uf.lowest_eigenpairs(ufm, p, 2, deflate=False)
    np.testing.assert_allclose(found.eigenvalues, dense[:2], rtol=0, atol=1e-8 * np.abs(dense).max())


def test_far_in_the_wrong_the_loss_curves_downwards():
    """Two classes, no decay to speak of: the second derivative of the loss shows, beyond that of the products W H."""
    ufm = uf.UFM(2, 1, loss=uf.Focal(4.0), lambda_W=1e-9, lambda_H=1e-9, bias=False)
    p = uf.Point(np.array([[1.5], [-1.5]]), np.array([[-1.0], [1.0]]), np.zeros(2))
    direction = uf.Point(np.array([[1.0], [-1.0]]), np.zeros((2, 1)), np.zeros(2))
    along = float(np.vdot(direction.W, ufm.hvp(p, direction).W))
    assert along < -1e-3
    assert along >= 2 * uf.Focal(4.0).least_curvature


@pytest.mark.parametrize("collapse", [True, False])
def test_spectrum(collapse):
    ufm = uf.UFM(4, 3, [2, 1, 3, 2], loss=uf.Focal(2.0), lambda_W=0.05, lambda_H=0.02, lambda_b=0.01, collapse=collapse)
    p = ufm.random_point(1, 1.0)
    found = uf.spectrum(ufm, p, steps=60, probes=4)
    dense = np.linalg.eigvalsh(isometric_hessian(ufm, p))
    assert found.size == (4 + 8) * 3 + 4
    assert found.weights.sum() == pytest.approx(found.size)
    assert found.nodes.min() == pytest.approx(dense[0], rel=1e-8)
    assert found.nodes.max() == pytest.approx(dense[-1], rel=1e-8)
    assert found.exact is None


def test_nothing_is_certified():
    ufm = uf.UFM(3, 3, loss=uf.Focal(2.0), lambda_W=0.05, lambda_H=0.02)
    for work in (uf.certify, uf.classify):
        with pytest.raises(ValueError, match="not convex"):
            work(ufm, ufm.random_point(0))


def test_more_features_than_a_descent_uses():
    """The escape by curvature at its end is from where it is: with fewer columns than the model."""
    values = []
    for d in (7, 30):
        ufm = uf.UFM(5, d, [2, 79, 5, 8, 46], loss=uf.Focal(2.0), lambda_W=0.041, lambda_H=0.0237)
        values.append(uf.minimize(ufm).fun)
    assert values[1] == pytest.approx(values[0], rel=1e-9)


def test_the_gradient_does_not_tell_second_derivatives():
    ufm = uf.UFM(3, 3, loss=uf.Focal(2.0), lambda_W=0.05, lambda_H=0.02)
    problem = CanonicalProblem(ufm)
    with pytest.raises(RuntimeError, match="does not tell"):
        core.curvature_sums(problem.core, np.zeros((3, 3)), 1)
    bounds = problem.curvature(np.zeros((3, 3)))  # what takes their place
    assert bounds.largest == pytest.approx(ufm.loss_function.curvature / 3)
