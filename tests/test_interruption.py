"""Ctrl-C ends what takes long, at once: also where LAPACK, which looks at no signals, is at work."""

import re
import sys
from pathlib import Path

import pytest

import ufm_fast
from test_cli_process import finished

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

# A factorisation that never ends, and is hit by Ctrl-C.
ENDLESS = """
import os, signal, sys, threading, time
from functools import partial
import numpy as np
from ufm_fast._runtime import linalg
from ufm_fast._runtime.helpers import helpers_at_work
from ufm_fast._runtime.threads import concurrently
release = threading.Event()

def endless(matrix, *_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    release.wait()
    return matrix

linalg._LONG = 0
"""


def test_the_wait_for_a_factorisation_ends(run_python):
    script = """
try:
    linalg.interruptible(endless)(np.eye(3))
except KeyboardInterrupt:
    print("interrupted", helpers_at_work())
release.set()
"""
    assert run_python(ENDLESS + script) == "interrupted True\n"


def test_the_wait_for_a_thread_that_helps_ends(run_python):
    script = """
started, calls = threading.Event(), []

def own():
    if threading.current_thread() is threading.main_thread():
        started.wait()
    else:
        started.set()
        endless(None)

try:
    concurrently([own, own, partial(calls.append, 1)], 2)
except KeyboardInterrupt:
    print("interrupted", helpers_at_work())
release.set()
while helpers_at_work():
    time.sleep(0.01)
print(calls in ([], [1]))
"""
    assert run_python(ENDLESS + script) == "interrupted True\nTrue\n"


def test_the_program_ends(tmp_path):
    """Without waiting for the factorisation; its checkpoint is there."""
    script = """
from ufm_fast.cli import main
linalg.svd = linalg.interruptible(endless)
sys.exit(main(sys.argv[1:]))
"""
    path = tmp_path / "run.npz"
    words = [
        "solve",
        "--K",
        "30",
        "--d",
        "30",
        "--loss",
        "mse",
        "--start",
        "random",
        "--json",
        "--checkpoint",
        str(path),
    ]
    code, out, err = finished([sys.executable, "-c", ENDLESS + script, *words])
    assert (code, out) == (130, "")
    assert err.startswith("ufm-fast: interrupted")
    assert err.count("\n") == 1


def test_a_large_product_is_left_halfway(run_python):
    script = """
import signal
import numpy as np
from ufm_fast._runtime.blas import product, single_threaded_blas

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, stop)
X, out = np.ones((3000, 3000)), np.full((3000, 3000), np.nan)
try:
    with single_threaded_blas():
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        product(X, X, 1, out)
except KeyboardInterrupt:
    print("interrupted", bool(np.isnan(out[-1]).all()))
"""
    assert run_python(script) == "interrupted True\n"


def test_a_model_is_as_before_after_an_interruption(run_python):
    """At many moments of many calls, from a timer; each call is then made once more, to the end."""
    script = """
import itertools, signal, warnings
import numpy as np
import ufm_fast as uf
from ufm_fast._runtime import linalg
from ufm_fast._runtime.blas import single_threaded_blas
linalg._LONG = 0
warnings.simplefilter("ignore")

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, stop)
ufm = uf.UFM(40, 40, np.arange(5, 45), lambda_W=1e-3, lambda_H=1e-5, lambda_b=1e-2)
p = ufm.random_point(0)
rng = np.random.default_rng(0)
y = np.arange(4000) % 40
W, H = p.W, rng.standard_normal((4000, 40))
calls = {
    "minimize": lambda: uf.minimize(ufm, p, max_evaluations=50).fun,
    "certify": lambda: uf.certify(ufm, p).lower_bound,
    "classify": lambda: uf.classify(ufm, p).gradient_norm,
    "global_minimum": lambda: uf.global_minimum(ufm).value,
    "lowest_eigenpairs": lambda: uf.lowest_eigenpairs(ufm, p).eigenvalues[0],
    "spectrum": lambda: uf.spectrum(ufm, p).nodes[0],
    "saddle": lambda: uf.saddle(ufm, 3).W[0, 0],
    "nc_metrics": lambda: uf.nc_metrics(W, H, y).nc1,
    "inspect": lambda: uf.inspect(W, H, y, lambda_W=1e-3, lambda_H=1e-5).lower_bound,
    "linear_cross_entropy": lambda: uf.linear_cross_entropy(W, H, y)[0],
}
interrupted = 0
for name, call in calls.items():
    expected = call()
    for delay in np.geomspace(1e-4, 0.2, 12):
        try:  # around all of it, for the alarm may come while it is called off
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                found = call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
    assert call() == expected, name
print(interrupted > 20)
"""
    assert run_python(script) == "True\n"


def test_all_factorisations_can_be_interrupted():
    """The package calls NumPy's and SciPy's in one module only. (SciPy's dsysv holds the interpreter's lock.)"""
    factorisation = re.compile(r"\b(np|numpy|scipy)\.linalg\.(eig\w*|svd\w*|qr\b|cholesky|solve\b|norm\(.*, 2\))")
    package = Path(ufm_fast.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.parts[-2:] != ("_runtime", "linalg.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if factorisation.search(line) and ">>>" not in line
    ]
    assert found == []
