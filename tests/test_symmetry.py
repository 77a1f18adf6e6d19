"""Symmetry reduction against the optimizer, full certificates and the oracle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import ufm_fast as uf
from oracle import Oracle
from reference import global_minimum
from ufm_fast._exact.groups import groups_of, is_grouped

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
def test_bound_is_valid_at_any_point(bias, smoothing):
    """At points of the model of groups that are far from optimal the bounds stay below the minimum."""
    ufm = uf.UFM(
        8, 8, [30, 30, 30, 9, 9, 9, 2, 2], loss=uf.CrossEntropy(smoothing), lambda_W=3e-3, lambda_H=1e-3, **bias
    )
    _, best = global_minimum(Oracle.of(ufm))
    groups, _ = groups_of(ufm)
    reduced = groups.model(ufm)
    optimum = uf.minimize(reduced, reduced.random_point(1), tol=1e-12).point
    generator = np.random.default_rng(0)
    bounds = []
    for size in np.geomspace(1e-6, 10, 60):
        moved = [part + size * generator.standard_normal(part.shape) for part in optimum]
        bounds.append(uf.certify(reduced, uf.Point(*moved[:2], moved[2] * ufm.bias)).lower_bound / best)
    assert max(bounds) <= 1 + 1e-14
    assert bounds[0] > 1 - 1e-8
    assert len(set(bounds)) > 20


def test_agrees_with_lbfgs_on_all_variables():
    ufm = uf.UFM(9, 9, [40] * 3 + [6] * 6, lambda_W=2e-3, lambda_H=2e-4, lambda_b=1e-2)
    x = ufm.pack(ufm.random_point(seed=1))
    found = minimize(
        ufm.fun_and_grad, x, jac=True, method="L-BFGS-B", options={"maxiter": 9000, "gtol": 1e-10, "ftol": 0}
    )
    assert uf.global_minimum(ufm).value == pytest.approx(found.fun, rel=1e-10)


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
    assert not is_grouped(uf.UFM(8, 8, 5, loss="mse", **options))
    assert not is_grouped(uf.UFM(8, 8, 5, loss=uf.CrossEntropy(margin=np.arange(8)), **options))
    assert not is_grouped(uf.UFM(2, 2, targets=[[0.5, 0.5], [0, 1]], **options))
    with pytest.warns(uf.ConvergenceWarning):
        assert uf.global_minimum(uf.UFM(8, 6, 5, **options)).factored is None
    wide = uf.global_minimum(uf.UFM(8, 7, 5, **options)).factored
    with pytest.raises(ValueError, match="rank 7 does not fit"):
        replace(wide, ufm=uf.UFM(8, 6, 5, **options)).point()
