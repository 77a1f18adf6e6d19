"""The commands that describe points and landscapes: ``ufm-fast census``, ``classify`` and ``spectrum``."""

import json
import math
import warnings

import numpy as np
import pytest
from rich.console import Console

import ufm_fast as uf
from oracle import Oracle
from refusals import assert_refused
from ufm_fast._runtime import threads
from ufm_fast.cli import progress

DECAYS = {"lambda_W": 1e-3, "lambda_H": 2e-4, "lambda_b": 1e-2}
SMALL = ["census", "--K", 4, "--n", 20, "--runs", 4, "--workers", 1]


@pytest.fixture
def classify(run, tmp_path):
    """Save a point, run ``ufm-fast classify --json`` and return the object it prints."""

    def classify(ufm, p, *words):
        uf.save_point(tmp_path / "point.npz", ufm, p)
        code, out, err = run("classify", tmp_path / "point.npz", "--json", *words)
        assert (code, err) == (0, "")
        return json.loads(out)

    return classify


def test_census_by_default_has_both_losses_balanced_and_imbalanced(run):
    code, out, err = run(*SMALL, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    models = result["config"]["models"]
    assert [(model["loss"], model["n"][-1]) for model in models] == [
        ("cross_entropy", 20), ("mse", 20), ("cross_entropy", 2), ("mse", 2),
    ]  # fmt: skip
    assert {(model["K"], model["d"], model["n"][0]) for model in models} == {(4, 4, 20)}
    for row, model in zip(result["models"], models, strict=True):
        assert row["runs"] == 4
        assert row["certified"] == 1
        ufm = uf.UFM(
            4, 4, model["n"], loss=model["loss"], lambda_W=5e-4, lambda_H=5e-4 / np.mean(model["n"]), lambda_b=1e-2
        )
        assert row["lowest_loss"] == pytest.approx(uf.global_minimum(ufm).value, rel=1e-8)
    assert result["config"]["runs"] == 4


def test_census_table(run):
    code, out, err = run(*SMALL, "--d", 2, "--d", 5, "--loss", "cross_entropy", "--imbalance", 10)
    assert (code, err) == (0, "")
    assert "0 of 4" in out
    assert "4 of 4" in out
    assert "n = 2 to 20" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "..." not in out
    assert "…" not in out


def test_census_options_reach_the_models(run):
    code, out, _ = run(
        *SMALL[:-4], "--imbalance", 4, "--loss", "cross_entropy", "--label-smoothing", 0.1, "--lambda-W", 2e-3,
        "--lambda-H", 1e-4, "--no-bias", "--d", 6, "--runs", 2, "--seed", 5, "--tol", 1e-6, "--max-evaluations", 500,
        "--workers", 1, "--json",
    )  # fmt: skip
    assert code == 0
    config = json.loads(out)["config"]
    (model,) = config["models"]
    assert model == {
        "K": 4, "d": 6, "n": [20, 12, 7, 5], "loss": "cross_entropy", "label_smoothing": 0.1, "lambda_W": 2e-3,
        "lambda_H": 1e-4, "lambda_b": 0.0, "bias": False, "collapse": True, "dtype": "float64",
    }  # fmt: skip
    assert (config["seed"], config["tol"], config["max_evaluations"]) == (5, 1e-6, 500)
    code, out, _ = run("census", "--counts", "cifar10-lt", "--runs", 1, "--workers", 1, "--json")
    assert [model["n"][-1] for model in json.loads(out)["config"]["models"]] == [50, 50]


def test_census_of_rows_with_targets(run, tmp_path):
    targets = np.array([[0.5, 0.5, 0], [0, 0.2, 0.8], [0, 0, 1]])
    np.savez(tmp_path / "rows.npz", targets=targets, n=[7, 2, 3])
    words = ["--targets", tmp_path / "rows.npz", "--d", 3, "--loss", "cross_entropy", "--lambda-H", 1e-3]
    code, out, err = run("census", *words, "--runs", 3, "--workers", 1, "--output", tmp_path / "census.jsonl", "--json")
    assert (code, err) == (0, "")
    ufm = uf.UFM(3, 3, targets=targets, n=[7, 2, 3], lambda_W=5e-4, lambda_H=1e-3, lambda_b=1e-2)
    assert uf.Census.load(tmp_path / "census.jsonl").records == uf.census(ufm, 3).records
    assert json.loads(out)["models"][0]["certified"] == 1
    code, _, err = run("census", *words, "--imbalance", 10)
    assert (code, "the file of --targets describes all of the data" in err) == (2, True)


def test_census_continues_its_file_and_draws(run, tmp_path):
    words = [*SMALL, "--loss", "mse", "--output", tmp_path / "census.jsonl"]
    assert run(*words)[0] == 0
    content = (tmp_path / "census.jsonl").read_bytes()
    assert content.count(b"\n") == 1 + 2 * 4
    first = run(*words, "--plot", tmp_path / "census.png")
    assert (tmp_path / "census.jsonl").read_bytes() == content
    assert (tmp_path / "census.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "census.jsonl").write_bytes(content[:-100])
    assert run(*words) == first
    assert len(uf.Census.load(tmp_path / "census.jsonl").records) == 8
    code, out, err = run(*words, "--seed", 1)
    assert (code, out) == (2, "")
    assert "--output" in err
    assert "census.jsonl" in err


def test_census_shows_how_many_runs_are_done(run, monkeypatch):
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))
    assert "8/8" in run(*SMALL, "--loss", "mse")[2]
    assert run(*SMALL, "--loss", "mse", "--json")[2] == ""


@pytest.mark.filterwarnings("default")
def test_census_starts_no_more_processes_than_processors(run, monkeypatch):
    found, asked = uf.census(uf.UFM(3, 3, lambda_W=1e-2, lambda_H=1e-2), 1), []
    monkeypatch.setattr(threads, "_most_useful", lambda: 2)
    monkeypatch.setattr(uf, "census", lambda *_, workers, **__: asked.append(workers) or found)
    few = "ufm-fast: --workers is 100, but this process may use 2 processors: it is taken as 2\n"
    for given, expected in ((100, few), (2, ""), (-1, "")):
        code, _, err = run(*SMALL[:-1], given, "--json")
        assert (code, err) == (0, expected)
    assert asked == [2, 2, -1]


def test_classify_shows_that_it_works(run, monkeypatch, tmp_path):
    ufm = uf.UFM(3, 3, [4, 3, 2], lambda_W=1e-2, lambda_H=1e-3)
    uf.save_point(tmp_path / "point.npz", ufm, ufm.random_point())
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))
    assert "classifying" in run("classify", tmp_path / "point.npz")[2]
    assert run("classify", tmp_path / "point.npz", "--json")[2] == ""


def test_spectrum_shows_how_much_is_done(run, monkeypatch, tmp_path):
    ufm = uf.UFM(3, 3, [4, 3, 2], lambda_W=1e-2, lambda_H=1e-3)
    uf.save_point(tmp_path / "point.npz", ufm, ufm.random_point())
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))
    assert "10/10" in run("spectrum", tmp_path / "point.npz", "--probes", 5)[2]
    assert run("spectrum", tmp_path / "point.npz", "--json")[2] == ""


def test_census_says_where_the_theorem_was_not_met(run):
    code, out, err = run(*SMALL, "--max-evaluations", 3, "--loss", "mse", "--imbalance", 10)
    assert code == 1
    assert "of 4" in out
    assert err.startswith("ufm-fast: not every run ended at the certified global minimum: squared error, K = 4")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["census", "--runs", "0"], ["--runs"]),
        (["census", "--workers", "0"], ["--workers"]),
        (["census", "--tol", "0"], ["--tol"]),
        (["census", "--K", "1000", "--tol", "1e-12"], ["--tol", "3.6e-12"]),
        (["census", "--imbalance", "0.5"], ["--imbalance"]),
        (["census", "--d", "0"], ["d must"]),
        (["census", "--loss", "hinge"], ["--loss"]),
        (["census", "--loss", "mse", "--label-smoothing", "0.1"], ["--label-smoothing", "cross_entropy", "mse"]),
        (["census", "--counts", "nonsense"], ["--counts"]),
        (["census", "--counts", "mnist", "--n", "3"], ["--n"]),
        (["census", "--output", "no/such/file"], ["--output"]),
        (["census", "--plot", "figure.bmp"], ["--plot"]),
        (["spectrum", "nowhere.npz"], ["nowhere.npz"]),
        (["classify"], ["POINT"]),
        (["classify", "nowhere.npz"], ["nowhere.npz"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_options_get_one_line(run, words, expected):
    assert_refused(run(*words), *expected)


def test_missing_joblib_is_named(run_python):
    script = """
import contextlib, io, sys
sys.modules["joblib"] = None
from ufm_fast.cli import main, progress
with contextlib.redirect_stderr(io.StringIO()) as err:
    code = main(["census", "--K", "3", "--runs", "2", "--workers", "2"])
print(code, err.getvalue(), end="")
"""
    assert run_python(script) == "2 ufm-fast: joblib is missing; pip install 'ufm-fast[cli]'\n"


def test_classify_a_saddle_and_follow_its_direction(classify, run, tmp_path):
    """W = H = 0, balanced: |G| = 1 / (K sqrt(n)); the curvature along the saved direction is the eigenvalue."""
    ufm = uf.UFM(6, 6, 5, **DECAYS)
    p = uf.saddle(ufm, 0)
    result = classify(ufm, p, "--output", tmp_path / "result.npz")
    expected = 6e-4 - math.hypot(4e-4, 1 / (6 * math.sqrt(5)))
    assert result["kind"] == "strict_saddle"
    assert result["rank"] == 0
    assert result["lowest_eigenvalue"] == pytest.approx(expected, rel=1e-12)
    assert result["loss"] == pytest.approx(math.log(6), rel=1e-14)
    assert result["config"]["n"] == [5] * 6
    with np.load(tmp_path / "result.npz") as saved:
        direction = uf.Point(*(saved[f"direction_{name}"] for name in "WHb"))
        assert str(saved["kind"]) == "strict_saddle"
    curvature = sum(float(np.vdot(v, Hv)) for v, Hv in zip(direction, ufm.hvp(p, direction), strict=True))
    assert curvature == pytest.approx(expected, rel=1e-12)
    again, same = uf.load_point(tmp_path / "result.npz")
    assert again.loss(same) == ufm.loss(p)
    code, out, _ = run("classify", tmp_path / "result.npz")
    assert code == 0
    assert "Strict saddle" in out
    assert f"{expected:.9g}" in out


def test_classify_what_solve_saved(run, tmp_path):
    path = tmp_path / "result.npz"
    assert run("solve", "--counts", "cifar10-lt", "--output", path)[0] == 0
    code, out, err = run("classify", path, "--threads", 1)
    assert (code, err) == (0, "")
    assert "Global minimum" in out


def test_classify_other_points(classify):
    ufm = uf.UFM(6, 6, 5, **DECAYS)
    p = ufm.random_point(seed=0)
    assert classify(ufm, p)["kind"] == "not_critical"
    assert classify(ufm, p, "--gradient-tol", 1e3, "--certificate-tol", 0.999)["kind"] == "global_minimum"


def test_classify_says_when_nothing_is_shown(run, tmp_path):
    ufm = uf.UFM(8, 2, 5, **DECAYS)
    found = uf.census(ufm, 1)
    with pytest.warns(uf.ConvergenceWarning):
        end = uf.minimize(ufm, ufm.unpack(np.zeros(ufm.size))).point
    uf.save_point(tmp_path / "point.npz", ufm, end)
    kind = uf.classify(ufm, end).kind
    assert found.points["kind"][-1] == kind
    code, out, err = run("classify", tmp_path / "point.npz")
    assert kind.split("_")[0].capitalize() in out
    assert (code, err.count("\n")) == ((1, 1) if kind == "undecided" else (0, 0))


def test_spectrum_of_a_balanced_minimum_is_the_closed_form(run, tmp_path):
    ufm = uf.UFM(5, 4, 3, **DECAYS)
    uf.save_point(tmp_path / "point.npz", ufm, uf.global_minimum(ufm).point)
    files = ["--output", tmp_path / "result.npz", "--plot", tmp_path / "figure.png"]
    code, out, err = run("spectrum", tmp_path / "point.npz", "--k", 3, "--steps", 100, "--probes", 20, "--json", *files)
    assert (code, err) == (0, "")
    result = json.loads(out)
    values, multiplicities = uf.closed_form_spectrum(ufm)
    np.testing.assert_allclose(result["eigenvalues"], result["closed_form"], rtol=1e-8)
    assert set(result["closed_form"]) <= set(values[values > 0])
    assert result["left_out"] == multiplicities[values == 0].sum() == 6
    assert result["size"] == multiplicities.sum() == (5 + 15) * 4 + 5
    assert result["largest"] == pytest.approx(values[-1], rel=1e-8)
    assert result["negative"] == 0
    assert result["zero"] == pytest.approx(6, abs=2)
    assert result["positive"] == pytest.approx(79, abs=4)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "result.npz") as saved:
        np.testing.assert_array_equal(saved["eigenvalues"], result["eigenvalues"])
        np.testing.assert_array_equal(saved["closed_form_eigenvalues"], values)
        assert saved["weights"].sum() == pytest.approx(85)
    code, out, err = run("spectrum", tmp_path / "result.npz", "--k", 3)
    assert (code, err) == (0, "")
    assert "nearest closed form" in out
    assert f"{result['closed_form'][0]:.10g}" in out
    assert "6 rotations" in out
    code, out, _ = run("spectrum", tmp_path / "result.npz", "--k", 7, "--rotations", "--json")
    result = json.loads(out)
    assert code == result["left_out"] == 0
    np.testing.assert_allclose(result["eigenvalues"][:6], 0, atol=1e-10)
    assert result["eigenvalues"][6] > 1e-6


def test_spectrum_of_a_saddle(run, tmp_path):
    ufm = uf.UFM(5, 5, [9, 7, 5, 3, 1], **DECAYS)
    p = uf.saddle(ufm, 2)
    uf.save_point(tmp_path / "point.npz", ufm, p)
    code, out, err = run("spectrum", tmp_path / "point.npz", "--k", 2, "--json", "--threads", 1, "--seed", 3)
    assert (code, err) == (0, "")
    result = json.loads(out)
    dense = np.linalg.eigvalsh(Oracle.of(ufm).full().hessian(*ufm.expand(p)))
    np.testing.assert_allclose(result["eigenvalues"], dense[:2], rtol=1e-9)
    assert result["closed_form"] is None
    assert result["negative"] == pytest.approx(np.sum(dense < -1e-8), rel=0.3)
    config = result["config"]
    assert (config["k"], config["tol"], config["steps"], config["probes"], config["seed"]) == (2, 1e-8, 80, 8, 3)


def test_spectrum_says_when_it_did_not_converge(run, tmp_path, monkeypatch):
    def stopped(*arguments, **options):
        warnings.warn("3 Hessian products used up", uf.ConvergenceWarning, stacklevel=2)
        return lowest(*arguments, **options)

    lowest = uf.lowest_eigenpairs
    monkeypatch.setattr(uf, "lowest_eigenpairs", stopped)
    ufm = uf.UFM(3, 3, **DECAYS)
    uf.save_point(tmp_path / "point.npz", ufm, uf.saddle(ufm, 0))
    code, out, err = run("spectrum", tmp_path / "point.npz")
    assert (code, err) == (1, "ufm-fast: 3 Hessian products used up\n")
    assert "lowest eigenvalues" in out


def test_help(run):
    code, out, _ = run("census", "--help")
    assert code == 0
    options = (
        "--K --d --n --counts --imbalance --loss --label-smoothing --lambda-W --lambda-H --lambda-b --no-bias --runs "
        "--seed --tol --max-evaluations --workers --json --output --plot"
    )
    assert set(options.split()) <= set(out.split())
    code, out, _ = run("classify", "--help")
    assert code == 0
    assert {"--gradient-tol", "--certificate-tol", "--threads", "--json", "--output"} <= set(out.split())
    code, out, _ = run("spectrum", "--help")
    assert code == 0
    assert {"--k", "--tol", "--steps", "--probes", "--seed", "--threads", "--json", "--output", "--plot"} <= set(
        out.split()
    )
