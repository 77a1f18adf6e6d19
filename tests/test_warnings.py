"""Warnings point at the line that called the package, whichever of its functions issue them."""

import inspect
import warnings
from contextlib import contextmanager

import numpy as np
import pytest

import ufm_fast as uf


@contextmanager
def warned_here(category, message):
    """Expect warnings of one kind, each pointing at a line of the function in the with statement."""
    with pytest.warns(category, match=message) as caught:
        yield
    assert caught
    assert {warning.filename for warning in caught} == {__file__}
    source, first = inspect.getsourcelines(inspect.currentframe().f_back.f_back)
    assert all(first <= warning.lineno < first + len(source) for warning in caught)


@pytest.fixture(scope="module")
def ufm():
    return uf.UFM(6, 4, [9, 7, 5, 3, 2, 1], lambda_W=0.01, lambda_H=0.002, lambda_b=0.01)


def test_minimize(ufm):
    with warned_here(uf.ConvergenceWarning, "evaluations"):
        uf.minimize(ufm, ufm.random_point(1), max_evaluations=3)


def test_global_minimum():
    with warned_here(uf.ConvergenceWarning, "rank above d"):
        uf.global_minimum(uf.UFM(6, 2, [9, 7, 5, 3, 2, 1], lambda_W=0.01, lambda_H=0.002, bias=False))


def test_lowest_eigenpairs(ufm):
    p = uf.saddle(ufm, 3)
    with warned_here(uf.ConvergenceWarning, "stopped after"):
        uf.lowest_eigenpairs(ufm, ufm.random_point(1), 30, max_products=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uf.classify(ufm, p)  # whose own search may stop short: its answer says so


def test_nc_metrics_and_inspect():
    H = np.random.default_rng(0).standard_normal((9, 4))
    W, labels = H[:3].copy(), np.repeat([0, 1, 2], [1, 4, 4])
    with warned_here(RuntimeWarning, "one sample"):
        uf.nc_metrics(W, H, labels)
    with warned_here(RuntimeWarning, "one sample"):
        uf.NCAccumulator(3, 4).update(H, labels).result(W)
    with warned_here(RuntimeWarning, "one sample"):
        uf.inspect(W, H, labels, lambda_W=0.1, lambda_H=0.1)


def test_labels_from_one():
    H = np.random.default_rng(0).standard_normal((9, 4))
    labels = np.repeat([1, 2, 3], 3)
    with warned_here(RuntimeWarning, "labels go from 1 to 3"):
        uf.nc_metrics(H[:3], H, labels)
    with warned_here(RuntimeWarning, "labels go from 1 to 3"):
        uf.inspect(H[:3], H, labels, lambda_W=0.1, lambda_H=0.1)
