"""The oracle's derivatives against complex steps of its own loss, and its two forms of a problem against each other."""

import itertools

import numpy as np
import pytest

from oracle import Oracle

SHAPES = [{"K": 3, "d": 2, "counts": (1, 1, 1)}, {"K": 3, "d": 5, "counts": (4, 1, 2)}]
LOSSES = [
    {"loss_name": "cross_entropy"},
    {"loss_name": "cross_entropy", "label_smoothing": 0.2},
    {"loss_name": "cross_entropy", "label_smoothing": 0.1, "scale": (0.5, 1.5, 1.0), "shift": (1.0, -2.0, 0.5)},
    {"loss_name": "cross_entropy", "margin": (0.3, -0.2, 1.0)},
    {"loss_name": "mse"},
    {"loss_name": "bce"},
    {"loss_name": "bce", "label_smoothing": 0.2},
    {"loss_name": "focal", "gamma": 0.5},
    {"loss_name": "focal", "gamma": 3.0},
]
BIASES = [{"bias": True, "lambda_b": 0.0}, {"bias": True, "lambda_b": 0.03}, {"bias": False}]
CASES = [
    Oracle(lambda_W=2e-2, lambda_H=3e-3, collapsed=collapsed, **shape, **loss, **bias)
    for shape, loss, bias, collapsed in itertools.product(SHAPES, LOSSES, BIASES, (True, False))
]


@pytest.mark.parametrize("oracle", CASES, ids=str)
def test_derivatives_are_complex_steps_of_the_loss(oracle):
    point = oracle.random_point(1)
    x = oracle.pack(*point)
    v = np.random.default_rng(2).standard_normal(len(x))
    step = 1e-30
    gradient = oracle.pack(*oracle.gradient(*point))
    slopes = [oracle.loss(*oracle.unpack(x + 1j * step * e)).imag / step for e in np.eye(len(x))]
    assert np.abs(gradient - slopes).max() <= 1e-14 * np.abs(gradient).max()
    product = oracle.pack(*oracle.hvp(*point, *oracle.unpack(v)))
    change = oracle.pack(*oracle.gradient(*oracle.unpack(x + 1j * step * v))).imag / step
    assert np.abs(product - change).max() <= 1e-14 * np.abs(product).max()


@pytest.mark.parametrize("oracle", CASES, ids=str)
def test_hessian_is_symmetric_and_gives_the_products(oracle):
    point = oracle.random_point(3)
    hessian = oracle.hessian(*point)
    v = np.random.default_rng(4).standard_normal(len(hessian))
    product = oracle.pack(*oracle.hvp(*point, *oracle.unpack(v)))
    assert np.abs(hessian - hessian.T).max() <= 1e-15 * np.abs(hessian).max()
    assert np.abs(hessian @ v - product).max() <= 1e-14 * np.abs(product).max()


@pytest.mark.parametrize("oracle", [case for case in CASES if case.collapsed], ids=str)
def test_collapsed_problem_is_the_full_one_with_equal_samples(oracle):
    W, H, b = oracle.random_point(5)
    expanded = np.repeat(H, oracle.counts, axis=0)
    assert oracle.loss(W, H, b) == pytest.approx(oracle.full().loss(W, expanded, b), rel=1e-15)


@pytest.mark.parametrize("oracle", CASES[::2], ids=str)
def test_decimal_loss_agrees(oracle):
    point = oracle.random_point(6)
    assert float(oracle.decimal_loss(*point)) == pytest.approx(oracle.loss(*point), rel=1e-15)
