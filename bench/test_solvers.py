"""Every optimizer and eigen-solver at a small size: the answer is checked, nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest

import ufm_fast as uf

torch = pytest.importorskip("torch")

import eigen_peers  # noqa: E402
import solver_peers  # noqa: E402
import stress  # noqa: E402

COUNTS = np.array([40, 20, 10, 5])


def model(**options) -> uf.UFM:
    return uf.UFM(4, 4, COUNTS, lambda_W=1e-2, lambda_H=1e-3, lambda_b=1e-2, **options)


@pytest.mark.parametrize("name", solver_peers.SOLVERS)
def test_solver_arrives(name: str) -> None:
    ufm = model()
    least = uf.minimize(ufm, tol=1e-9).fun
    outcome = solver_peers.solve(name, ufm, ufm.pack(ufm.random_point(seed=1)), least * (1 + 1e-6), limit=30)
    assert outcome.reached
    assert outcome.gap < 1e-2
    assert outcome.evaluations > 1
    assert (outcome.hessian_products > 0) == (name in solver_peers.SECOND_ORDER)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("source", [eigen_peers.TORCH, eigen_peers.OURS])
@pytest.mark.parametrize("solver", eigen_peers.available())
def test_eigen_solver_finds_the_lowest_eigenvalue(solver: str, source: str, loss: str) -> None:
    ufm = model(loss=loss)
    saddle = uf.saddle(ufm, 1)
    found = eigen_peers.lowest(solver, source, ufm, saddle, 1, 1e-6, limit=30)
    assert found.values == pytest.approx([uf.classify(ufm, saddle).lowest_eigenvalue], rel=1e-6, abs=0)
    assert found.hessian_products > 1


def test_stopped_at_the_limit() -> None:
    ufm = model()
    outcome = solver_peers.solve("PyTorch Adam", ufm, ufm.pack(ufm.random_point(seed=1)), 0, limit=0.1)
    assert not outcome.reached
    saddle = uf.saddle(ufm, 1)
    assert eigen_peers.lowest("ARPACK", eigen_peers.OURS, ufm, saddle, 1, 1e-6, limit=-1).values is None


def test_stress_finds_failures() -> None:
    results = [stress.examine(seed) for seed in range(5)]
    assert not list(stress.failures(results))
    wrong = stress.Result(0, "cross-entropy", 1, 1.0, 0.0, gap=1e-6, excess=1e-9, error="")
    assert not wrong.certified
    assert not wrong.valid
    assert len(list(stress.failures([wrong]))) == 1
    assert "| 5      |" in stress.summary(results)
