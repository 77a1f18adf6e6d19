"""Symmetry reduction against the optimizer, full certificates and the oracle."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import ufm_fast as uf
from oracle import Oracle
from ufm_fast._exact.symmetric_dual import lower_bound
from ufm_fast._exact.symmetric_problem import SymmetricProblem, Types
from ufm_fast._exact.symmetry import symmetric_critical_point, symmetric_minimum

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-2}, {"lambda_b": 1.0}, {"bias": False}]


@st.composite
def grouped_models(draw):
    groups = draw(st.integers(1, 4))
    samples = draw(st.lists(st.integers(1, 500), min_size=groups, max_size=groups))
    K = draw(st.integers(4 * groups, 24))
    counts = np.random.default_rng(draw(st.integers(0, 99))).choice(samples, K)
    return uf.UFM(
        K, K, counts, loss=uf.CrossEntropy(draw(st.sampled_from([0.0, 0.1]))), lambda_W=10.0 ** draw(st.floats(-6, -1)),
        lambda_H=10.0 ** draw(st.floats(-7, -3)), **draw(st.sampled_from(BIASES)),
    )  # fmt: skip


@given(grouped_models())
def test_certified_and_right(ufm):
    solution = uf.global_minimum(ufm)
    assert solution.method in {"symmetry_reduction", "closed_form"}
    p = solution.point
    assert solution.value == pytest.approx(Oracle.of(ufm).loss(*p), rel=1e-13)
    assert solution.certificate.relative_gap <= 1e-8
    full = uf.certify(ufm, p)
    assert full.relative_gap <= 1e-8
    assert full.lower_bound <= solution.value * (1 + 1e-14)
    assert solution.certificate.spectral_norm == pytest.approx(full.spectral_norm, rel=1e-9)
    assert solution.factored.rank == np.linalg.matrix_rank(p.W, tol=1e-7)
    for k in (0, ufm.K - 1):
        np.testing.assert_allclose(solution.factored.logits(k), p.W @ p.H[k] + p.b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bound_is_valid_at_any_flow(bias, smoothing):
    """At points that are far from optimal the bound stays below the minimum."""
    ufm = uf.UFM(
        8, 8, [30, 30, 30, 30, 30, 2, 2, 2], loss=uf.CrossEntropy(smoothing), lambda_W=3e-3, lambda_H=1e-3, **bias
    )
    point, certificate = symmetric_minimum(ufm)
    types = Types(np.array([2.0, 30.0]), np.array([3.0, 5.0]), np.ones(2))
    problem = SymmetricProblem(types, tau=ufm.tau, smoothing=smoothing, lambda_b=ufm.lambda_b, bias=ufm.bias)
    generator = np.random.default_rng(0)
    bounds = []
    for size in np.geomspace(1e-6, 10, 60):
        contrast = np.maximum(0, point.contrast + size * generator.standard_normal(2))
        C = point.mean_B @ point.mean_A.T + size * generator.standard_normal((2, 2))
        b = (point.bias * np.sqrt(problem.M) + size * generator.standard_normal(2)) * ufm.bias
        bounds.append(lower_bound(problem, problem.flow(contrast, C, b)[1]) / certificate.loss)
    assert max(bounds) <= 1
    assert bounds[0] > 1 - 1e-3
    assert len(set(bounds)) > 30


def test_agrees_with_lbfgs_on_all_variables():
    ufm = uf.UFM(9, 9, [40] * 3 + [6] * 6, lambda_W=2e-3, lambda_H=2e-4, lambda_b=1e-2)
    x = ufm.pack(ufm.random_point(seed=1))
    found = minimize(
        ufm.fun_and_grad, x, jac=True, method="L-BFGS-B", options={"maxiter": 9000, "gtol": 1e-10, "ftol": 0}
    )
    assert uf.global_minimum(ufm).value == pytest.approx(found.fun, rel=1e-10)


def test_derivatives():
    types = Types(np.array([5.0, 9.0, 30.0]), np.array([4.0, 1.0, 6.0]), np.array([1.0, 3.0, 2.0]))
    problem = SymmetricProblem(types, tau=1e-3, smoothing=0.1, lambda_b=1e-2, bias=True)
    generator = np.random.default_rng(0)
    x = problem.start() + 0.3 * generator.standard_normal(problem.start().size)
    v = 1e-6 * generator.standard_normal(x.size)
    (low, before), (high, after) = (problem.value_and_gradient(x + sign * v) for sign in (-1, 1))
    assert (high - low) / 2 == pytest.approx(problem.value_and_gradient(x)[1] @ v, rel=1e-7)
    problem.linearize(x)
    np.testing.assert_allclose(problem.hessian_product(v), (after - before) / 2, rtol=1e-6, atol=1e-15)


def test_merged_blocks_are_critical_points_of_the_model():
    ufm = uf.UFM(9, 9, 12, loss=uf.CrossEntropy(0.05), lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-3)
    group = np.array([0] * 6 + [1] * 3)
    block = np.array([0, 0, 0, 1, 1, 1, 0, 1, 2])
    types = Types(np.full(2, 12.0), np.array([2.0, 3.0]), np.array([3.0, 1.0]))
    point, _, error = symmetric_critical_point(ufm, group, block, types)
    p = point.point()
    assert error < 1e-11
    assert max(np.abs(part).max() for part in Oracle.of(ufm).gradient(*p)) < 1e-14
    assert point.rank == 4
    for k in range(9):
        np.testing.assert_allclose(point.logits(k), p.W @ p.H[k] + p.b, atol=1e-13)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_many_classes_without_large_arrays(run_python):
    output = run_python("""
import numpy as np
import ufm_fast as uf
K = 100_000
for n in (500, np.repeat(np.round(np.geomspace(500, 5, 10)).astype(int), K // 10)):
    ufm = uf.UFM(K, K, n, lambda_W=2e-6, lambda_H=2e-6 / np.mean(n), lambda_b=1e-2)
    solution = uf.global_minimum(ufm)
    assert solution.certificate.is_global(1e-10), solution.certificate
    assert solution.factored.rank == K - 1
    assert solution.factored.logits(7).argmax() == 7
with open("/proc/self/status") as status:
    print(solution.method, next(line.split()[1] for line in status if line.startswith("VmHWM")))
""")
    method, kilobytes = output.split()
    assert method == "symmetry_reduction"
    assert int(kilobytes) < 400_000


def test_where_it_does_not_apply():
    options = {"lambda_W": 1e-3, "lambda_H": 1e-3}
    assert symmetric_minimum(uf.UFM(8, 8, [1, 2, 3, 4, 5, 6, 7, 8], **options)) is None
    assert symmetric_minimum(uf.UFM(8, 8, 5, loss="mse", **options)) is None
    assert symmetric_minimum(uf.UFM(8, 6, 5, **options)) is None
    types = Types(np.array([5.0]), np.array([8.0]), np.array([1.0]))
    symmetric = symmetric_critical_point(uf.UFM(8, 6, 5, **options), np.zeros(8, int), np.arange(8), types)[0]
    with pytest.raises(ValueError, match="rank 7 does not fit"):
        symmetric.point()
