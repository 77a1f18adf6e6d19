"""Paths against closed forms and theory: values, ranks, collapse, and where they change; and how a path goes on."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._landscape.path_rows import rarest_classes, row_of
from ufm_fast.plotting import plot_path

GROUPS = np.repeat([60, 20, 5], [3, 3, 4])
IMBALANCED = uf.UFM(10, 10, GROUPS, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
TAIL = np.array([int(500 * 100 ** (-k / 99)) for k in range(100)])  # some counts occur several times


def entropy_at_minimum(K, t):
    """The least loss of balanced cross-entropy with t = sqrt(n) tau."""
    p = 1 - (K - 1) * t
    return math.log(K) if K * t >= 1 else -(K - 1) * t * math.log(t) - p * math.log(p)


def collapse_threshold(n, N, lambda_H, weight=1.0):
    """The lambda_W from which classes of n samples each and equal weights coincide: weight sqrt(n) / N = tau."""
    return (weight / N) ** 2 * n / lambda_H


def assert_same_rows(found, expected):
    for name in expected.dtype.names:
        if name != "seconds":
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_cross_entropy(smoothing):
    K, n, lambda_W, lambda_H = 8, 6, 1e-3, 5e-4
    ufm = uf.UFM(K, K, n, loss=uf.CrossEntropy(smoothing), lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=1e-2)
    values = [1, 10, 30, 60, 100]
    found = uf.path(ufm, values, over="lambda", locate=1e-5)
    assert set(values) <= set(found.rows["value"])
    t = math.sqrt(n * lambda_W * lambda_H)
    q = found.rows["value"] * t + smoothing / K
    np.testing.assert_allclose(found.rows["loss"], [entropy_at_minimum(K, x) for x in q], rtol=1e-9)
    assert found.rows["certified"].all()
    assert (found.rows["relative_gap"] <= 1e-8).all()
    (change,) = found.transitions
    assert (change.rank, change.collapsed) == ((K - 1, 0), (0, K))
    zero = (1 - smoothing) / (K * t)
    assert abs(change.value - zero) <= change.width / 2
    assert change.width <= 1e-5 * zero
    nonzero = found.rows[found.rows["rank"] > 0]
    np.testing.assert_allclose(nonzero["spectral_ratio"], 1, rtol=1e-6)
    np.testing.assert_allclose(nonzero["minority_cosine_mean"], -1 / (K - 1), rtol=1e-6)
    for name in ("nc2_W_centred", "nc2_means", "nc3_duality_centred"):
        np.testing.assert_allclose(nonzero[name], 0, atol=1e-6)
    np.testing.assert_allclose(nonzero["norm_W"] ** 2 * lambda_W, nonzero["norm_H"] ** 2 * lambda_H, rtol=1e-9)
    assert np.isnan(found.rows["minority_cosine_mean"][-1])


def test_groups_of_equal_classes_collapse_at_their_thresholds():
    """Their differences vanish at the threshold, whatever the other classes do; their mean at another place."""
    found = uf.path(IMBALANCED, np.geomspace(1e-3, 10, 9), locate=1e-4)
    thresholds = [collapse_threshold(n, GROUPS.sum(), IMBALANCED.lambda_H) for n in (5, 20, 60)]
    changes = [change for change in found.transitions if change.collapsed[0] != change.collapsed[1]]
    assert [change.collapsed for change in changes] == [(0, 4), (4, 7), (7, 10)]
    np.testing.assert_allclose([change.value for change in changes], thresholds, rtol=1e-4)
    assert found.rows["rank"][0] == 9
    assert found.rows["rank"][-1] == 0
    assert (np.diff(found.rows["rank"]) <= 0).all()
    assert found.rows["minority_cosine_least"][found.rows["collapsed"] == 4] == pytest.approx(1, abs=1e-4)


def test_which_class_weights_prevent_minority_collapse():
    """K = 100, imbalance 100, weights n^-g: the rarest classes come apart where weight sqrt(n) / N = tau."""
    lambda_W, lambda_H, N = 1.2e-2, 5e-4 / 108, TAIL.sum()
    ufm = uf.UFM(100, 100, TAIL, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=1e-2)
    found = uf.path(ufm, [0.5, 0.05, 0.03], over="weight_exponent", locate=1e-4)
    apart = [change for change in found.transitions if change.collapsed == (0, 4)]
    (change,) = apart
    weights = 5**-change.value * N / (TAIL @ (TAIL**-change.value))
    assert math.sqrt(5) * weights / N == pytest.approx(math.sqrt(lambda_W * lambda_H), rel=1e-3)
    assert found.rows["certified"].all()
    assert (found.rows["rank"][found.rows["collapsed"] == 0] == 99).all()
    assert (np.diff(found.rows["value"]) < 0).all()


def test_weights_are_normalised_and_logged_values_are_those_of_minimize():
    found = uf.path(IMBALANCED, [0, 0.5, 1], over="weight_exponent")
    for row in found.rows:
        weights = GROUPS ** -row["value"]
        weights *= GROUPS.sum() / (GROUPS @ weights)
        alone = uf.minimize(uf.UFM(10, 10, GROUPS, weights=weights, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2))
        assert row["loss"] == pytest.approx(alone.fun, rel=2e-8)


@pytest.mark.parametrize(("factor", "collapsed"), [(0.98, 0), (1.02, 4)])
def test_no_shift_of_the_logits_prevents_the_collapse_of_equal_classes(factor, collapsed):
    """Where two classes have equal counts and shifts, G has sqrt(n) / N on their difference, whatever the shift is."""
    lambda_W = factor * collapse_threshold(5, GROUPS.sum(), IMBALANCED.lambda_H)
    ufm = uf.UFM(10, 10, GROUPS, lambda_W=lambda_W, lambda_H=IMBALANCED.lambda_H, lambda_b=0.3)
    found = uf.path(ufm, [-1, 0, 1, 3], over="shift_strength")
    assert found.rows["certified"].all()
    np.testing.assert_array_equal(found.rows["collapsed"], collapsed)
    assert len(set(found.rows["loss"])) == 4
    for row in found.rows:
        loss = uf.losses.logit_adjusted(GROUPS, row["value"])
        alone = uf.minimize(uf.UFM(10, 10, GROUPS, loss=loss, lambda_W=lambda_W, lambda_H=2e-4, lambda_b=0.3))
        assert row["loss"] == pytest.approx(alone.fun, rel=2e-8)


def test_temperatures_move_the_threshold():
    """With logits scaled by D: D sqrt(n) / N = tau. In CDT the rare classes have D < 1, and collapse earlier."""
    threshold = collapse_threshold(5, GROUPS.sum(), IMBALANCED.lambda_H)
    lambda_W = threshold * (5 / 60) ** (2 * 0.2)  # D^2 for gamma = 0.2

    def temperatures(ufm, gamma):
        loss = uf.losses.cdt(ufm.counts, gamma)
        return uf.UFM(10, 10, ufm.counts, loss=loss, lambda_W=lambda_W, lambda_H=ufm.lambda_H, lambda_b=ufm.lambda_b)

    (change,) = [
        change for change in uf.path(IMBALANCED, [0.1, 0.3], over=temperatures, locate=1e-4).transitions
        if change.collapsed == (0, 4)
    ]  # fmt: skip
    assert change.value == pytest.approx(0.2, rel=1e-3)


def test_squared_error_loses_a_class_at_a_time():
    """Without a bias class k has a feature if and only if sqrt(n_k) > N tau."""
    counts = np.array([50, 40, 30, 20, 10, 5])
    ufm = uf.UFM(6, 6, counts, loss="mse", lambda_W=1e-3, lambda_H=1e-3, bias=False)
    found = uf.path(ufm, np.geomspace(1e-4, 10, 30))
    tau = np.sqrt(found.rows["value"] * 1e-3)
    np.testing.assert_array_equal(found.rows["rank"], [(np.sqrt(counts) > counts.sum() * x).sum() for x in tau])


@pytest.mark.parametrize("tol", [1e-6, 1e-9])
def test_ranks_do_not_depend_on_the_start(tol):
    """Short of convergence, right beside a threshold, from the solver's own start and from a random one."""
    threshold = collapse_threshold(5, GROUPS.sum(), IMBALANCED.lambda_H)
    for factor, collapsed in ((1 - 1e-3, 0), (1 + 1e-3, 4)):
        ufm = uf.UFM(10, 12, GROUPS, lambda_W=threshold * factor, lambda_H=2e-4, lambda_b=1e-2)
        for x0 in (None, ufm.random_point(3)):
            row = row_of(ufm, 0.0, uf.minimize(ufm, x0, tol=tol))
            assert (row["rank"], row["collapsed"]) == (9 if collapsed == 0 else 6, collapsed)


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_ranks_of_rows_are_those_of_tight_minima(loss):
    """Soft targets or real ones, with weights and ridges: at tol 1e-8 the rank that singular values show at 1e-12."""
    random = np.random.default_rng(5)
    ranks = set()
    for _ in range(12):
        K, M, tau = int(random.integers(3, 12)), int(random.integers(3, 20)), 10 ** random.uniform(-2.5, -1)
        targets = random.dirichlet(np.full(K, 0.3), M) if loss == "cross_entropy" else random.standard_normal((M, K))
        ufm = uf.UFM(
            K, K, targets=targets, n=random.uniform(0.5, 5, M), ridges=random.uniform(0.5, 5, M), loss=loss,
            lambda_W=tau / K, lambda_H=tau / K, lambda_b=random.choice([0, 0.1]),
        )  # fmt: skip
        W = uf.minimize(ufm, tol=1e-12).point.W
        values = np.linalg.svd(W, compute_uv=False) ** 2
        rank = int(np.sum(values > 1e-4 * max(values[0], 1e-5)))
        assert row_of(ufm, 0.0, uf.minimize(ufm, ufm.random_point(1)))["rank"] == rank
        ranks.add(rank)
    assert len(ranks) > 3


def test_narrow_models_are_followed_and_not_certified():
    ufm = uf.UFM(8, 2, 20, lambda_W=1e-3, lambda_H=1e-4)
    with pytest.warns(uf.ConvergenceWarning, match=r"3 of 3 rows .* lambda_W = "):
        found = uf.path(ufm, [1e-3, 2e-3, 4e-3])
    assert not found.rows["certified"].any()
    assert (found.rows["rank"] == 2).all()
    assert (found.rows["loss"] >= found.rows["lower_bound"]).all()


def test_uncertified_rows_say_so():
    binary = uf.UFM(10, 10, GROUPS, loss="bce", lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
    with pytest.warns(uf.ConvergenceWarning, match="rows are not certified"):
        found = uf.path(binary, [0.1, 0.2], over="weight_exponent", max_evaluations=2)
    np.testing.assert_array_equal(found.rows["certified"], found.rows["relative_gap"] <= 1e-8)
    assert not found.rows["certified"].all()


def test_a_function_and_points():
    def features(ufm, value):
        return uf.UFM(10, int(value), GROUPS, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)

    found = uf.path(IMBALANCED, [9, 10, 12], over=features, keep_points=True)
    assert found.over == "features"
    np.testing.assert_allclose(found.rows["loss"], found.rows["loss"][0], rtol=1e-8)
    for row, point in zip(found.rows, found.points, strict=True):
        assert uf.certify(features(None, row["value"]), point).is_global(1e-7)
    assert uf.path(IMBALANCED, [1e-3]).points is None


def test_rarest_classes():
    np.testing.assert_array_equal(rarest_classes(GROUPS), [6, 7, 8, 9])
    np.testing.assert_array_equal(rarest_classes(np.arange(30, 0, -1)), [27, 28, 29])
    np.testing.assert_array_equal(rarest_classes(np.array([5, 1, 9])), [0, 1])


CASES = {
    "own start": (IMBALANCED, "lambda_W", [0.01, 0.1, 1.0]),
    "from the row before": (IMBALANCED, "weight_exponent", [-3.0, -2.0, 0.0]),
    "narrow": (uf.UFM(6, 2, 20, lambda_W=1e-3, lambda_H=1e-4), "lambda_H", [1e-4, 2e-4, 3e-4]),
}


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize(("ufm", "over", "values"), CASES.values(), ids=CASES)
def test_interrupted_path_continues(ufm, over, values, tmp_path):
    expected = uf.path(ufm, values, over=over, locate=1e-2)
    for limit in (2, 3):

        def stop(done, total, limit=limit):
            if done >= limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            uf.path(ufm, values, over=over, locate=1e-2, checkpoint=tmp_path / "path.npz", callback=stop)
    calls = []
    found = uf.path(
        ufm, values, over=over, locate=1e-2, checkpoint=tmp_path / "path.npz",
        callback=lambda *call: calls.append(call),
    )  # fmt: skip
    assert_same_rows(found.rows, expected.rows)
    assert found.transitions == expected.transitions
    assert calls[0][0] == 3
    assert calls[-1] == (len(found.rows), len(found.rows))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_killed_path_continues(tmp_path):
    file = tmp_path / "path.npz"
    arguments = "over='weight_exponent', locate=1e-3"
    script = f"""
import numpy as np
import ufm_fast as uf
ufm = uf.UFM(10, 10, {GROUPS.tolist()}, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
def slowly(done, total):
    import time
    time.sleep(0.05)
uf.path(ufm, [-3.0, -2.0, 0.0], {arguments}, checkpoint={str(file)!r}, callback=slowly)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    expected = uf.path(IMBALANCED, [-3.0, -2.0, 0.0], over="weight_exponent", locate=1e-3)
    found = uf.path(IMBALANCED, [-3.0, -2.0, 0.0], over="weight_exponent", locate=1e-3, checkpoint=file)
    assert_same_rows(found.rows, expected.rows)


def test_checkpoints_of_other_paths_are_refused(tmp_path):
    file = tmp_path / "path.npz"
    uf.path(IMBALANCED, [1e-3, 2e-3], checkpoint=file)
    before = file.read_bytes()
    other = uf.UFM(10, 10, GROUPS, lambda_W=1e-3, lambda_H=3e-4, lambda_b=1e-2)
    for ufm, values, options, what in (
        (IMBALANCED, [1e-3, 3e-3], {}, "values"),
        (IMBALANCED, [1e-3, 2e-3], {"over": "lambda_H"}, "path over"),
        (IMBALANCED, [1e-3, 2e-3], {"tol": 1e-6}, "tol"),
        (IMBALANCED, [1e-3, 2e-3], {"locate": 1e-6}, "locate"),
        (other, [1e-3, 2e-3], {}, "models"),
    ):
        with pytest.raises(ValueError, match=f"another .*{what}"):
            uf.path(ufm, values, checkpoint=file, **options)
    uf.minimize(IMBALANCED, checkpoint=tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"run\.npz"):
        uf.path(IMBALANCED, [1e-3], checkpoint=tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"path\.npz"):
        uf.minimize(IMBALANCED, checkpoint=file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None, [1]), {}, TypeError, "ufm must"),
        ((uf.UFM(3, 3, lambda_W=1e-3, lambda_H=1e-3, dtype="float32"), [1]), {}, ValueError, "float64"),
        ((IMBALANCED, []), {}, ValueError, "values"),
        ((IMBALANCED, [1, 3, 2]), {}, ValueError, "values .* ascending or descending"),
        ((IMBALANCED, [1, 1]), {}, ValueError, "values"),
        ((IMBALANCED, [1, np.nan]), {}, ValueError, "values"),
        ((IMBALANCED, 1.0), {}, ValueError, "values"),
        ((IMBALANCED, ["a"]), {}, TypeError, "values"),
        ((IMBALANCED, [1]), {"over": "gamma"}, ValueError, "over must be .* 'gamma'"),
        ((IMBALANCED, [-1, 1]), {}, ValueError, "lambda_W"),
        ((IMBALANCED, [1]), {"over": lambda ufm, value: value}, TypeError, "over must return a UFM .* 1.0"),
        ((IMBALANCED, [1]), {"locate": 0}, ValueError, "locate"),
        ((IMBALANCED, [1]), {"tol": 0}, ValueError, "tol"),
        ((IMBALANCED, [1]), {"max_evaluations": 0}, ValueError, "max_evaluations"),
        ((IMBALANCED, [1]), {"keep_points": True, "checkpoint": "file"}, ValueError, "keep_points"),
        ((uf.UFM(3, 3, targets=[0, 1], lambda_W=1e-3, lambda_H=1e-3), [1]), {"over": "weight_exponent"}, ValueError,
         "samples per class"),
        ((uf.UFM(3, 3, loss=uf.Focal(2.0), lambda_W=1e-3, lambda_H=1e-3), [1]), {}, ValueError, "not convex"),
        ((uf.UFM(3, 3, loss="mse", lambda_W=1e-3, lambda_H=1e-3), [1]), {"over": "shift_strength"}, ValueError,
         "squared error"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        uf.path(*arguments, **options)


def test_figure_shows_the_columns_and_the_transitions():
    found = uf.path(IMBALANCED, np.geomspace(1e-2, 1, 4))
    figure = plot_path(found)
    drawn = {line.get_label(): line.get_xydata() for axes in figure.axes for line in axes.get_lines()}
    for label, column in (("rank of W and H", "rank"), ("collapsed classes", "collapsed"), ("|H|", "norm_H"),
                          ("least", "minority_cosine_least"), ("NC2, W", "nc2_W_centred")):  # fmt: skip
        np.testing.assert_array_equal(drawn[label], np.stack([found.rows["value"], found.rows[column]], axis=1))
    for axes in figure.axes:
        marked = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
        assert marked == [change.value for change in found.transitions]
    assert figure.axes[0].get_xscale() == "log"
