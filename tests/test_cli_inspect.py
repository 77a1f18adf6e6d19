"""``ufm-fast inspect``: files of every kind, and what it prints."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest

import ufm_fast as uf
from networks import DECAYS, K, network
from refusals import assert_refused


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
    for text in ("NC1", "NC4", "lambda_H", "lowest eigenvalue"):
        assert text in out
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
        ({"a.npz": ["W", "H"]}, "no array labels"),
        ({"a.txt": None}, "must be a .npy, .npz, .safetensors, .pt or .pth file"),
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
