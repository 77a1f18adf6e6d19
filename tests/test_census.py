"""The census: what it finds against closed forms and dense eigenvalues, and that no interruption changes it."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ufm_fast as uf
from oracle import Oracle
from ufm_fast._curvature.critical import covered
from ufm_fast._landscape.census_runs import rank_at_tolerance
from ufm_fast.plotting.models import plot_census

DECAYS = {"lambda_W": 1e-3, "lambda_H": 2e-4, "lambda_b": 1e-2}
BALANCED = uf.UFM(6, 6, 5, **DECAYS)
IMBALANCED = uf.UFM(5, 6, [30, 20, 10, 5, 2], loss="mse", **DECAYS)
NARROW = uf.UFM(8, 2, 5, **DECAYS)


@pytest.fixture(scope="module")
def found():
    return uf.census([BALANCED, IMBALANCED, NARROW], 16, seed=2)


def of_model(found, index):
    points = found.points[found.points["model"] == index]
    return points[points["end"]], points[~points["end"]]


@pytest.mark.parametrize("index", [0, 1])
def test_all_descents_end_at_the_certified_global_minimum(found, index):
    ends, _ = of_model(found, index)
    assert (ends["kind"] == "global_minimum").all()
    assert (ends["relative_gap"] <= 1e-8).all()
    value = uf.global_minimum(found.models[index]).value
    np.testing.assert_allclose(ends["loss"], value, rtol=1.01e-8)
    row = found.summary()[index]
    assert row["covered"]
    assert row["certified"] == row["at_lowest"] == 1
    assert row["runs"] == 16
    assert row["ends"] == {"global_minimum": 16}


def test_two_dimensions_do_not_reach_the_bound(found):
    ends, _ = of_model(found, 2)
    row = found.summary()[2]
    assert not row["covered"]
    assert row["certified"] == 0
    assert "global_minimum" not in set(ends["kind"])
    assert row["lowest_loss"] > uf.global_minimum(uf.UFM(8, 8, 5, **DECAYS)).value * 1.01
    assert row["largest_gap"] > 0.01


def test_saddles_have_the_closed_forms_of_merged_classes(found):
    """Balanced cross-entropy, classes in m equal groups: rank m - 1, and one lowest eigenvalue for all."""
    _, met = of_model(found, 0)
    saddles = met[met["kind"] == "strict_saddle"]
    K, t = 6, math.sqrt(5 * 1e-3 * 2e-4)
    norm = 1 / (K * math.sqrt(5))
    mean, half = (1e-3 + 2e-4) / 2, (1e-3 - 2e-4) / 2
    np.testing.assert_allclose(saddles["lowest_eigenvalue"], mean - math.hypot(half, norm), rtol=1e-6)
    np.testing.assert_allclose(saddles["norm_excess"], norm / math.sqrt(2e-7) - 1, rtol=1e-6)
    for groups in (1, 2, 3):
        size = K // groups
        wrong = size * t
        right = 1 - (groups - 1) * wrong
        expected = math.log(size) - right * math.log(right) - (groups - 1) * wrong * math.log(wrong)
        here = saddles[saddles["rank"] == groups - 1]
        assert len(here)
        np.testing.assert_allclose(here["loss"], expected, rtol=1e-9)
    assert found.summary()[0]["saddle_ranks"] == np.unique(saddles["rank"]).tolist()


def test_saddles_of_an_imbalanced_model_have_the_dense_lowest_eigenvalue(found):
    """The dense Hessian of the oracle, at saddles made anew."""
    _, met = of_model(found, 1)
    saddles = met[met["kind"] == "strict_saddle"]
    assert len(np.unique(saddles["rank"])) >= 3
    p = uf.saddle(IMBALANCED, 0)
    dense = np.linalg.eigvalsh(Oracle.of(IMBALANCED).full().hessian(*IMBALANCED.expand(p)))[0]
    here = saddles[saddles["rank"] == 0]
    assert len(here)
    np.testing.assert_allclose(here["lowest_eigenvalue"], dense, rtol=1e-6)


def test_starts(found):
    for index in range(3):
        records = [record for record in found.records if record["model"] == index]
        assert [record["run"] for record in records] == list(range(16))
        assert [record["start"] for record in records] == ["zero", *["saddle", "near", "random"] * 5]
    points = found.points
    for start, least, most in (("random", 1e-6, 10), ("near", 1e-12, 0.1)):
        scales = points["scale"][points["start"] == start]
        assert least <= scales.min() < 1e-3 * most
        assert scales.max() <= most
    at_saddles = points[(points["start"] == "saddle") & ~points["end"]]
    assert (at_saddles["kind"] == "strict_saddle").mean() > 0.9
    assert (at_saddles["relative_gradient_norm"][at_saddles["kind"] == "strict_saddle"] <= 1e-6).all()


def test_saved_census_comes_back(found, tmp_path):
    found.save(tmp_path / "census.jsonl")
    again = uf.Census.load(tmp_path / "census.jsonl")
    assert repr(again.models) == repr(found.models)
    assert again.settings == found.settings
    assert again.records == found.records
    for name in found.points.dtype.names:
        np.testing.assert_array_equal(again.points[name], found.points[name])


def test_processes_do_not_change_the_result(found):
    pytest.importorskip("joblib")
    assert uf.census(found.models, 4, seed=2, workers=2).records == tuple(
        record for record in found.records if record["run"] < 4
    )


def test_interrupted_census_continues(found, tmp_path):
    """After an exception and a line cut short, and with more runs than at first."""
    path = tmp_path / "census.jsonl"

    def stop(done, total):
        assert total == 3 * 4
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uf.census(found.models, 4, seed=2, path=path, callback=stop)
    assert len(uf.Census.load(path).records) == 5
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert len(uf.Census.load(path).records) == 4
    calls = []
    continued = uf.census(found.models, 16, seed=2, path=path, callback=lambda *call: calls.append(call))
    assert calls == [(done, 48) for done in range(4, 49)]
    assert continued.records == found.records
    assert uf.Census.load(path).records == found.records
    fewer = uf.census(found.models, 2, seed=2, path=path, callback=lambda *call: calls.append(call))
    assert calls[-1] == (6, 6)
    assert len(fewer.records) == 6


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_killed_census_continues(found, tmp_path):
    path = tmp_path / "census.jsonl"
    found.save(tmp_path / "all.jsonl")
    script = f"""
import ufm_fast as uf
models = uf.Census.load({str(tmp_path / "all.jsonl")!r}).models
uf.census(models, 16, seed=2, path={str(path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") > 5):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 5 <= len(uf.Census.load(path).records) < 48
    continued = uf.census(found.models, 16, seed=2, path=path)
    assert continued.records == found.records
    assert continued.summary() == found.summary()


def test_other_files_are_left_alone(found, tmp_path):
    path = tmp_path / "census.jsonl"
    uf.census(BALANCED, 1, path=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="other models or settings"):
        uf.census(BALANCED, 1, path=path, seed=1)
    with pytest.raises(ValueError, match="other models or settings"):
        uf.census(IMBALANCED, 1, path=path)
    assert path.read_bytes() == before
    for content in (b"", b"no JSON\n", b"[1]\n", b'{"a": 1}\n', b"\xff\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=path.name):
            uf.Census.load(path)
        with pytest.raises(ValueError, match=path.name):
            uf.census(BALANCED, 1, path=path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1],), {}, TypeError, "models .* int"),
        ((uf.UFM(3, 3, dtype="float32", **DECAYS),), {}, ValueError, "float32"),
        ((BALANCED, 0), {}, ValueError, "runs .* 0"),
        ((BALANCED, 1), {"workers": 0}, ValueError, "workers .* 0"),
        ((BALANCED, 1), {"tol": 0}, ValueError, "tol"),
    ],
)
def test_wrong_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        uf.census(*arguments, **options)


def test_a_model_whose_minimum_is_zero():
    found = uf.census(uf.UFM(3, 3, lambda_W=1.0, lambda_H=1.0), 4)
    ends = found.points
    assert ends["end"].all()
    np.testing.assert_allclose(ends["loss"], math.log(3), rtol=1e-8)
    assert (ends["rank"] == 0).all()


def test_covered():
    assert covered(uf.UFM(5, 4, **DECAYS))
    assert not covered(uf.UFM(5, 3, **DECAYS))
    assert covered(uf.UFM(5, 5, loss="mse", **DECAYS))
    assert not covered(uf.UFM(5, 4, loss="mse", **DECAYS))
    assert not covered(uf.UFM(5, 4, loss="mse", lambda_W=1e-3, lambda_H=1e-3, bias=False))
    assert covered(uf.UFM(5, 4, loss="mse", lambda_W=1e-3, lambda_H=1e-3))


def test_rank_at_tolerance():
    ufm = uf.UFM(4, 4, lambda_W=0.5, lambda_H=1.0)
    W = np.diag([3.0, 1.0, 1e-3, 0.0])
    p = uf.Point(W, W, np.zeros(4))
    assert [rank_at_tolerance(ufm, p, 1.0, tol) for tol in (1e-8, 1e-6, 1.0)] == [3, 2, 1]


def test_figure_shows_the_points_and_the_fractions(found):
    figure = plot_census(found)
    *panels, fractions = [axes for axes in figure.axes if axes.get_title()]
    points = found.points
    for index, axes in enumerate(panels):
        here = points[points["model"] == index]
        saddles = here[~here["end"] & (here["kind"] == "strict_saddle")]
        (scatter,) = axes.collections
        np.testing.assert_array_equal(scatter.get_offsets(), np.stack([saddles["rank"], saddles["loss"]], axis=1))
        np.testing.assert_array_equal(scatter.get_array(), -saddles["lowest_eigenvalue"])
        ends = here[here["end"]]
        *stars, bound = axes.get_lines()
        drawn = np.concatenate([line.get_xydata() for line in stars])
        assert sorted(map(tuple, drawn)) == sorted(zip(ends["rank"].astype(float), ends["loss"], strict=True))
        value = uf.global_minimum(uf.UFM(8, 8, 5, **DECAYS) if index == 2 else found.models[index]).value
        assert bound.get_ydata()[0] == pytest.approx(value, rel=1e-6)
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in fractions.containers}
    assert widths["global minimum"] == [1, 1, 0]
    np.testing.assert_allclose(np.sum(list(widths.values()), axis=0), 1)
