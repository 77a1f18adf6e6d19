"""``ufm-fast inspect --every-epoch``: a row a checkpoint, whatever files it consists of."""

import csv
import functools
import json

import numpy as np
import pytest

import ufm_fast as uf
from networks import K, network
from refusals import assert_refused
from ufm_fast.cli.files import write_table
from ufm_fast.plotting.epochs import plot_epochs

NAMES = ["epoch_1.npz", "epoch_2.npz", "epoch_10"]


@pytest.fixture
def run(run):
    return functools.partial(run, "inspect")


@pytest.fixture
def checkpoints(tmp_path):
    """Save checkpoints 1, 2, 10, the last as a folder of files, labels apart; return the folder and the arrays."""
    folder = tmp_path / "run"
    (folder / "epoch_10").mkdir(parents=True)
    found = {epoch: network(noise=0.3 / epoch)[1] for epoch in (1, 2, 10)}
    labels = [arrays.pop("labels") for arrays in found.values()]
    np.save(tmp_path / "labels.npy", labels[0])
    for epoch in (1, 2):
        np.savez(folder / f"epoch_{epoch}.npz", **found[epoch])
    for name, array in found[10].items():
        np.save(folder / "epoch_10" / f"{name}.npy", array)
    (folder / "notes.txt").write_text("text")
    return folder, [arrays | {"labels": labels[0]} for arrays in found.values()]


def test_every_epoch(run, checkpoints, tmp_path):
    folder, found = checkpoints
    words = ["--every-epoch", folder, tmp_path / "labels.npy", "--lambda-W", 5e-3, "--lambda-H", 2e-4, "--no-solve"]
    code, out, err = run(*words, "--json", "--output", tmp_path / "x.csv", "--plot", tmp_path / "x.png")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["checkpoint"] for row in rows] == NAMES
    for row, arrays in zip(rows, found, strict=True):
        expected = uf.inspect(**arrays, lambda_W=5e-3, lambda_H=2e-4, solve=False)
        assert row["nc1"] == expected.metrics.nc1
        assert row["relative_gap"] == expected.relative_gap
    table = np.genfromtxt(tmp_path / "x.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert table["checkpoint"].tolist() == NAMES
    np.testing.assert_array_equal(table["loss"], [row["loss"] for row in rows])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = run(*words, "--output", tmp_path / "x.npz")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if "epoch" in line] == NAMES
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["nc3_product"], [row["nc3_product"] for row in rows])


def test_a_checkpoint_that_cannot_be_read(run, checkpoints, tmp_path):
    folder, _ = checkpoints
    content = (folder / "epoch_2.npz").read_bytes()
    (folder / "epoch_2.npz").write_bytes(content[:300])
    words = ["--every-epoch", folder, tmp_path / "labels.npy", "--metrics-only"]
    code, out, err = run(*words, "--json", "--plot", tmp_path / "x.png")
    assert code == 2
    rows = [json.loads(line) for line in out.splitlines()]
    assert ["error" in row for row in rows] == [False, True, False]
    assert err == f"ufm-fast: epoch_2.npz: {rows[1]['error']}\n"
    assert str(folder / "epoch_2.npz") in err
    code, out, _ = run(*words)
    assert code == 2
    assert [line.split()[1] == "failed" for line in out.splitlines() if "epoch" in line] == [False, True, False]


def test_nothing_to_report(run, checkpoints, tmp_path):
    folder, _ = checkpoints
    assert_refused(run("--every-epoch", folder), "none of 3 checkpoints", "no array labels")
    assert_refused(run("--every-epoch", tmp_path / "none"), "--every-epoch", "none")
    (tmp_path / "empty").mkdir()
    assert_refused(run("--every-epoch", tmp_path / "empty"), "there is no checkpoint in")


def test_figure():
    rows = np.zeros(3, [("checkpoint", "U9"), *((name, float) for name in ("K", "missing", "nc1", "nc4_agreement"))])
    rows["checkpoint"] = ["step-5.pt", "step-7.pt", "step-90.pt"]
    rows["K"], rows["nc1"], rows["nc4_agreement"] = K, [1, np.nan, 0.1], np.nan
    nc1, nc2, cosines, _, nc4, _ = plot_epochs(rows).axes
    np.testing.assert_array_equal(nc1.lines[0].get_xydata(), np.stack([[5, 7, 90], rows["nc1"]], axis=1))
    np.testing.assert_array_equal(cosines.lines[0].get_ydata(), -1 / (K - 1))
    assert [axes.texts[0].get_text() for axes in (nc2, nc4)] == ["no numbers"] * 2
    rows["checkpoint"][0] = "last.pt"
    np.testing.assert_array_equal(plot_epochs(rows).axes[0].lines[0].get_xdata(), [0, 1, 2])


def test_names_with_commas_and_quotes_stay_one_cell(tmp_path):
    names = ["a,b.npz", 'say "a".npz', "two\nlines", "plain"]
    rows = np.array([(name, 0.1, 3) for name in names], [("checkpoint", "U16"), ("nc1", float), ("left, out", int)])
    write_table(tmp_path / "x.csv", rows)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert found == [{"checkpoint": name, "nc1": "0.1", "left, out": "3"} for name in names]
