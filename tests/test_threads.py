"""Threads: the same bits again, concurrent callers, and BLAS left as it was found."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import threadpoolctl

import ufm_fast as uf
from comparison import BIASES, CASES, LARGE, Case
from ufm_fast._runtime import threads
from ufm_fast._runtime.blas import gram, product, single_threaded_blas
from ufm_fast._runtime.threads import concurrently


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_threads_same_bits(threads, dtype):
    ufm = Case(LARGE, threads, uf.CrossEntropy(), BIASES[0], True, False, dtype).ufm()
    p, v = ufm.random_point(1), ufm.random_point(2)
    value, gradient = ufm.loss_and_grad(p)
    product = ufm.hvp(p, v)
    for _ in range(5):
        again, gradient_again = ufm.loss_and_grad(p)
        assert again == value
        assert all((x == y).all() for x, y in zip(gradient, gradient_again, strict=True))
        assert all((x == y).all() for x, y in zip(product, ufm.hvp(p, v), strict=True))


def blas_threads():
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


def test_concurrent_callers_get_the_same_bits_and_leave_blas_as_it_was():
    models = [case.ufm() for case in CASES if case.shape == LARGE and case.threads == 2][::3]
    points = [ufm.random_point(3) for ufm in models]
    alone = [ufm.pack(ufm.loss_and_grad(p)[1]) for ufm, p in zip(models, points, strict=True)]
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(6) as pool:
            for _ in range(5):
                together = pool.map(lambda ufm, p: ufm.pack(ufm.loss_and_grad(p)[1]), models, points)
                assert all((x == y).all() for x, y in zip(alone, together, strict=True))
        assert blas_threads() == before


def test_errors_leave_blas_as_it_was():
    ufm = uf.UFM(60, 60, lambda_W=1e-3, lambda_H=1e-3)
    W, H, b = ufm.random_point()
    W[3, 4] = np.nan
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(ValueError, match="W must be finite"):
            ufm.loss(uf.Point(W, H, b))
        assert blas_threads() == before


def test_thread_setting():
    try:
        uf.set_num_threads(3)
        assert uf.get_num_threads() == 3
    finally:
        uf.set_num_threads(None)
    for wrong in (0, -1, 4097, 10**9, 2**70):
        with pytest.raises(ValueError, match="n must be between 1 and 4096"):
            uf.set_num_threads(wrong)
        with pytest.raises(ValueError, match="threads must be between 1 and 4096"):
            uf.UFM(3, 3, lambda_W=0.1, lambda_H=0.1, threads=wrong)
    for wrong in (1.5, True, "2"):
        with pytest.raises(TypeError, match="n must be an int"):
            uf.set_num_threads(wrong)


@pytest.mark.parametrize("setting", ["0", "-1", "4097", "1000000000", "9" * 5000, "2.0", "many", " 2", "²"])
def test_nonsense_in_the_environment_is_refused(monkeypatch, setting):
    monkeypatch.setenv("UFM_FAST_NUM_THREADS", "4096")
    threads._fitting_setting.cache_clear()
    assert uf.get_num_threads() == 4096
    monkeypatch.setenv("UFM_FAST_NUM_THREADS", setting)
    with pytest.raises(ValueError, match="UFM_FAST_NUM_THREADS must be an integer between 1 and 4096"):
        uf.get_num_threads()


@pytest.fixture
def eight_processors(monkeypatch):
    """A process bound to what a test puts into the dictionary, its launcher to all eight; with no variables set."""
    bound = {0: set(range(8))}
    for name in ("UFM_FAST_NUM_THREADS", "OMP_NUM_THREADS", *threads._LOCAL_SIZES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: bound.get(pid, set(range(8))), raising=False)
    monkeypatch.setattr(threads, "_most_useful", partial(threads._processors, 0))
    forget()
    yield bound
    forget()


def forget():
    threads.processes_on_this_machine.cache_clear()
    threads._fitting_setting.cache_clear()


def test_openmp_variable_is_honoured(monkeypatch, eight_processors):
    assert uf.get_num_threads() == 8
    for setting, expected in (
        ("3", 3),
        ("4,2", 4),
        ("1", 1),
        (" 2 ", 2),
        ("", 8),
        ("0", 8),
        ("many", 8),
        ("9999", 8),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
        assert uf.get_num_threads() == expected, setting
    monkeypatch.setenv("UFM_FAST_NUM_THREADS", "5")
    assert uf.get_num_threads() == 5


ASKED = {
    "set_num_threads": lambda n: (uf.set_num_threads(n), uf.get_num_threads(), uf.set_num_threads(None))[1],
    "UFM": lambda n: uf.UFM(3, 3, lambda_W=0.1, lambda_H=0.1, threads=n).threads,
    "NCAccumulator": lambda n: uf.NCAccumulator(3, 3, threads=n).threads,
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_more_threads_than_processors_become_as_many(eight_processors, asked):
    assert asked(8) == 8
    with pytest.warns(UserWarning, match=r"is 9, but this process may use 8 processors: it is taken as 8") as told:
        assert asked(9) == 8
    assert [warning.filename for warning in told] == [__file__]
    eight_processors[0] = {5}
    with pytest.warns(UserWarning, match="is 4096, but this process may use 1 processor: it is taken as 1"):
        assert asked(4096) == 1


NETWORK = {"W": np.eye(3), "H": np.repeat(np.eye(3), 4, axis=0), "labels": np.repeat(range(3), 4)}
MEASURES = {
    "nc_metrics": uf.nc_metrics,
    "inspect": partial(uf.inspect, lambda_W=0.1, lambda_H=0.1, lambda_b=0.1),
    "linear_cross_entropy": uf.linear_cross_entropy,
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_call_warns_once(eight_processors, measure):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        measure(**NETWORK, threads=20)
    assert [str(warning.message).partition(":")[0] for warning in told if warning.category is UserWarning] == [
        "threads is 20, but this process may use 8 processors"
    ]


def test_the_environment_asks_for_more_threads_than_processors(monkeypatch, eight_processors):
    monkeypatch.setenv("UFM_FAST_NUM_THREADS", "100")
    with pytest.warns(UserWarning, match="variable UFM_FAST_NUM_THREADS is 100, but .* 8 processors: it is taken as 8"):
        assert uf.get_num_threads() == 8
    assert uf.get_num_threads() == 8  # without a word


def test_the_processors_are_those_that_this_process_may_use(run_python):
    script = """
import os, warnings
import ufm_fast as uf
processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
with warnings.catch_warnings(record=True) as told:
    ufm = uf.UFM(300, 300, lambda_W=0.1, lambda_H=0.1, threads=4096)
print(1 <= ufm.threads <= processors, len(told))
"""
    assert run_python(script) == "True 1\n"


@pytest.mark.parametrize("name", threads._LOCAL_SIZES)
def test_processes_of_an_mpi_job_share_the_machine(monkeypatch, eight_processors, name):
    for setting, expected in (("1", 8), ("2", 4), ("3", 2), ("50", 1), ("4(x2),3", 2), ("none", 8)):
        monkeypatch.setenv(name, setting)
        forget()
        assert uf.get_num_threads() == expected, setting


def test_processes_that_are_bound_have_their_share_already(monkeypatch, eight_processors):
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    for bound, expected in (({0, 1}, 2), ({3}, 1), (set(range(4)), 2)):  # the last: two processes have the same four
        eight_processors[0] = bound
        assert uf.get_num_threads() == expected


def test_the_most_threads_that_can_be_asked_for():
    ufm, one = (uf.UFM(300, 300, lambda_W=0.1, lambda_H=0.1, threads=threads) for threads in (4096, 1))
    p = ufm.random_point()
    assert ufm.loss(p) == pytest.approx(one.loss(p), rel=1e-13)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_threads_that_cannot_be_started(run_python):
    """With little memory left, starting a thread or its work fails, with an error or without, but never a crash.

    Without BLAS (small d): OpenBLAS waits forever for memory that it does not get.
    """
    script = """
import resource, threading
from functools import partial
import ufm_fast as uf
from ufm_fast._runtime import threads
from ufm_fast._runtime.threads import concurrently
threads._most_useful = lambda: 4096
ufm, one = (uf.UFM(1500, 100, lambda_W=0.1, lambda_H=0.1, threads=threads) for threads in (4096, 1))
p = ufm.random_point()
expected, used = one.loss(p), int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for spare in (0, 4, 16, 64, 256):
    resource.setrlimit(resource.RLIMIT_AS, (used + (spare << 20), resource.RLIM_INFINITY))
    try:
        assert abs(ufm.loss(p) - expected) < 1e-12
        assert concurrently([partial(pow, 2, i) for i in range(30)], 30) == [2**i for i in range(30)]
    except MemoryError as error:
        print(error)
print("alive")
"""
    assert run_python(script).endswith("alive\n")


def in_thread(work):
    """Run work() in a thread of its own and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_any_thread_can_hold_blas_to_one_thread():
    def inside():
        with single_threaded_blas():
            return blas_threads()

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        for run in (lambda work: work(), in_thread, in_thread):
            assert set(run(inside)) == {1}
            assert blas_threads() == before


def test_blas_is_restored_by_whoever_leaves_last():
    entered, leave = threading.Event(), threading.Event()

    def first():
        with single_threaded_blas():
            entered.set()
            leave.wait()

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(first)
            entered.wait()
            with single_threaded_blas():
                leave.set()
                done.result()
                assert set(blas_threads()) == {1}
        assert blas_threads() == before


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_products_on_threads(threads):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((5, 4)), rng.standard_normal((4, 6))
    np.testing.assert_allclose(product(X, Y, threads), X @ Y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(product(X.T, X, threads), X.T @ X, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gram(X, threads), X.T @ X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3, 10**9])
def test_concurrent_calls(threads):
    assert concurrently([lambda i=i: i**2 for i in range(9)], threads) == [i**2 for i in range(9)]
    with pytest.raises(ZeroDivisionError):
        concurrently([lambda: 1 / 0, lambda: 1], threads)
