"""``ufm-fast solve``: what it prints, writes and returns."""

import json
import math
import os
import sys
import threading

import numpy as np
import pytest

import ufm_fast as uf
from oracle import Oracle
from refusals import assert_refused
from ufm_fast.cli.report import neural_collapse

CIFAR100_LT = [math.floor(500 * 100 ** (-k / 99)) for k in range(100)]
CIFAR100_LT_MINIMUM = 0.35651390425835  # certified to 5e-12 by an independent NumPy solver
REPORTED = {"loss", "lower_bound", "relative_gap", "escapes", "rank", "seconds", "nfev", "success", "message", "config"}


@pytest.fixture
def solve(run):
    """Run ``ufm-fast solve --json``; return the object it prints. It must succeed."""

    def solve(*words):
        code, out, err = run("solve", "--json", *words)
        assert (code, err) == (0, ""), err
        return json.loads(out)

    return solve


def entropy_of_optimum(K, q):
    """The minimal loss of balanced cross-entropy whose optimal softmax outputs are q for each wrong class."""
    p = 1 - (K - 1) * q
    return -(K - 1) * q * math.log(q) - p * math.log(p)


def test_default_is_the_certified_optimum_of_a_long_tailed_data_set(solve):
    result = solve()
    assert result.keys() >= REPORTED
    assert result["success"] is True
    assert result["lower_bound"] <= CIFAR100_LT_MINIMUM * (1 + 1e-11)
    assert CIFAR100_LT_MINIMUM * (1 - 1e-11) <= result["loss"] <= CIFAR100_LT_MINIMUM * (1 + 1e-8)
    assert result["relative_gap"] == pytest.approx(1 - result["lower_bound"] / result["loss"], abs=1e-12)
    assert result["relative_gap"] <= 1e-8
    assert result["rank"] == 99
    assert result["nfev"] <= 20
    config = result["config"]
    assert config["n"] == CIFAR100_LT
    assert (config["K"], config["d"], config["lambda_W"], config["lambda_b"]) == (100, 100, 5e-4, 1e-2)
    assert config["lambda_H"] == pytest.approx(5e-4 / np.mean(CIFAR100_LT), rel=1e-15)


def test_table(run):
    code, out, err = run("solve", "--K", 10, "--n", 4, "--lambda-W", 1e-3, "--lambda-H", 1e-4)
    assert (code, err) == (0, "")
    for text in ("Certified global optimum", "lower bound", "relative gap", "rank of W", "saddles escaped", "time"):
        assert text in out
    assert f"{entropy_of_optimum(10, math.sqrt(4 * 1e-3 * 1e-4)):.9f}" in out
    assert "Neural collapse" in out
    assert "-0.111" in out


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_closed_form(solve, smoothing):
    result = solve(
        "--K", 7, "--d", 9, "--n", 3, "--lambda-W", 2e-3, "--lambda-H", 1e-3, "--label-smoothing", smoothing
    )  # fmt: skip
    expected = entropy_of_optimum(7, math.sqrt(3 * 2e-3 * 1e-3) + smoothing / 7)
    assert result["loss"] == pytest.approx(expected, rel=1e-12)
    assert result["rank"] == 6
    measures = result["neural_collapse"]
    for name in ("equinorm_W_centred", "equinorm_means", "cosine_std_W_centred", "cosine_std_means"):
        assert measures[name] < 1e-7, name
    assert measures["nc3_duality_centred"] < 1e-7
    assert measures["cosine_mean_W_centred"] == pytest.approx(-1 / 6, abs=1e-7)


def test_rank_of_imbalanced_squared_error_is_known_exactly(solve, tmp_path):
    counts = [100, 81, 64, 49, 36, 25, 16, 9, 4, 1]
    (tmp_path / "counts.txt").write_text(" ".join(map(str, counts)))
    tau = math.sqrt(30) / sum(counts)  # a class survives iff sqrt(n_k) > N tau
    result = solve(
        "--counts", tmp_path / "counts.txt", "--loss", "mse", "--no-bias", "--lambda-W", tau, "--lambda-H", tau
    )  # fmt: skip
    assert result["rank"] == 5


def test_zero_optimum(run):
    code, out, _ = run("solve", "--json", "--K", 4, "--lambda-W", 1, "--lambda-H", 1)
    result = json.loads(out)
    assert code == 0
    assert result["loss"] == pytest.approx(math.log(4), rel=1e-14)
    assert result["rank"] == 0
    assert result["neural_collapse"]["nc3_duality_centred"] is None
    assert "undefined" in run("solve", "--K", 4, "--lambda-W", 1, "--lambda-H", 1)[1]


@pytest.mark.parametrize(
    "words",
    [
        ["--counts", "cifar10-lt", "--imbalance", "20", "--lambda-b", "0"],
        ["--counts", "mnist", "--d", "9", "--lambda-W", "1e-3", "--lambda-H", "1e-6"],
        ["--K", "6", "--n", "50", "--imbalance", "10", "--loss", "mse"],
        ["--K", "6", "--n", "50", "--imbalance", "10", "--loss", "mse", "--no-bias"],
        ["--K", "5", "--n", "20", "--imbalance", "4", "--label-smoothing", "0.1", "--no-bias"],
        ["--counts", "cifar10-lt", "--start", "random", "--seed", "3", "--threads", "1"],
    ],
    ids=" ".join,
)
def test_options_reach_the_model(solve, tmp_path, words):
    """The loss reported is that of the saved point in a model made from the options by hand."""
    result = solve(*words, "--output", tmp_path / "result.npz")
    given = dict(zip(words[::2], words[1::2], strict=False))  # --no-bias, where there is one, is last
    with np.load(tmp_path / "result.npz") as saved:
        point, counts = [saved[name] for name in "WHb"], saved["counts"]
    lambda_W = float(given.get("--lambda-W", 5e-4))
    oracle = Oracle(
        K=len(counts),
        d=int(given.get("--d", len(counts))),
        counts=tuple(counts),
        lambda_W=lambda_W,
        lambda_H=float(given.get("--lambda-H", lambda_W / np.mean(counts))),
        lambda_b=float(given.get("--lambda-b", 1e-2)),
        bias="--no-bias" not in words,
        loss_name=given.get("--loss", "cross_entropy"),
        label_smoothing=float(given.get("--label-smoothing", 0)),
    )
    assert result["loss"] == pytest.approx(oracle.loss(*point), rel=1e-12)
    assert result["config"]["n"] == counts.tolist()


def test_float32(solve, tmp_path):
    words = ["--K", 8, "--n", 5, "--lambda-W", 1e-3, "--lambda-H", 1e-3, "--dtype", "float32", "--tol", 1e-5]
    result = solve(*words, "--output", tmp_path / "result.npz")
    assert result["loss"] == pytest.approx(entropy_of_optimum(8, math.sqrt(5) * 1e-3), rel=1e-5)
    assert result["config"]["dtype"] == "float32"
    with np.load(tmp_path / "result.npz") as saved:
        assert {saved[name].dtype for name in "WHb"} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("counts.txt", "# head to tail\n30, 20; 11\n7 # the last\n"),
        ("counts.json", "[30, 20, 11, 7]"),
        ("counts.npy", None),
    ],
)
def test_counts_from_a_file(solve, tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        np.save(path, np.array([30, 20, 11, 7], np.int32))
    else:
        path.write_text(content)
    assert solve("--counts", path)["config"]["n"] == [30, 20, 11, 7]


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_counts_from_a_pipe(solve, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("30 20 11"))
    writer.start()
    assert solve("--counts", path)["config"]["n"] == [30, 20, 11]
    writer.join()


def test_counts_by_number(solve):
    assert solve("--n", 500, "--imbalance", 100)["config"]["n"] == CIFAR100_LT
    assert solve("--K", 3)["config"]["n"] == [1, 1, 1]
    assert solve("--counts", "cifar10-lt", "--K", 10, "--imbalance", 10)["config"]["n"][-1] == 500


def test_starting_at_a_saddle(solve):
    result = solve("--start", "zero", "--counts", "cifar10-lt")
    assert result["escapes"] >= 1
    assert result["loss"] == pytest.approx(solve("--counts", "cifar10-lt")["loss"], rel=2e-8)


def test_random_starts_follow_the_seed(solve, tmp_path):
    def result(seed):
        path = tmp_path / f"{seed}.npz"
        solve("--K", 5, "--n", 3, "--start", "random", "--seed", seed, "--output", path)
        with np.load(path) as saved:
            return saved["W"], saved["history_loss"]

    W, losses = result(1)
    repeated_W, repeated_losses = result(1)
    np.testing.assert_array_equal(repeated_W, W)
    np.testing.assert_array_equal(repeated_losses, losses)
    assert result(2)[1][0] != losses[0]


def test_saved_result_is_complete_and_a_start(solve, tmp_path):
    path = tmp_path / "result.npz"
    result = solve("--counts", "cifar10-lt", "--output", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.npz"]
    with np.load(path) as saved:
        assert json.loads(str(saved["config"])) == result["config"]
        assert saved["W"].shape == saved["H"].shape == (10, 10)
        history = {name[8:]: saved[name] for name in saved.files if name.startswith("history_")}
        assert set(saved.files) == {"W", "H", "b", "counts", "config", *(f"history_{name}" for name in history)}
    assert {"seconds", "evaluations", "loss", "lower_bound", "gradient_norm", "escaped"} <= history.keys()
    assert len({len(values) for values in history.values()}) == 1
    again = solve("--counts", "cifar10-lt", "--start", path)
    assert again["loss"] <= result["loss"] * (1 + 1e-14)
    assert again["nfev"] == 1


@pytest.mark.parametrize(("suffix", "signature"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_plot(solve, tmp_path, suffix, signature):
    path = tmp_path / f"figure{suffix}"
    solve("--K", 5, "--n", 3, "--start", "zero", "--plot", path)
    assert path.read_bytes().startswith(signature)


def test_uncertified_result_is_printed_and_exits_with_1(run):
    words = ["solve", "--counts", "cifar10-lt", "--start", "random", "--max-evaluations", 2]
    code, out, err = run(*words)
    assert code == 1
    assert "not certified" in out
    assert err.startswith("ufm-fast: not certified: ")
    assert err.count("\n") == 1
    code, out, _ = run(*words, "--json")
    assert code == 1
    result = json.loads(out)
    assert result["success"] is False
    assert result["relative_gap"] > 1e-8


def test_checkpoint(run, tmp_path):
    """Out of evaluations, then on from there: the same numbers as in one run."""
    path = tmp_path / "run.npz"
    words = "solve", "--json", "--counts", "cifar10-lt", "--start", "random", "--seed", 1
    expected = json.loads(run(*words)[1])
    for limit in (3, 8):
        code, out, err = run(*words, "--checkpoint", path, "--max-evaluations", limit)
        assert code == 1
        assert f"all {limit} evaluations used" in err
        assert json.loads(out)["nfev"] == limit
    result = json.loads(run(*words, "--checkpoint", path)[1])
    for name in REPORTED - {"seconds", "config"}:
        assert result[name] == expected[name], name
    assert_refused(run(*words, "--checkpoint", path, "--tol", 1e-6), "--checkpoint", "another tol")
    assert_refused(run(*words, "--checkpoint", tmp_path / "no" / "run.npz"), "--checkpoint", "existing directory")


def test_restarts(run):
    words = "solve", "--json", "--K", 10, "--d", 2, "--n", 20, "--lambda-W", 5e-3
    losses = [json.loads(run(*words, "--restarts", count)[1])["loss"] for count in (0, 4)]
    assert losses[1] < losses[0] * (1 + 1e-12)


def test_neural_collapse_is_that_of_nc_metrics():
    """At points with a row a sample, weighted by class counts; NaN where there is nothing to measure."""
    rng = np.random.default_rng(0)
    ufm = uf.UFM(4, 6, [9, 5, 2, 1], lambda_W=1e-2, lambda_H=1e-2)
    p = uf.Point(rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), np.zeros(4))
    with pytest.warns(RuntimeWarning, match="one sample"):
        full = uf.nc_metrics(p.W, np.repeat(p.H, ufm.counts, axis=0), np.repeat(np.arange(4), ufm.counts))
    assert neural_collapse(ufm, p) == pytest.approx({name: getattr(full, name) for name in neural_collapse(ufm, p)})
    assert all(map(math.isnan, neural_collapse(ufm, uf.Point(0 * p.W, 0 * p.H, p.b)).values()))
