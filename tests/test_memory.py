"""Work that needs more memory than the machine has is refused before it begins."""

import re

import numpy as np
import pytest

import ufm_fast as uf
from ufm_fast._runtime import memory


@pytest.fixture
def small_machine(monkeypatch):
    """A machine of half a MiB."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 2.0**19)


def model(K=100, **options):
    options = {"n": np.arange(5, 5 + K), "lambda_W": 1e-4, "lambda_H": 1e-6} | options
    return uf.UFM(K, K, **options)


CALLS = {
    "minimize": uf.minimize,
    "global_minimum": lambda ufm: uf.global_minimum(model(weights=np.full(100, 2.0))),  # without: nodes, which are few
    "certify": lambda ufm: uf.certify(ufm, ufm.random_point(0)),
    "classify": lambda ufm: uf.classify(ufm, ufm.random_point(0)),
    "lowest_eigenpairs": lambda ufm: uf.lowest_eigenpairs(ufm, ufm.random_point(0)),
    "saddle": lambda ufm: uf.saddle(ufm, 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_sizes_are_named(small_machine, name):
    with pytest.raises(MemoryError, match=rf"{name} needs about [0-9.]+ GiB .*K = 100.* 0.000488") as refusal:
        CALLS[name](model())
    needed = float(re.search(r"about ([0-9.]+) GiB", str(refusal.value))[1])
    assert 3 * 8 * 100**2 / 2**30 <= needed <= 300 * 8 * 100**2 / 2**30


def test_what_fits_is_done(small_machine):
    assert uf.minimize(model(K=20)).success
    assert uf.global_minimum(model(K=1000, n=20)).certificate.is_global()  # one group, whatever K is


def test_a_point_that_no_machine_holds():
    """A million classes with a million features: 16 TB for the point alone."""
    with pytest.raises(MemoryError, match="K = 1000000, M = 1000000, d = 1000000"):
        uf.minimize(uf.UFM(10**6, 10**6, 10, lambda_W=1e-4, lambda_H=1e-6))


def test_the_machine_has_some():
    assert memory.machine_memory() > 2**26


def test_a_limit_of_the_control_group_counts(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (str(limit),))
    physical = memory.machine_memory()
    limit.write_text("max\n")
    assert memory.machine_memory() == physical
    limit.write_text("1048576\n")
    assert memory.machine_memory() == 2**20
