"""Memory, interruption and forks, each in a process of its own."""

import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and forks")

MEMORY = """
import numpy as np
import ufm_fast as uf

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

K = M = 20_000
ufm = uf.UFM(K, 64, lambda_W=1e-4, lambda_H=1e-4, dtype="float32", threads=2)
p = uf.Point(np.full((K, 64), 0.01, "f"), np.full((M, 64), 0.02, "f"), np.zeros(K, "f"))
small = uf.UFM(300, 64, lambda_W=1e-4, lambda_H=1e-4, dtype="float32", threads=2)
small.loss(small.random_point())  # loads BLAS
before = status("VmRSS")
result = {call}
outputs = sum(part.nbytes for part in result) / 2**20
print(status("VmHWM") - before - outputs)
"""


@linux
@pytest.mark.parametrize("call", ["ufm.loss_and_grad(p)[1]", "ufm.hvp(p, p)"])
def test_no_array_of_logits_exists(call, run_python):
    # The logits alone would take 1526 MB.
    assert float(run_python(MEMORY.replace("{call}", call))) < 150


SPARE = """
import numpy as np
import ufm_fast as uf

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

def gradient(d):
    ufm = uf.UFM(200, d, lambda_W=1e-4, lambda_H=1e-4, threads=1)
    return ufm.loss_and_grad(ufm.random_point())[1]

gradient(100)
before = resident()
for step in range(40):
    gradient(8000 + 100 * step)
print(resident() - before)
"""


@linux
def test_memory_that_is_kept_for_later_calls_is_bounded(run_python):
    # 40 different sizes whose results alone, 30 MiB each, are 1200 MiB together.
    assert float(run_python(SPARE)) < 300


INTERRUPTION = """
import signal
import time
import threadpoolctl
import ufm_fast as uf

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

def blas_threads():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

ufm = uf.UFM(2000, 500, 4, lambda_W=1e-4, lambda_H=1e-4, collapse=False)
p = ufm.random_point()
warm = uf.UFM(300, 64, lambda_W=1e-4, lambda_H=1e-4)
warm.loss(warm.random_point())
before = blas_threads()
start = time.perf_counter()
ufm.hvp(p, p)
whole = time.perf_counter() - start
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, whole / 20)
start = time.perf_counter()
try:
    ufm.hvp(p, p)
except Stop:
    print("stopped", time.perf_counter() - start < whole / 2, blas_threads() == before)
"""


@posix
def test_a_signal_stops_a_call_halfway_and_leaves_blas_as_it_was(run_python):
    assert run_python(INTERRUPTION) == "stopped True True\n"


FORK = """
import os
import warnings
import ufm_fast as uf

warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
ufm = uf.UFM(200, 100, lambda_W=1e-4, lambda_H=1e-4, threads=3)
p = ufm.random_point()
expected = ufm.loss(p)
child = os.fork()
if child == 0:
    os._exit(0 if ufm.loss(p) == expected else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@posix
def test_a_forked_child_can_compute(run_python):
    assert run_python(FORK) == "0\n"
