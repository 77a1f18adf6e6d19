"""Groups of exchangeable classes: their loss, their dual and the solver's start, against models of all classes."""

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import ufm_fast as uf
from ufm_fast._exact.groups import Groups, groups_of
from ufm_fast._model.canonical import CanonicalProblem

BIASES = [{"lambda_b": 0.0}, {"lambda_b": 1e-6}, {"lambda_b": 1e-2}, {"bias": False}]
DIGITS = 45


def random_groups(generator, smoothing):
    """Some of whose classes are given up, some alone in their group, some in blocks of several."""
    m = 4
    blocks, size = np.array([1.0, 2, 3, 5]), generator.integers(1, 4, m).astype(float)
    ridges = np.sort(generator.choice(np.arange(1, 200), m, replace=False)).astype(float)
    scale, shift = generator.uniform(0.5, 2, m), generator.standard_normal(m)
    N = blocks * size @ ridges
    weights = ridges * generator.uniform(0.5, 2, m) / N
    tau = np.median(scale * weights / np.sqrt(ridges)) * (1 - smoothing)
    K = int(blocks @ size)
    ufm = uf.UFM(K, K, 1, lambda_W=tau, lambda_H=tau, lambda_b=1e-3, loss=uf.CrossEntropy(smoothing))
    return ufm, Groups(ridges, weights, scale, shift, blocks, size)


def loss_of_all_classes(ufm, groups, Z, b, contrast, smoothing):
    """The data term of all classes and the penalty of the contrasts, from logits of every class."""
    M, m = groups.classes, len(groups.blocks)
    group = np.repeat(np.arange(m), M.astype(int))
    block = np.concatenate(
        [np.repeat(np.arange(int(B)), int(s)) for B, s in zip(groups.blocks, groups.size, strict=True)]
    )
    total = 0.0
    for i in range(m):
        label = int(np.flatnonzero((group == i) & (block == 0))[0])
        z = (Z[i] / np.sqrt(M[i] * M))[group] - (group == i) * contrast[i] / M[i]
        z += ((group == i) & (block == 0)) * contrast[i] / groups.size[i]
        logits = groups.scale[group] * (z / np.sqrt(groups.ridges[i]) + (b / np.sqrt(M))[group]) + groups.shift[group]
        target = (1 - smoothing) * (np.arange(ufm.K) == label) + smoothing / ufm.K
        total += M[i] * groups.weights[i] * (np.logaddexp.reduce(logits) - target @ logits)
        total += ufm.tau * contrast[i] * (groups.blocks[i] - 1)
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_of_groups_is_that_of_all_classes(smoothing, seed):
    """With the contrasts at their best; derivatives against finite differences."""
    generator = np.random.default_rng(seed)
    ufm, groups = random_groups(generator, smoothing)
    problem = CanonicalProblem(groups.model(ufm))
    Z, b = 3 * generator.standard_normal((4, 4)), generator.standard_normal(4)
    value, G, gradient = problem.data_term(Z, b)
    contrast = groups.contrasts(problem, G)
    assert value == pytest.approx(loss_of_all_classes(ufm, groups, Z, b, contrast, smoothing), rel=1e-13)
    for i in range(4):

        def along(c, i=i):
            return loss_of_all_classes(ufm, groups, Z, b, np.where(np.arange(4) == i, c, contrast), smoothing)

        best = minimize_scalar(along, bounds=(0, 2 * contrast[i] + 1), method="bounded", options={"xatol": 1e-9}).fun
        assert value <= min(best, along(0.0)) + 1e-13 * value
    assert contrast.min() == 0 < contrast.max()

    def moved(step):
        return problem.data_term(Z + step * dZ, b + step * db)

    dZ, db, step = generator.standard_normal((4, 4)), generator.standard_normal(4), 1e-5
    (above, G_above, _), (below, G_below, _) = moved(step), moved(-step)
    assert (above - below) / (2 * step) == pytest.approx(np.vdot(G, dZ) + gradient @ db, rel=1e-7)
    db[:] = 0
    (_, G_above, _), (_, G_below, _) = moved(step), moved(-step)
    assert problem.curvature_along(G, dZ) == pytest.approx(np.vdot(dZ, G_above - G_below) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["counts", "weights", "shift and scale"])
def test_classes_given_up_are_certified_at_once(kind, smoothing, bias):
    """The certificate of all classes knows of no groups."""
    counts = np.round(np.geomspace(5000, 5, 160)).astype(int)
    options = {
        "counts": {},
        "weights": {"weights": (counts / counts.mean()) ** 0.25},
        "shift and scale": {"shift": np.log(counts / counts.sum()), "scale": (counts / counts[0]) ** 0.1},
    }[kind]
    weights = options.pop("weights", None)
    ufm = uf.UFM(
        160, 160, counts, loss=uf.CrossEntropy(smoothing, **options), weights=weights, lambda_W=1e-3,
        lambda_H=1e-3 / counts.mean(), **bias,
    )  # fmt: skip
    excess = 1 - smoothing - groups_of(ufm)[0].miss(ufm.tau)
    assert excess.min() < 0 < excess.max()
    result, reduced = uf.minimize(ufm), uf.global_minimum(ufm)
    assert result.success
    assert result.nfev <= 15
    assert uf.certify(ufm, result.point).relative_gap < 2e-8
    assert reduced.certificate.relative_gap <= 1e-10
    assert reduced.value == pytest.approx(result.fun, rel=1e-8)
    assert ufm.loss(reduced.point) == pytest.approx(reduced.value, rel=1e-12)
    rel = 1e-4 if kind == "counts" else 1e-9  # that at the nodes where the minimum is interpolated
    assert uf.certify(ufm, reduced.point).spectral_norm == pytest.approx(reduced.certificate.spectral_norm, rel=rel)


def test_exchangeable_classes_of_rows():
    """Labels given row by row, with classes equal in weight and ridge."""
    ufm = uf.UFM(
        6, 6, targets=np.arange(6), n=[9, 9, 9, 2, 2, 5], weights=[1, 1, 2, 1, 1, 1], lambda_W=2e-2, lambda_H=1e-2
    )
    groups, group = groups_of(ufm)
    assert len(set(group[:2])) == len(set(group[3:5])) == 1
    assert groups.classes.tolist() == [2, 1, 2, 1] or sorted(groups.classes) == [1, 1, 2, 2]
    found = uf.minimize(ufm, ufm.random_point(0), tol=1e-11)
    assert uf.global_minimum(ufm).value == pytest.approx(found.fun, rel=1e-10)


def exact_balanced(ufm):
    with mpmath.workdps(DIGITS):
        t = mpmath.sqrt(mpmath.mpf(ufm.lambda_W) * mpmath.mpf(ufm.lambda_H) * int(ufm.counts[0]))
        wrong = (ufm.K - 1) * t
        return -wrong * mpmath.log(t) - (1 - wrong) * mpmath.log1p(-wrong)


def exact_two_levels(ufm, M, n, near):
    """The minimum with a free bias, M[i] classes of n[i] samples, by Newton's method on logits of single classes.

    Unknown are the contrasts' margins u_i, the score c between the two groups and the difference b of their biases.
    """
    K, N = sum(M), M[0] * n[0] + M[1] * n[1]
    with mpmath.workdps(DIGITS):
        tau = mpmath.sqrt(mpmath.mpf(ufm.lambda_W) * mpmath.mpf(ufm.lambda_H))
        root = [mpmath.sqrt(M[i] * n[i]) for i in range(2)]
        left = [root[1] / mpmath.sqrt(N), -root[0] / mpmath.sqrt(N)]
        right = [mpmath.sqrt(mpmath.mpf(M[1]) / K), -mpmath.sqrt(mpmath.mpf(M[0]) / K)]

        def value(u, v, c, b):
            total = tau * c
            for i, margin in ((0, u), (1, v)):
                other = 1 - i
                score = [c * left[i] * right[j] / mpmath.sqrt(M[j]) / root[i] + b * (j == 0) for j in range(2)]
                own, beside = (score[i] + margin * x for x in (1 - mpmath.mpf(1) / M[i], -mpmath.mpf(1) / M[i]))
                mass = mpmath.exp(own) + (M[i] - 1) * mpmath.exp(beside) + M[other] * mpmath.exp(score[other])
                penalty = tau * (M[i] - 1) * margin * mpmath.sqrt(n[i])
                total += mpmath.mpf(M[i] * n[i]) / N * (mpmath.log(mass) - own) + penalty
            return total

        def slope(*x):
            return [mpmath.diff(value, x, tuple(int(k == i) for k in range(4))) for i in range(4)]

        x = mpmath.findroot(slope, [mpmath.mpf(float(part)) for part in near], tol=1e-50, maxsteps=30, verify=False)
        assert max(abs(part) for part in slope(*x)) < 1e-20
        return value(*x)


def bounds_near_and_far(ufm, groups):
    """Of both solvers, and of points of the model of groups at every distance from its minimum."""
    generator = np.random.default_rng(0)
    reduced = groups.model(ufm)
    best = uf.minimize(reduced, reduced.random_point(1), tol=1e-11).point
    yield uf.global_minimum(ufm).certificate.lower_bound
    yield uf.minimize(ufm).certificate.lower_bound
    for size in np.geomspace(1e-9, 30, 12):
        moved = [x + size * np.abs(x).max() * generator.standard_normal(x.shape) for x in best]
        yield uf.certify(reduced, uf.Point(*moved[:2], moved[2] * ufm.bias)).lower_bound


@pytest.mark.parametrize("bias", BIASES, ids=str)
@pytest.mark.parametrize("strength", [1e-7, 1e-3, 0.9])
def test_bounds_of_alike_classes_are_below_the_exact_minimum(strength, bias):
    """Dealt into two groups, as if they were not alike."""
    K, n = 11, 40
    tau = strength / K / np.sqrt(n)
    ufm = uf.UFM(K, K, n, lambda_W=100 * tau, lambda_H=tau / 100, **bias)
    alike, _ = groups_of(ufm)
    groups = Groups(alike.ridges, alike.weights, alike.scale, alike.shift, np.array([3.0, 8.0]), alike.size)
    excess = [float(mpmath.mpf(bound) / exact_balanced(ufm) - 1) for bound in bounds_near_and_far(ufm, groups)]
    assert max(excess) <= 0
    assert excess[0] > -2e-12


@pytest.mark.parametrize("strength", [1e-4, 0.3])
def test_bounds_of_two_levels_are_below_the_exact_minimum(strength):
    M, n = [4, 7], [3, 90]
    tau = strength * np.sqrt(3) / (M[0] * n[0] + M[1] * n[1])
    ufm = uf.UFM(11, 11, np.repeat(n, M), lambda_W=10 * tau, lambda_H=tau / 10)
    solution = uf.global_minimum(ufm)
    point, (groups, _) = solution.factored, groups_of(ufm)
    between = np.linalg.norm(point.mean_B @ point.mean_A.T, "nuc")
    near = (*(point.contrast / np.sqrt(n)), between, point.bias[0] - point.bias[1])
    exact = exact_two_levels(ufm, M, n, near)
    excess = [float(mpmath.mpf(bound) / exact - 1) for bound in bounds_near_and_far(ufm, groups)]
    assert max(excess) <= 0
    assert excess[0] > -2e-12
    assert solution.value == pytest.approx(float(exact), rel=1e-13)
