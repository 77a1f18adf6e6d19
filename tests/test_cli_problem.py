"""The options that describe data and losses: class weights, targets and parameters, in ``ufm-fast solve``."""

import json

import numpy as np
import pytest
import scipy.sparse

import ufm_fast as uf
from refusals import assert_refused
from ufm_fast.cli.losses import loss_makers

COUNTS = [40, 20, 10, 5]
DECAYS = {"lambda_W": 1e-3, "lambda_H": 1e-3, "lambda_b": 1e-2}
WORDS = ["--lambda-W", 1e-3, "--lambda-H", 1e-3]
TOKENS = np.array([[0.5, 0.5, 0, 0], [0, 0.25, 0.75, 0], [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1], [0.5, 0.5, 0, 0]])


@pytest.fixture
def solve(run):
    def solve(*words):
        code, out, err = run("solve", "--json", *WORDS, *words)
        assert (code, err) == (0, ""), err
        return json.loads(out)

    return solve


@pytest.fixture
def counts(tmp_path):
    (tmp_path / "counts.txt").write_text(" ".join(map(str, COUNTS)))
    return ["--counts", tmp_path / "counts.txt"]


def test_counts_of_a_list_of_images(solve, tmp_path):
    lines = [f"train/{k}/{i}.jpg {k}" for k, n in enumerate(COUNTS) for i in range(n)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    assert solve("--counts", tmp_path / "train.txt")["config"]["n"] == COUNTS


@pytest.mark.parametrize(("words", "power"), [("balanced", -1), ("n^-0.5", -0.5), ("n^0", 0)])
def test_class_weights_are_powers_of_the_counts(solve, counts, words, power):
    result = solve(*counts, "--class-weights", words)
    weights = np.array(COUNTS, float) ** power
    weights *= sum(COUNTS) / (COUNTS @ weights)
    np.testing.assert_allclose(result["config"]["weights"], weights, rtol=1e-14)
    assert result["loss"] == pytest.approx(uf.minimize(uf.UFM(4, 4, COUNTS, weights=weights, **DECAYS)).fun, rel=2e-8)


def test_class_weights_from_files(solve, counts, run, tmp_path):
    np.save(tmp_path / "weights.npy", np.array([1, 2, 3, 4.5]))
    (tmp_path / "weights.txt").write_text("1, 2, 3, 4.5  # as they are\n")
    for name in ("weights.npy", "weights.txt"):
        assert solve(*counts, "--class-weights", tmp_path / name)["config"]["weights"] == [1, 2, 3, 4.5]
    code, out, _ = run("solve", *WORDS, *counts, "--class-weights", tmp_path / "weights.npy")
    assert code == 0
    assert "weights 1 to 4.5" in out
    assert_refused(run("solve", *counts, "--class-weights", "n^x"), "--class-weights", "n^x")
    assert_refused(run("solve", *counts, "--class-weights", "nowhere"), "--class-weights", "nowhere")
    assert_refused(run("solve", "--K", 3, "--class-weights", tmp_path / "weights.npy"), "weights")


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_targets_with_counts_and_ridges_of_rows(solve, run, tmp_path, form):
    file, rows = tmp_path / "rows.npz", {"n": np.array([1, 2, 3, 4, 5.0]), "ridges": np.array([1, 1, 2, 2, 3.0])}
    if form == "dense":
        np.savez(file, targets=TOKENS, **rows)
    else:
        matrix = scipy.sparse.csr_array(TOKENS)
        np.savez(file, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape, **rows)
    expected = uf.minimize(uf.UFM(4, 4, targets=TOKENS, **rows, **DECAYS), tol=1e-9)
    result = solve("--targets", file, "--output", tmp_path / "point.npz")
    assert result["loss"] == pytest.approx(expected.fun, rel=2e-8)
    ufm, p = uf.load_point(tmp_path / "point.npz")
    assert ufm.M == 5
    assert uf.certify(ufm, p).is_global(1e-7)
    for command in ("classify", "spectrum"):
        code, out, _ = run(command, tmp_path / "point.npz", "--output", tmp_path / "again.npz")
        assert code == 0
        assert "M = 5 rows" in out
    code, out, _ = run("solve", *WORDS, "--targets", file)
    assert code == 0
    assert "M = 5 rows with targets" in out


def test_what_save_npz_writes_and_labels(solve, run, tmp_path):
    scipy.sparse.save_npz(tmp_path / "rows.npz", scipy.sparse.csr_array(TOKENS))
    assert solve("--targets", tmp_path / "rows.npz")["config"]["K"] == 4
    np.savez(tmp_path / "labels.npz", targets=np.array([2, 0, 2, 1]))
    result = solve("--targets", tmp_path / "labels.npz", "--K", 3)
    expected = uf.minimize(uf.UFM(3, 3, [1, 1, 2], **DECAYS), tol=1e-9)
    assert result["loss"] == pytest.approx(expected.fun, rel=2e-8)
    assert_refused(run("solve", "--targets", tmp_path / "labels.npz"), "--K")
    scipy.sparse.save_npz(tmp_path / "columns.npz", scipy.sparse.csc_array(TOKENS))
    assert_refused(run("solve", "--targets", tmp_path / "columns.npz"), "--targets", "CSR")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    assert_refused(run("solve", "--targets", tmp_path / "other.npz"), "--targets", "other.npz", "targets")
    np.savez(tmp_path / "bad.npz", targets=2 * TOKENS)
    assert_refused(run("solve", "--targets", tmp_path / "bad.npz"), "targets", "row 0")
    assert_refused(run("solve", "--targets", tmp_path / "nowhere.npz"), "--targets", "nowhere.npz")
    assert_refused(run("solve", "--targets", tmp_path / "rows.npz", "--n", 3), "--n", "--targets")


def test_parameters_of_losses(solve, run):
    smoothed = solve("--K", 5, "--n", 3, "--parameter", "label_smoothing=0.1")
    assert smoothed["loss"] == solve("--K", 5, "--n", 3, "--label-smoothing", 0.1)["loss"]
    assert_refused(run("solve", "--parameter", "label_smoothing"), "--parameter", "KEY=VALUE")
    assert_refused(run("solve", "--parameter", "nonsense=1"), "--parameter", "nonsense", "no loss")
    assert_refused(run("solve", "--parameter", "label_smoothing=2"), "--parameter", "label_smoothing")
    assert_refused(run("solve", "--loss", "mse", "--parameter", "label_smoothing=0.1"), "--parameter", "mse")
    assert_refused(run("solve", "--loss", "focal"), "--parameter", "focal needs gamma")
    assert_refused(run("solve", "--loss", "cdt", "--parameter", "strength=1"), "strength", "logit_adjusted")
    assert_refused(run("solve", "--K", 3, "--parameter", "shift=1,2"), "shift", "K = 3")


def test_losses_that_follow_from_the_counts(run, tmp_path):
    """Their vectors, as the core has them."""
    for words, loss in (
        (["logit_adjusted", "--parameter", "strength=0.5"], uf.losses.logit_adjusted(COUNTS, 0.5)),
        (["ldam"], uf.losses.ldam(COUNTS)),
        (["cdt", "--parameter", "gamma=0.3"], uf.losses.cdt(COUNTS, 0.3)),
        (["vector_scaling", "--parameter", "gamma=0.3", "--parameter", "strength=1"],
         uf.losses.vector_scaling(COUNTS, 0.3, 1)),
    ):  # fmt: skip
        (maker,) = loss_makers(words[:1], words[2::2], 0.0)
        assert maker(np.array(COUNTS)) == loss
    np.savez(tmp_path / "rows.npz", targets=TOKENS)
    refused = run("solve", "--targets", tmp_path / "rows.npz", "--loss", "ldam")
    assert_refused(refused, "--loss", "ldam needs samples per class")


def test_losses_without_a_certificate_or_with_one_logit(run, tmp_path):
    words = ["--K", 4, "--n", 5, *WORDS, "--output", tmp_path / "point.npz", "--plot", tmp_path / "run.png"]
    code, out, err = run("solve", "--loss", "focal", "--parameter", "gamma=2", *words)
    assert code == 1
    assert "not certified" in out
    assert "lower bound" not in out
    assert "no certificate" in err
    code, out, _ = run("solve", "--loss", "focal", "--parameter", "gamma=2", "--json", *words)
    assert (code, json.loads(out)["lower_bound"]) == (1, None)
    code, out, err = run("solve", "--loss", "ordinal", "--parameter", "link=probit", *words)
    assert (code, err) == (0, "")
    assert "Neural collapse" not in out
    assert uf.load_point(tmp_path / "point.npz")[1].W.shape == (1, 4)
