"""minimize from a checkpoint: killed, interrupted and out of evaluations, against the run that nothing stopped."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._optimize import checkpoint as checkpoints

COUNTS = np.round(np.geomspace(500, 5, 40)).astype(int)


def model(d=40, **options):
    return uf.UFM(40, d, COUNTS, **{"lambda_W": 5e-4, "lambda_H": 5e-6, "lambda_b": 1e-2, **options})


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)


def assert_same(found, expected):
    for part, other in zip(found.point, expected.point, strict=True):
        np.testing.assert_array_equal(part, other)
    assert found.certificate == expected.certificate
    for name in ("status", "nfev", "nit", "escapes", "products", "message"):
        assert found[name] == expected[name], name
    np.testing.assert_array_equal(found.ends, expected.ends)
    for name, values in expected.history.items():
        if name != "seconds":
            np.testing.assert_array_equal(found.history[name], values)
    assert np.all(np.diff(found.history["seconds"]) >= 0)


class Stop(Exception):
    """Anything that ends a run from outside."""


def interrupted(ufm, x0, path, evaluations, **options):
    """Run until so many evaluations, then leave as a KeyboardInterrupt would."""

    def stop(intermediate_result):
        if intermediate_result.nfev >= evaluations:
            raise Stop

    with pytest.raises(Stop):
        uf.minimize(ufm, x0, checkpoint=path, callback=stop, **options)
    assert path.exists()


CASES = {
    "own start": (uf.UFM(130, 130, range(1, 131), lambda_W=2e-3, lambda_H=5e-5), None, {"tol": 1e-12}, (1, 3)),
    "random start": (model(), "random", {}, (1, 3, 8)),
    "zero, free bias": (model(lambda_b=0.0), "zero", {}, (2, 8)),
    "squared error, fitted columns": (model(39, loss="mse"), None, {}, (1, 2)),
    "wide": (model(150), "random", {}, (5,)),
    "saddle of full rank": (
        uf.UFM(10, 9, 100, loss="mse", lambda_W=5e-4, lambda_H=5e-6, lambda_b=1e-2),
        "saddle",
        {},
        (1, 20, 40),
    ),
    "restarts": (uf.UFM(10, 2, 20, lambda_W=5e-3, lambda_H=5e-4, lambda_b=1e-2), None, {"restarts": 1}, (20, 100)),
    "row a sample": (uf.UFM(4, 4, [6, 3, 2, 1], lambda_W=5e-3, lambda_H=2e-3, collapse=False), "random", {}, (5,)),
}


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
@pytest.mark.parametrize(("ufm", "start", "options", "stops"), CASES.values(), ids=CASES.keys())
def test_interrupted_again_and_again(ufm, start, options, stops, tmp_path):
    x0 = {
        None: lambda: None,
        "random": lambda: ufm.random_point(1),
        "zero": lambda: ufm.unpack(np.zeros(ufm.size)),
        "saddle": lambda: uf.saddle(ufm, 8),
    }[start]()
    expected = uf.minimize(ufm, x0, **options)
    path = tmp_path / "run.npz"
    for evaluations in stops:
        interrupted(ufm, x0, path, evaluations, **options)
    assert_same(uf.minimize(ufm, x0, checkpoint=path, **options), expected)
    assert_same(uf.minimize(ufm, x0, checkpoint=path, **options), expected)  # nothing left to do
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_killed(tmp_path):
    path = tmp_path / "run.npz"
    ufm = uf.UFM(100, 100, np.arange(1, 101), lambda_W=3e-3, lambda_H=3e-4, lambda_b=1e-2)
    expected = uf.minimize(ufm, ufm.random_point(0))
    script = f"""
import numpy as np, ufm_fast as uf
from ufm_fast._optimize import checkpoint
checkpoint.INTERVAL = 0.0
ufm = uf.UFM(100, 100, np.arange(1, 101), lambda_W=3e-3, lambda_H=3e-4, lambda_b=1e-2)
uf.minimize(ufm, ufm.random_point(0), checkpoint={str(path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    written = set()
    while len(written) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        if path.exists():
            written.add(path.stat().st_mtime_ns)
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(checkpoints.Checkpoint(path, header_of(path)).content["rows"]) < expected.nit
    assert_same(uf.minimize(ufm, ufm.random_point(0), checkpoint=path), expected)


def header_of(path):
    import json

    with np.load(path) as archive:
        return json.loads(str(archive["checkpoint"]))


@pytest.mark.filterwarnings("ignore::ufm_fast.ConvergenceWarning")
def test_more_evaluations(tmp_path):
    ufm, path = model(), tmp_path / "run.npz"
    expected = uf.minimize(ufm, ufm.random_point(1))
    for limit in (7, 30, 31, 10_000):
        found = uf.minimize(ufm, ufm.random_point(1), checkpoint=path, max_evaluations=limit)
        assert found.nfev <= limit
    assert_same(found, expected)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    ufm, path = model(), tmp_path / "run.npz"
    uf.minimize(ufm, checkpoint=path)
    before = path.read_bytes()
    for other, x0, options, what in (
        (model(lambda_b=1e-3), None, {}, "model"),
        (ufm, ufm.random_point(0), {}, "start"),
        (ufm, None, {"tol": 1e-9}, "tol"),
        (ufm, None, {"seed": 1, "restarts": 2}, "restarts, seed"),
    ):
        with pytest.raises(ValueError, match=f"another {what}; give the same"):
            uf.minimize(other, x0, checkpoint=path, **options)
    assert path.read_bytes() == before
    uf.save_point(path, ufm, ufm.random_point(0))
    with pytest.raises(ValueError, match="not a checkpoint"):
        uf.minimize(ufm, checkpoint=path)
    path.write_text("something else")
    with pytest.raises(ValueError, match=r"run\.npz: it must be an \.npz archive"):
        uf.minimize(ufm, checkpoint=path)
    with pytest.raises(OSError, match="nowhere"):
        uf.minimize(ufm, checkpoint=tmp_path / "nowhere" / "run.npz")
