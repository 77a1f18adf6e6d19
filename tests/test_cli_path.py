"""``ufm-fast path``: what it prints, writes, draws and goes on from; parsed and compared with closed forms."""

import csv
import json
import math

import numpy as np
import pytest
from rich.console import Console

import ufm_fast as uf
from refusals import assert_refused
from ufm_fast.cli import progress

SMALL = ["path", "--K", 6, "--n", 4, "--lambda-W", 1e-3, "--lambda-H", 1e-3]
ZERO = 1 / (6 * math.sqrt(4) * 1e-3)  # the factor of both decays from which zero is optimal


def path_json(run, *words):
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, ""), err
    return json.loads(out)


def test_rows_and_transition_of_balanced_classes(run):
    result = path_json(run, *SMALL, "--points", 7, "--locate", 1e-4)
    values = [row["value"] for row in result["rows"]]
    np.testing.assert_allclose(sorted(set(np.geomspace(1, 100, 7)) & set(values)), np.geomspace(1, 100, 7))
    for row in result["rows"]:
        t = 2e-3 * row["value"]
        p = 1 - 5 * t
        expected = math.log(6) if 6 * t >= 1 else -5 * t * math.log(t) - p * math.log(p)
        assert row["loss"] == pytest.approx(expected, rel=1e-9)
        assert row["certified"] is True
        assert row["rank"] == (5 if row["value"] < ZERO else 0)
    assert result["rows"][-1]["minority_cosine_mean"] is None
    (change,) = result["transitions"]
    assert change["value"] == pytest.approx(ZERO, rel=1e-4)
    assert (change["rank"], change["collapsed"]) == ([5, 0], [0, 6])
    config = result["config"]
    assert (config["over"], config["locate"], config["K"], config["n"]) == ("lambda", 1e-4, 6, [4] * 6)


def test_values_by_option(run):
    def values(*words):
        return [row["value"] for row in path_json(run, *SMALL, *words)["rows"]]

    assert values("--values", "1, 2,5") == [1, 2, 5]
    np.testing.assert_allclose(
        values("--over", "lambda_b", "--from", 1e-3, "--to", 0.1, "--points", 3), [1e-3, 1e-2, 0.1]
    )
    assert values("--over", "lambda_b", "--from", 0, "--to", 1, "--points", 3) == [0, 0.5, 1]
    assert values("--over", "weight_exponent", "--from", 1, "--to", 0.5, "--points", 2) == [1, 0.5]
    assert len(values()) == 21


def test_table_fits_a_terminal(run):
    code, out, err = run("path", "--counts", "cifar10-lt", "--to", 500, "--points", 3)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for word in ("Certified global minima", "lambda", "collapsed", "Transitions"):
        assert word in out


def test_files(run, tmp_path):
    words = [*SMALL, "--points", 3]
    result = path_json(run, *words, "--output", tmp_path / "path.csv")
    with (tmp_path / "path.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    for row, printed in zip(rows, result["rows"], strict=True):
        assert row.keys() == printed.keys()
        for name in ("value", "loss", "relative_gap", "norm_H"):
            assert float(row[name]) == printed[name]
        assert int(row["rank"]) == printed["rank"]
    code, _, _ = run(*words, "--output", tmp_path / "path.npz", "--plot", tmp_path / "path.png")
    assert code == 0
    with np.load(tmp_path / "path.npz") as archive:
        np.testing.assert_array_equal(archive["loss"], [row["loss"] for row in result["rows"]])
        np.testing.assert_array_equal(archive["transition_rank"], [[5, 0]])
        assert json.loads(str(archive["config"]))["over"] == "lambda"
    assert (tmp_path / "path.png").read_bytes().startswith(b"\x89PNG")


def test_checkpoint(run, tmp_path):
    file = tmp_path / "path.npz"
    words = [*SMALL, "--counts", "cifar10-lt", "--points", 2, "--over", "weight_exponent", "--from", 0, "--to", 1]
    words = ["path", *words[5:], "--checkpoint", file]
    first = run(*words, "--json")
    content = file.read_bytes()
    assert run(*words, "--json") == first
    assert file.read_bytes() == content
    assert_refused(run(*words, "--tol", 1e-6), "--checkpoint", "path.npz", "another tol")


def test_interruption_names_the_checkpoint(run, monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))
    solved = uf._landscape.path.minimize
    calls = []

    def stop(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solved(*arguments, **options)

    monkeypatch.setattr(uf._landscape.path, "minimize", stop)
    code, _, err = run(*SMALL, "--points", 5, "--checkpoint", tmp_path / "path.npz")
    assert code == 130
    assert "goes on from" in err
    calls.extend([None] * 3)
    code, _, err = run(*SMALL, "--points", 5, "--checkpoint", tmp_path / "path.npz")
    assert code == 0
    assert "5/5" in err
    assert len(calls) == 3 + 3 + 3


def test_rows_short_of_the_tolerance(run):
    code, out, err = run(*SMALL, "--d", 2, "--values", "1,2")
    assert code == 1
    assert "Certified" in out
    assert err == "ufm-fast: 2 of 2 rows are not certified\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--over", "gamma"], ["--over"]),
        (["--over", "lambda_W"], ["--from", "lambda_W"]),
        (["--values", "1,a"], ["--values", "a"]),
        (["--values", "1,3,2"], ["ascending"]),
        (["--values", "1", "--to", "2"], ["--values"]),
        (["--locate", "0"], ["locate"]),
        (["--over", "lambda_W", "--values", "-1"], ["lambda_W"]),
        (["--points", "0"], ["--points"]),
        (["--tol", "0"], ["--tol"]),
        (["--plot", "figure.bmp"], ["--plot"]),
        (["--output", "no/such/file"], ["--output"]),
        (["--loss", "mse", "--over", "shift_strength", "--values", "1"], ["cross-entropy"]),
    ],
    ids=" ".join,
)
def test_wrong_options_get_one_line(run, words, expected):
    assert_refused(run("path", *words), *expected)
