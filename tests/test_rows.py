"""Models of rows of any kind: soft targets, loss weights and ridges that no class counts explain."""

import itertools
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

import ufm_fast as uf
from ufm_fast._certify.linearization import linearized
from ufm_fast._model.facts import largest_rank
from ufm_fast._model.model import rows_model
from ufm_fast._model.rows import Rows

K, M = 5, 9
DECAYS = {"lambda_W": 0.03, "lambda_H": 0.01}
BIASES = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 0.02}]
KINDS = ["labels", "dense", "sparse"]


def targets_of(kind, loss, rng):
    """Of a kind, and as a matrix."""
    if kind == "labels":
        labels = rng.integers(0, K - 1, M)  # nobody belongs to the last class
        return labels, np.eye(K)[labels]
    matrix = rng.random((M, K)) * (rng.random((M, K)) < 0.5) + 0.1 * np.eye(M, K)
    matrix[:, 0] += 0.05
    matrix = matrix / matrix.sum(axis=1, keepdims=True) if loss != "mse" else 2 * matrix - 0.3 * (matrix > 0)
    if kind == "dense":
        return matrix, matrix
    present = [np.flatnonzero(row) for row in matrix]
    starts = np.concatenate([[0], np.cumsum([len(columns) for columns in present])])
    return (starts, np.concatenate(present), np.concatenate([row[row != 0] for row in matrix])), matrix


def rows(kind, loss, seed=0):
    rng = np.random.default_rng(seed)
    targets, matrix = targets_of(kind, loss, rng)
    weights, ridges = rng.uniform(0.5, 2, M) / M, rng.uniform(0.3, 4, M)
    return Rows(targets, weights, ridges), matrix


def model(kind, loss, bias, d=8, seed=0):
    data, matrix = rows(kind, loss, seed)
    return rows_model(K, d, data, loss=loss, **DECAYS, **bias), matrix


class Plain:
    """The loss of the model in NumPy alone."""

    def __init__(self, ufm, matrix):
        self.ufm, self.T = ufm, matrix
        if isinstance(ufm.loss_function, uf.CrossEntropy):
            smoothing = ufm.loss_function.label_smoothing
            self.T = (1 - smoothing) * matrix + smoothing / K

    def value(self, W, H, b):
        ufm = self.ufm
        Z = H @ W.T + b
        if isinstance(ufm.loss_function, uf.MSE):
            losses, residual = ((Z - self.T) ** 2).sum(1) / 2, Z - self.T
        else:
            losses, residual = logsumexp(Z, axis=1) - (self.T * Z).sum(1), softmax(Z, axis=1) - self.T
        G = ufm.data.weights[:, None] * residual
        ridges = ufm.lambda_H * ufm.data.ridges
        value = ufm.data.weights @ losses + ufm.lambda_W / 2 * (W**2).sum() + ridges @ (H**2).sum(1) / 2
        gradient = G.T @ H + ufm.lambda_W * W, G @ W + ridges[:, None] * H, G.sum(0) + ufm.lambda_b * b
        return value + ufm.lambda_b / 2 * b @ b, gradient

    def packed(self, x):
        value, gradient = self.value(*self.ufm.unpack(x))
        return value, self.ufm.layout.pack(*gradient)


CASES = list(itertools.product(KINDS, [uf.CrossEntropy(), uf.CrossEntropy(0.1), "mse"], BIASES))


@pytest.mark.parametrize(("kind", "loss", "bias"), CASES, ids=str)
def test_loss_gradient_and_hessian_products(kind, loss, bias):
    ufm, matrix = model(kind, loss, bias)
    plain, x = Plain(ufm, matrix), ufm.pack(ufm.random_point(0, 0.7))
    value, gradient = ufm.fun_and_grad(x)
    expected, expected_gradient = plain.packed(x)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-14)
    v, h = np.random.default_rng(1).standard_normal(ufm.size), 1e-6
    slope = (plain.packed(x + h * v)[1] - plain.packed(x - h * v)[1]) / (2 * h)
    np.testing.assert_allclose(ufm.hessp(x, v), slope, atol=1e-7)


@pytest.mark.parametrize(("kind", "loss", "bias"), CASES, ids=str)
def test_the_solver_reaches_the_minimum_that_another_finds(kind, loss, bias):
    """In theory of rows: data + tau |Z|_* + ridge, its minimum is that of the factored problem at any d >= K."""
    ufm, matrix = model(kind, loss, bias)
    found = uf.minimize(ufm, ufm.random_point(1))
    assert found.success
    plain = Plain(ufm, matrix)
    peers = [
        minimize(plain.packed, ufm.pack(ufm.random_point(seed)), jac=True, method="L-BFGS-B",
                 options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10})
        for seed in (2, 3)
    ]  # fmt: skip
    assert found.fun == pytest.approx(min(peer.fun for peer in peers), rel=1e-8)
    assert found.certificate.lower_bound <= min(peer.fun for peer in peers)
    assert plain.value(*found.point)[0] == pytest.approx(found.fun, rel=1e-13)
    assert found.certificate.spectral_norm == pytest.approx(ufm.tau, rel=1e-3)


@pytest.mark.parametrize(("kind", "loss", "bias"), CASES, ids=str)
def test_bounds_at_any_point_are_below_the_minimum(kind, loss, bias):
    ufm, _ = model(kind, loss, bias)
    minimum = uf.minimize(ufm)
    for seed, scale in itertools.product(range(5), (0.01, 0.3, 1.0, 5.0)):
        certificate = uf.certify(ufm, ufm.random_point(seed, scale))
        assert certificate.lower_bound <= minimum.fun + minimum.certificate.rounding
    near = uf.Point(*(part + 1e-3 * np.random.default_rng(0).standard_normal(part.shape) for part in minimum.point))
    if not ufm.bias:
        near = near._replace(b=np.zeros(K))
    certificate = uf.certify(ufm, near)
    assert minimum.fun * (1 - 1e-2) <= certificate.lower_bound <= minimum.fun + minimum.certificate.rounding


@pytest.mark.parametrize(("kind", "loss", "bias"), CASES, ids=str)
@pytest.mark.parametrize("d", [2, 8])
def test_classify_agrees_with_the_dense_hessian(kind, loss, bias, d):
    ufm, _ = model(kind, loss, bias, d)
    scale = np.concatenate([np.ones(K * d), np.repeat(ufm.data.ridges**-0.5, d), np.ones(K * ufm.bias)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        end = uf.minimize(ufm, ufm.random_point(0)).point
    for p in (ufm.random_point(3, 0.5), end, uf.Point(0 * end.W, 0 * end.H, end.b)):
        dense = scale[:, None] * (ufm.hessian(p) @ np.eye(ufm.size)) * scale
        lowest, size = np.linalg.eigvalsh(dense)[0], np.abs(dense).max()
        found = uf.classify(ufm, p)
        assert found.lowest_eigenvalue_bounds[0] <= lowest + 1e-12 * size
        assert found.lowest_eigenvalue_bounds[1] >= lowest - 1e-12 * size
        assert uf.lowest_eigenpairs(ufm, p, deflate=False).eigenvalues[0] == pytest.approx(lowest, abs=1e-9 * size)


def test_equal_rows_merge_exactly():
    """Rows with one target and ridge have one feature at the minimum: their weights add, as their ridges do."""
    data, _ = rows("dense", "cross_entropy")
    double = Rows(np.repeat(data.targets, 2, axis=0), np.repeat(data.weights / 2, 2), np.repeat(data.ridges / 2, 2))
    one, two = (uf.minimize(rows_model(K, 6, each, **DECAYS)) for each in (data, double))
    assert one.success
    assert two.success
    assert one.fun == pytest.approx(two.fun, rel=1e-8)
    np.testing.assert_allclose(two.point.H[::2], two.point.H[1::2], atol=1e-4)


def test_rows_that_are_classes_agree_with_the_model_of_classes():
    classes = uf.UFM(K, 6, [4, 3, 9, 1, 2], **DECAYS)
    general = rows_model(K, 6, classes.data, **DECAYS)
    p = classes.random_point(0)
    assert uf.certify(general, p) == uf.certify(classes, p)
    assert uf.minimize(general, p).fun == pytest.approx(uf.global_minimum(classes).value, rel=1e-8)


def test_squared_error_of_any_real_targets_has_a_closed_form():
    """Theory of balanced rows without a bias: singular values of the targets lose a constant."""
    Y = np.random.default_rng(5).standard_normal((30, K))
    ufm = rows_model(K, 6, Rows(Y, np.full(30, 1 / 30), np.ones(30)), loss="mse", bias=False, **DECAYS)
    s, c = np.linalg.svd(Y.T @ Y / 30, compute_uv=False), 30 * ufm.lambda_W * ufm.lambda_H
    value = np.where(s > c, np.sqrt(c * s) - c / 2, s / 2).sum()
    found = uf.minimize(ufm)
    assert found.success
    assert found.fun == pytest.approx(value, rel=1e-8)
    assert uf.certify(ufm, ufm.random_point(0)).lower_bound == pytest.approx(value, rel=1e-10)  # from anywhere
    here = linearized(ufm, found.point)
    assert here.norm == pytest.approx(ufm.tau, rel=1e-3)


@pytest.mark.parametrize(
    ("M", "width", "bias"), [(30, 3, {}), (3, 6, {}), (30, 3, {"bias": False}), (2, 6, {"lambda_b": 0.1})]
)
def test_the_largest_rank_counts_rows_and_logits(M, width, bias):
    Y = np.random.default_rng(0).standard_normal((M, width))
    ufm = uf.UFM(width, width, targets=Y, loss="mse", lambda_W=1e-4, lambda_H=1e-4, **bias)
    free = ufm.bias and ufm.lambda_b == 0
    assert largest_rank(ufm) == np.linalg.matrix_rank(Y - Y.mean(axis=0) if free else Y)
    assert uf.classify(ufm, uf.minimize(ufm, tol=1e-10).point).rank == largest_rank(ufm)
