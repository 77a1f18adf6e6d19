"""``ufm-fast inspect``: files of every kind, and what it prints."""

import argparse
import functools
import json
import subprocess
import sys

import numpy as np
import pytest

import ufm_fast as uf
from networks import DECAYS, K, network
from refusals import assert_refused
from ufm_fast.plotting.inspection import plot_inspection


@pytest.fixture
def run(run):
    return functools.partial(run, "inspect")


@pytest.fixture
def arrays():
    found = network(noise=0.05)[1]
    return found | {"H": found["H"].astype(np.float32)}


def values(run, *words):
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def check(found, arrays, **decays):
    expected = uf.inspect(**arrays, **decays)
    assert found["metrics"]["nc1"] == expected.metrics.nc1
    assert found["metrics"]["nc4_agreement"] == expected.metrics.nc4_agreement
    assert found["loss"] == expected.loss
    assert found["relative_gap"] == expected.relative_gap
    assert found["decays"]["lambda_H"] == expected.decays.lambda_H


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(run, arrays, tmp_path, save):
    save(tmp_path / "features.npz", **arrays)
    check(values(run, tmp_path / "features.npz"), arrays)
    decays = ["--lambda-W", "5e-3", "--lambda-H", "2e-4", "--lambda-b", "1e-2"]
    check(values(run, tmp_path / "features.npz", *decays), arrays, **DECAYS)


def test_npy_files(run, arrays, tmp_path):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [tmp_path / f"{name}.npy" for name in arrays]
    check(values(run, *files), arrays)
    check(values(run, *files[:3]), arrays | {"b": None})


def test_safetensors(run, arrays, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"fc.weight": arrays["W"], "fc.bias": arrays["b"]}, tmp_path / "model.safetensors")
    np.savez(tmp_path / "data.npz", features=arrays["H"], y=arrays["labels"])
    names = ["--W", "fc.weight", "--b", "fc.bias", "--H", "features", "--labels", "y"]
    check(values(run, tmp_path / "model.safetensors", tmp_path / "data.npz", *names), arrays)


def test_pytorch(run, arrays, tmp_path):
    torch = pytest.importorskip("torch")
    state = {"fc.weight": torch.tensor(arrays["W"]), "fc.bias": torch.tensor(arrays["b"]), "epoch": 3}
    torch.save(state, tmp_path / "model.pt")
    torch.save({"H": torch.tensor(arrays["H"]), "labels": torch.tensor(arrays["labels"])}, tmp_path / "data.pth")
    files = tmp_path / "model.pt", tmp_path / "data.pth"
    check(values(run, *files, "--W", "fc.weight", "--b", "fc.bias"), arrays)


def test_labels_on_the_command_line(run, arrays, tmp_path):
    marked = {"H": np.concatenate([arrays["H"], arrays["H"][:9]]), "labels": np.append(arrays["labels"], [255] * 9)}
    np.savez(tmp_path / "marked.npz", **(arrays | marked))
    check(values(run, tmp_path / "marked.npz", "--ignore-index", 255), arrays)
    code, out, err = run(tmp_path / "marked.npz", "--json")
    assert (code, out) == (2, "")
    assert "sample 150 and 8 others have 255" in " ".join(err.split())
    names = np.array([7, 3, -2, 100, 8, 9])
    np.savez(tmp_path / "named.npz", **(arrays | {"labels": names[arrays["labels"]], "names": names}))
    check(values(run, tmp_path / "named.npz", "--classes", "names"), arrays)
    np.savez(tmp_path / "from_1.npz", **(arrays | {"labels": arrays["labels"] + 1}))
    code, out, err = run(tmp_path / "from_1.npz", "--json")
    assert code == 0
    assert "labels go from 1 to 6" in err
    check(json.loads(out), arrays)


def test_table_and_figure(run, arrays, tmp_path):
    np.savez(tmp_path / "features.npz", **arrays)
    code, out, err = run(tmp_path / "features.npz", "--plot", tmp_path / "figure.png", "--no-solve")
    assert (code, err) == (0, "")
    for text in ("nc1", "nc4_agreement", "lambda_H", "lowest eigenvalue"):
        assert text in out
    assert f"W:Win{tmp_path / 'features.npz'}" in "".join(out.split())  # a long path is broken into lines
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_undefined_metrics_are_null_and_explained(run, arrays, tmp_path):
    first = [np.flatnonzero(arrays["labels"] == k)[0] for k in range(K)]
    np.savez(tmp_path / "few.npz", **(arrays | {"H": arrays["H"][first], "labels": arrays["labels"][first]}))
    code, out, err = run(tmp_path / "few.npz", "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["nc1"] is None
    assert "one sample" in err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.npz": ["W", "H"]},
            "no array labels in the files, but W (6, 9), H (150, 9); --labels NAME says which it is",
        ),
        ({"a.txt": None}, "must be a file of one of these kinds: .npy, .npz, .safetensors"),
        ({"b.npz": None}, "must be an .npz archive"),
        ({}, "a.npz"),
    ],
)
def test_refusals(run, arrays, tmp_path, files, message):
    for name, wanted in files.items():
        if wanted is None:
            (tmp_path / name).write_text("text")
        else:
            np.savez(tmp_path / name, **{array: arrays[array] for array in wanted})
    assert_refused(run(tmp_path / next(iter(files), "a.npz")), message)


def test_classifiers_in_checkpoints(run, arrays, tmp_path):
    torch = pytest.importorskip("torch")
    state = {"module.fc.weight": torch.tensor(arrays["W"]), "module.fc.bias": torch.tensor(arrays["b"])}
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=np.float64(0.1))}, tmp_path / "model.pt")
    torch.save(torch.tensor(arrays["H"]), tmp_path / "H.pt")
    np.save(tmp_path / "labels.npy", arrays["labels"])
    data = tmp_path / "H.pt", tmp_path / "labels.npy"
    for words in (
        (*data, tmp_path / "model.pt", "--weight-name", "module.fc.weight"),
        (*data, "--W", f"{tmp_path / 'model.pt'}:fc.weight"),
        ("--H", data[0], "--labels", data[1], "--W", f"{tmp_path / 'model.pt'}:state_dict.module.fc.weight"),
    ):
        found = values(run, *words)
        check(found, arrays)
        assert found["arrays"]["b"] == f"state_dict.module.fc.bias in {tmp_path / 'model.pt'}"
    code, out, err = run(*data, tmp_path / "model.pt", "--json")
    assert (code, out) == (2, "")
    assert "no array W in the files, but" in err
    assert "state_dict.module.fc.weight (6, 9)" in err


def test_vectors_and_labels_of_matlab(run, arrays, tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "x.mat", arrays | {"labels": arrays["labels"][:, None] + 1.0, "b": arrays["b"][None]})
    code, out, err = run(tmp_path / "x.mat", "--json")
    assert (code, err.count("\n")) == (0, 1)
    assert "labels go from 1 to 6" in err
    check(json.loads(out), arrays)
    savemat(tmp_path / "x.mat", arrays | {"labels": arrays["labels"] + 0.5})
    assert_refused(run(tmp_path / "x.mat", "--json"), "labels must be integers", "labels is labels in", "x.mat")


def test_tables(run, arrays, tmp_path):
    pa = pytest.importorskip("pyarrow")
    columns = {f"f{k}": arrays["H"][:, k] for k in range(9)} | {"labels": arrays["labels"]}
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), tmp_path / "x.parquet")
    np.savez(tmp_path / "model.npz", W=arrays["W"], b=arrays["b"])
    check(values(run, tmp_path / "x.parquet", tmp_path / "model.npz", "--H", "f*"), arrays)


def test_parts(run, arrays, tmp_path):
    paths = [tmp_path / f"part{i}.npz" for i in range(3)]
    classifier = {"W": arrays["W"], "b": arrays["b"]}
    for path, first, last in zip(paths, [0, 40, 41], [40, 41, 150], strict=True):
        np.savez(path, **classifier, **{name: arrays[name][first:last] for name in ("H", "labels")})
    found = values(run, *paths)
    check(found, arrays)
    assert found["arrays"]["H"] == f"H in {paths[0]} and 2 more"
    assert_refused(run(paths[0], f"{tmp_path}/./part0.npz"), f"{paths[0]} is given twice")
    check(values(run, *paths, "--W", f"{tmp_path}/../{tmp_path.name}/part0.npz:W"), arrays)
    np.savez(tmp_path / "all.npz", **arrays)  # of which the features are not asked for
    check(values(run, *paths, "--W", f"{tmp_path / 'all.npz'}:W", "--b", f"{paths[2]}:b"), arrays)
    assert_refused(run(), "there must be a FILE")
    rest = {name: arrays[name][40:41] for name in ("H", "labels")}
    np.savez(paths[1], **(classifier | rest | {"W": arrays["W"] + 1}))
    assert_refused(run(*paths), f"W in {paths[0]} and W in {paths[1]} must be the same")
    np.savez(paths[1], **(rest | {"H": arrays["H"][40:42]}))
    assert_refused(run(*paths), f"H in {paths[1]} has 2 rows, but labels in {paths[1]} has 1")


@pytest.mark.parametrize("name", ["W", "H", "labels", "b"])
@pytest.mark.parametrize("value", [np.array(3), np.zeros((4, 3), complex), np.full((4, 3), "text")])
def test_what_is_no_array_of_numbers(run, arrays, tmp_path, name, value):
    np.savez(tmp_path / "x.npz", **(arrays | {name: value}))
    assert_refused(run(tmp_path / "x.npz", "--lambda-W", 1, "--json"), name, "must ", str(tmp_path / "x.npz"))


def test_samples_left_out_and_missing_classes(run, arrays, tmp_path):
    labels = arrays["labels"].copy()
    labels[:7], labels[7:12] = -100, 255
    np.savez(tmp_path / "x.npz", **(arrays | {"labels": labels}))
    both = ["--metrics-only", "--ignore-index", -100, "--ignore-index", 255]
    found = values(run, tmp_path / "x.npz", *both)["metrics"]
    assert found["nc1"] == uf.nc_metrics(arrays["W"], arrays["H"][12:], labels[12:], arrays["b"]).nc1
    assert (found["left_out"], found["missing"]) == (12, [])
    kept = arrays["labels"] != 2
    np.savez(tmp_path / "x.npz", **(arrays | {"H": arrays["H"][kept], "labels": arrays["labels"][kept]}))
    code, out, _ = run(tmp_path / "x.npz", "--metrics-only", "--json", "--plot", tmp_path / "x.png")
    assert code == 0
    assert json.loads(out)["metrics"]["missing"] == [2]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "labels without samples: 2" in run(tmp_path / "x.npz", "--metrics-only")[1]


def test_features_without_a_classifier(run, arrays, tmp_path):
    np.savez(tmp_path / "x.npz", layer=arrays["H"], labels=arrays["labels"])
    words = [tmp_path / "x.npz", "--H", "layer", "--metrics-only"]
    found = values(run, *words)
    assert found["arrays"].keys() == {"H", "labels"}
    assert found["metrics"]["cdnv"] == uf.nc_metrics(None, arrays["H"], arrays["labels"]).cdnv
    assert found["metrics"]["nc2_W"] is None
    code, out, err = run(*words, "--plot", tmp_path / "x.png")
    assert (code, err) == (0, "")
    assert "nc1" in out
    assert_refused(run(*words, "--W", "fc.weight"), "no array fc.weight")
    assert_refused(run(*words, "--output", tmp_path / "x.csv"), "--output", "--every-epoch")


def test_no_comparison_with_a_model(run, arrays, tmp_path):
    np.savez(tmp_path / "x.npz", **(arrays | {"W": -arrays["W"]}))
    code, out, err = run(tmp_path / "x.npz", "--json")
    found = json.loads(out)
    assert (code, found["loss"], found["class_means"]) == (0, None, None)
    assert found["metrics"]["nc1"] == uf.nc_metrics(-arrays["W"], arrays["H"], arrays["labels"]).nc1
    assert found["reason"] in err
    code, out, _ = run(tmp_path / "x.npz")
    assert code == 0
    assert "not compared" in out


def test_figures_of_metrics_alone():
    found = network(noise=0.05)[1]
    kept = found["labels"] != 2
    with pytest.warns(RuntimeWarning, match="no samples"):
        m = uf.nc_metrics(found["W"], found["H"][kept], found["labels"][kept])
    of_W, of_means, _, cosines, _ = plot_inspection(found["W"], m).axes
    centred = m.class_means - m.global_mean
    unit = centred / np.linalg.norm(centred, axis=1)[:, None]
    np.testing.assert_allclose(np.ma.filled(of_means.images[0].get_array(), np.nan), unit @ unit.T, atol=1e-14)
    assert np.isfinite(of_W.images[0].get_array()).all()
    (guide,) = cosines.lines
    assert guide.get_xdata()[0] == -1 / (K - 2)
    assert plot_inspection(None, m).axes[0].get_title() == "no W"


MEMORY = """
import sys
from ufm_fast.cli import main
main(["inspect", "--no-solve", *sys.argv[1:], "--json"])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    d, peaks = 256, {}
    rng = np.random.default_rng(0)
    np.save(tmp_path / "W.npy", rng.standard_normal((K, d)))
    for N in (10_000, 60_000):
        labels = np.arange(N) % K
        np.save(tmp_path / "labels.npy", labels)
        H = np.lib.format.open_memmap(tmp_path / "H.npy", mode="w+", dtype=np.float32, shape=(N, d))
        for first in range(0, N, 10_000):
            H[first : first + 10_000] = rng.standard_normal((10_000, d), dtype=np.float32)
        H.flush()
        del H
        files = [str(tmp_path / f"{name}.npy") for name in ("W", "H", "labels")]
        command = [sys.executable, "-c", MEMORY, *files, "--lambda-W", "1e-3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        peaks[N] = int(done.stderr.split()[-1]) / 1024
    assert peaks[60_000] < peaks[10_000] + 20  # MiB; the files differ by 49
    assert peaks[60_000] < 500
