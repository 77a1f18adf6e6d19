"""Models of which classes are given up, and peers on the convex problem, at a small size: nothing is timed."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import collapse_models
import convex_peers
import long_tails
import stress
import ufm_fast as uf
from long_tails import Case
from process import Failure, Worker

CASE = Case("counts 5000 to 5", 8, long_tails.geometric, (5000, 5), 0.5)


@pytest.mark.parametrize(
    ("law", "arguments", "distinct"),
    [
        (long_tails.geometric, (5000, 5), 653),
        (long_tails.zipf, (), 1000),
        (long_tails.levels, (10,), 10),
    ],
)
def test_decays_keep_the_share_of_the_classes(law, arguments: tuple[int, ...], distinct: int) -> None:
    case = Case("", 1000, law, arguments)
    ufm = case.model(case.counts())
    assert len(np.unique(ufm.counts)) == distinct
    assert long_tails.kept(ufm) == pytest.approx(400, abs=2)
    assert ufm.lambda_H == pytest.approx(ufm.lambda_W * 1000 / ufm.N, rel=1e-12)


def test_solved_in_a_fresh_process() -> None:
    with Worker(1) as worker:
        solved = worker.ask(long_tails.solve, CASE, limit=60)
    ufm = CASE.model(CASE.counts())
    assert solved.certified
    assert solved.value == pytest.approx(uf.minimize(ufm, tol=1e-9).fun, rel=1e-8)
    assert (solved.distinct, solved.kept, solved.lambda_W) == (8, 4, 0.5 / 8)
    assert 10 < solved.memory < 1000


def test_worker_gives_up_at_its_limit() -> None:
    with Worker(1) as worker, pytest.raises(Failure, match="not done"):
        worker.ask(time.sleep, 60, limit=0.1)


def test_gradient_in_the_scores() -> None:
    problem = convex_peers.Scores(CASE.model(CASE.counts()))
    generator = np.random.default_rng(0)
    Z, beta = 30 * generator.standard_normal((8, 8)), 30 * generator.standard_normal(8)
    step_Z, step_beta = generator.standard_normal((8, 8)), generator.standard_normal(8)
    _, for_Z, for_beta = problem.value_and_gradient(Z, beta)
    h = 1e-4
    ahead, behind = (problem.value(Z + sign * step_Z, beta + sign * step_beta) for sign in (h, -h))
    assert np.vdot(for_Z, step_Z) + for_beta @ step_beta == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)


def test_proximal_gradient_descends_the_loss_of_the_model() -> None:
    ufm = CASE.model(CASE.counts())
    least = uf.minimize(ufm, tol=1e-9).fun
    for loss, _, Z, beta in islice(convex_peers.proximal_gradient(ufm), 10):
        assert ufm.loss(convex_peers.Scores(ufm).point(Z, beta)) == pytest.approx(loss, rel=1e-12)
    point, evaluations, _ = convex_peers.descend(ufm, least * (1 + 1e-6), limit=60)
    assert ufm.loss(point) <= least * (1 + 1e-6)
    assert evaluations > 10


@pytest.mark.parametrize("name", [name for name in convex_peers.available(8) if name != convex_peers.PROXIMAL])
def test_conic_solvers_find_the_minimum(name: str) -> None:
    ufm = CASE.model(CASE.counts())
    point, iterations, status = convex_peers.PEERS[name](ufm, 0.0, 60)
    assert status == "optimal"
    assert ufm.loss(point) == pytest.approx(uf.minimize(ufm, tol=1e-9).fun, rel=1e-6)
    assert iterations > 1


def test_random_models_have_thresholds_inside_their_counts() -> None:
    models = [collapse_models.model(seed, 40) for seed in range(100)]
    assert {kind for _, kind in models} == set(stress.COLLAPSE.kinds)
    for ufm, _ in models:
        weights = np.ones(ufm.K) if ufm.weights is None else ufm.weights
        smoothing = ufm.loss_function.parameters["label_smoothing"]
        values = weights * np.sqrt(ufm.counts) / ufm.N * (1 - smoothing)
        assert values.min() * (1 - 1e-12) <= ufm.tau < values.max()
        _, group = np.unique(ufm.counts, return_inverse=True)
        assert len(np.unique(np.stack([group, weights]), axis=1).T) == group.max() + 1
    assert 10 < sum(ufm.weights is not None for ufm, _ in models) < 60
    assert 10 < sum(ufm.loss_function.parameters["label_smoothing"] > 0 for ufm, _ in models) < 90


def test_stress_of_collapse_finds_failures() -> None:
    results = [stress.examine(seed, 12, stress.COLLAPSE) for seed in range(4)]
    assert not list(stress.failures(results))
    assert "| all " in stress.summary(results, stress.COLLAPSE)
    loose = stress.Result(0, "no bias", 1, 1.0, 0.0, gap=5e-8, excess=-1.0, tolerance=stress.COLLAPSE.tolerance)
    assert not loose.certified


def test_works_say_what_falls_short() -> None:
    pytest.importorskip("torch")
    from long_tail_works import claims_of, rows_of, run_peer

    solved = long_tails.solve(CASE)
    targets = {"seconds": solved.seconds / 2, "memory": 2 * solved.memory}
    assert [claim.holds for claim in claims_of(CASE, solved, targets)] == [True, False, True]
    assert [claim.holds for claim in claims_of(CASE, Failure("why"), targets)] == [False]
    assert "why" in rows_of({CASE: Failure("why")})
    for name in ("PyTorch Adam", convex_peers.PROXIMAL):
        assert run_peer(CASE, name, solved.value * (1 + 1e-6), 60, False).reached


def test_figure_has_the_exponents(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import sweep

    path = tmp_path / "figure.svg"
    sweep.draw({"seconds": {"quadratic": {10: 1.0, 20: 4.0}, "alone": {10: 1.0}}}, "title", path)
    assert "quadratic: K^2.00" in path.read_text()
