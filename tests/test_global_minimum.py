"""global_minimum against the oracle and known values."""

import numpy as np
import pytest

import ufm_fast as uf
from oracle import Oracle
from reference import global_minimum

COUNTS = [40, 21, 11, 6, 3]
BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-2}, {"lambda_b": 1.0}, {"bias": False}]
LOSSES = [uf.CrossEntropy(), uf.CrossEntropy(0.1), uf.MSE()]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("counts", [COUNTS, [7] * 5], ids=["long tail", "balanced"])
def test_agrees_with_the_oracle(counts, bias, loss):
    ufm = uf.UFM(5, 5, counts, loss=loss, lambda_W=3e-3, lambda_H=1e-4, **bias)
    solution = uf.global_minimum(ufm)
    _, best = global_minimum(Oracle.of(ufm))
    closed = counts[0] == counts[1] or (loss.name == "mse" and (not ufm.bias or ufm.lambda_b == 0))
    method = "closed_form" if closed else "optimizer" if loss.name == "mse" else "symmetry_reduction"
    assert solution.method == method
    assert (solution.evaluations > 0) == (method == "optimizer")
    assert solution.value == pytest.approx(best, rel=1e-10 if method == "optimizer" else 1e-12, abs=0)
    assert Oracle.of(ufm).loss(*solution.point) == pytest.approx(solution.value, rel=1e-12, abs=1e-15)
    assert solution.certificate.relative_gap <= 1e-10
    assert solution.certificate.lower_bound <= best * (1 + 1e-13)


def test_thousand_balanced_classes():
    solution = uf.global_minimum(uf.UFM(1000, 1000, 4, lambda_W=1e-4, lambda_H=1e-5))
    assert solution.method == "closed_form"
    assert solution.value == pytest.approx(0.6720201281, abs=5e-11)
    assert solution.certificate.relative_gap < 1e-11


def test_hundred_distinct_counts():
    counts = np.round(np.geomspace(500, 5, 100)).astype(int)
    solution = uf.global_minimum(uf.UFM(100, 100, counts, lambda_W=5e-4, lambda_H=5e-4 / counts.mean(), lambda_b=1e-2))
    assert solution.value == pytest.approx(0.357406418, abs=5e-10)
    assert solution.certificate.relative_gap <= 1e-10
    assert 0 < solution.evaluations < 100


def test_layout_and_dtype():
    options = {"lambda_W": 3e-3, "lambda_H": 1e-4, "lambda_b": 1e-2}
    expected = uf.global_minimum(uf.UFM(5, 5, COUNTS, **options)).value
    samples = uf.global_minimum(uf.UFM(5, 5, COUNTS, collapse=False, **options))
    assert samples.point.H.shape == (81, 5)
    assert samples.value == pytest.approx(expected, rel=1e-9)
    single = uf.global_minimum(uf.UFM(5, 5, COUNTS, dtype="float32", **options))
    assert single.point.W.dtype == np.float32
    assert single.value == pytest.approx(expected, rel=1e-9)


def test_narrow_model_says_that_it_is_not_certified():
    ufm = uf.UFM(5, 2, COUNTS, lambda_W=3e-3, lambda_H=1e-4, lambda_b=1e-2)
    with pytest.warns(uf.ConvergenceWarning, match="rank above d"):
        solution = uf.global_minimum(ufm)
    assert solution.certificate.lower_bound < solution.value
    assert not solution.certificate.is_global()
