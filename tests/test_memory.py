"""Work that needs more memory than there is is refused before it begins."""

import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._runtime import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def small_machine(monkeypatch):
    """A machine with half a MiB."""
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**19)
    monkeypatch.setattr(memory, "_SMALL", 0)


def model(K=100, **options):
    options = {"n": np.arange(5, 5 + K), "lambda_W": 1e-4, "lambda_H": 1e-6} | options
    return uf.UFM(K, K, **options)


def origin(ufm):
    return ufm.unpack(np.zeros(ufm.size))


CALLS = {
    "minimize": uf.minimize,
    "global_minimum": lambda ufm: uf.global_minimum(model(weights=np.full(100, 2.0))),  # without: nodes, which are few
    "certify": lambda ufm: uf.certify(ufm, origin(ufm)),
    "classify": lambda ufm: uf.classify(ufm, origin(ufm)),
    "lowest_eigenpairs": lambda ufm: uf.lowest_eigenpairs(ufm, origin(ufm)),
    "saddle": lambda ufm: uf.saddle(ufm, 2),
    "spectrum": lambda ufm: uf.spectrum(ufm, origin(ufm)),
    "expand": lambda ufm: ufm.expand(origin(ufm)),
    "path": lambda ufm: uf.path(ufm, [1, 2, 3, 4], "lambda", keep_points=True),
    "census": lambda ufm: uf.census(ufm, 2),
}
OTHERS = {
    "minimize with W fixed": ("minimize", lambda ufm, p: uf.minimize(ufm, p, fixed="W")),
    "minimize with H fixed": ("minimize", lambda ufm, p: uf.minimize(ufm, p, fixed="H")),
    "closed form": ("global_minimum", lambda *_: uf.global_minimum(model(loss="mse", bias=False))),
    "random point": ("random_point", lambda *_: model(K=200).random_point()),
    "symmetric point": ("point", lambda *_: uf.global_minimum(model(K=200, n=20)).point),
    "interpolated point": ("point", lambda *_: uf.global_minimum(model(K=200, lambda_W=1e-7)).point),
    "escape": ("escape", uf.escape),
}


@pytest.mark.parametrize("name", CALLS)
def test_sizes_are_named(small_machine, name):
    with pytest.raises(MemoryError, match=rf"^{name} needs about [0-9.]+ GiB .*K = 100.* 0.000488") as refusal:
        CALLS[name](model())
    needed = float(re.search(r"about ([0-9.]+) GiB", str(refusal.value))[1])
    assert 3 * 8 * 100**2 / 2**30 <= needed <= 300 * 8 * 100**2 / 2**30


@pytest.mark.parametrize(("function", "call"), OTHERS.values(), ids=OTHERS)
def test_every_way_through_a_function_asks_first(small_machine, function, call):
    with pytest.raises(MemoryError, match=f"^{function} needs about [0-9.]+ GiB"):
        call(model(), origin(model()))


def test_runs_at_a_time_count(monkeypatch):
    """One descent has the memory that it needs, three at a time have not."""
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**23)
    monkeypatch.setattr(memory, "_SMALL", 0)
    assert len(uf.census(model(), 2).records) == 2
    with pytest.raises(
        MemoryError, match=r"^census needs about 0\.0134 GiB .* 0\.00781 are available: 3 runs at a time"
    ):
        uf.census(model(), 3, workers=3)


def test_what_fits_is_done(small_machine):
    assert uf.minimize(model(K=20)).success
    assert uf.global_minimum(model(K=1000, n=20)).certificate.is_global()  # one group, whatever K is


def test_a_point_that_no_machine_holds():
    """A million classes with a million features: 16 TB for the point alone."""
    with pytest.raises(MemoryError, match="K = 1000000, M = 1000000, d = 1000000"):
        uf.minimize(uf.UFM(10**6, 10**6, 10, lambda_W=1e-4, lambda_H=1e-6))


def test_what_is_available_is_less_than_the_machine_has():
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    assert 2**26 < memory.available_memory() <= pages * 4096 * 16


@linux
def test_memory_that_others_use_is_not_available(monkeypatch, tmp_path):
    text = Path("/proc/meminfo").read_text()
    (tmp_path / "meminfo").write_text(re.sub(r"(?<=MemAvailable:).*", "  2048 kB", text))
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert memory.available_memory() == 2**21


@linux
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process_counts_less_what_it_uses(name, run_python):
    script = f"""
import resource
import numpy as np
from ufm_fast._runtime.memory import available_memory, require_memory
resource.setrlimit(resource.{name}, (3 << 30, resource.RLIM_INFINITY))
before = available_memory()
held = np.ones(1 << 26)
print(before < 3 << 30, abs(before - available_memory() - held.nbytes) < 1 << 20)
np.empty(int(0.99 * available_memory()) // 8)
print(available_memory() / 2**30)
try:
    require_memory("f", available_memory() / 4, K=1)
except MemoryError as error:
    print(error)
"""
    sums, available, refusal = run_python(script).splitlines()
    assert sums == "True True"
    told = re.fullmatch(r"f needs about (.+) GiB of memory for K = 1; (.+) are available", refusal)
    assert [float(number) for number in told.groups()] == pytest.approx([2 * float(available), float(available)], 0.01)


def test_memory_to_spare(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**30)
    assert memory.spare_memory() == 2**28
    assert memory.spares(2**28)
    assert not memory.spares(2**28 + 1)
    monkeypatch.setattr(memory, "available_memory", lambda: math.inf)
    assert memory.spare_memory() == 2**30
