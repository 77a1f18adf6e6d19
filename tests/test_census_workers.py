"""The census does not depend on who does its runs: threads, processes, joblib's backends, Dask, Ray, MPI."""

import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

import ufm_fast as uf
from ranks import need_mpi, on_ranks

DECAYS = {"lambda_W": 1e-3, "lambda_H": 2e-4, "lambda_b": 1e-2}
MODELS = [
    uf.UFM(5, 5, [9, 7, 5, 3, 1], **DECAYS),
    uf.UFM(6, 2, 5, **DECAYS),  # where `classify` asks the eigen-solver, whose warnings it keeps to itself
    uf.UFM(3, 3, targets=np.random.default_rng(0).integers(0, 3, 20), lambda_W=1e-2, lambda_H=1e-3),
]
RUNS, SEED = 4, 2
census = partial(uf.census, MODELS, RUNS, seed=SEED)


@pytest.fixture(scope="module")
def serial():
    return census(workers=1).records


def spawned_pool():
    return get_context("spawn").Pool(2)


POOLS = {
    "Pool.map": lambda: (pool := spawned_pool(), pool.map),
    "Pool.imap_unordered": lambda: (pool := spawned_pool(), pool.imap_unordered),
    "processes": lambda: (pool := ProcessPoolExecutor(2, get_context("spawn")), pool.map),
    "threads": lambda: (pool := ThreadPoolExecutor(4), pool.map),
}


@pytest.mark.parametrize("make", POOLS.values(), ids=POOLS)
def test_pools(serial, make):
    pool, workers = make()
    with pool:
        assert census(workers=workers).records == serial


def test_threads_leave_warnings_as_they_were(serial):
    """``warnings.catch_warnings`` of several threads would: the last to leave restores what another had set."""
    before = list(warnings.filters), warnings.showwarning
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert census(workers=pool.map).records == serial
    assert (list(warnings.filters), warnings.showwarning) == before


@pytest.mark.parametrize(("backend", "workers"), [("threading", None), ("threading", 2), ("multiprocessing", None)])
def test_backends_of_joblib(serial, backend, workers):
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend, n_jobs=2 if workers is None else None):
        assert census(workers=workers).records == serial


def test_negative_numbers_count_from_all_processors(serial):
    pytest.importorskip("joblib")
    assert census(workers=-1).records == serial


@pytest.mark.parametrize(
    ("workers", "backend", "helped"),
    [(None, "threading", True), (2, "threading", True), (1, "threading", False), (None, "sequential", False)],
)
def test_who_works_is_what_joblib_says(workers, backend, helped):
    joblib = pytest.importorskip("joblib")
    before, more = threading.active_count(), []
    with joblib.parallel_config(backend, n_jobs=2):
        census(workers=workers, callback=lambda *_: more.append(threading.active_count() - before))
    assert (max(more) > 0) == helped


def test_two_processes_of_dask(serial):
    distributed = pytest.importorskip("distributed")
    joblib = pytest.importorskip("joblib")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        with joblib.parallel_config("dask"):
            assert census().records == serial
        assert census(workers=lambda function, tasks: client.gather(client.map(function, tasks))).records == serial
        assert census(workers=client.get_executor().map).records == serial


RAY = """
import ray
import ufm_fast as uf
from joblib import parallel_config
from ray.util.joblib import register_ray
from ray.util.multiprocessing import Pool
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
register_ray()
ufm = uf.UFM(5, 5, [9, 7, 5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
serial = uf.census(ufm, 4).records
with parallel_config("ray", n_jobs=2):
    print(uf.census(ufm, 4).records == serial)
with Pool(2) as pool:
    print(uf.census(ufm, 4, workers=pool.imap_unordered).records == serial)
"""


def test_ray():
    pytest.importorskip("ray")
    pytest.importorskip("joblib")
    done = subprocess.run([sys.executable, "-c", RAY], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


MPI = """
import ufm_fast as uf
from mpi4py.futures import MPIPoolExecutor
if __name__ == "__main__":
    ufm = uf.UFM(5, 5, [9, 7, 5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
    with MPIPoolExecutor() as pool:
        print(uf.census(ufm, 4, workers=pool.map).records == uf.census(ufm, 4).records)
"""


def test_mpi(tmp_path):
    need_mpi()
    (tmp_path / "script.py").write_text(MPI)
    assert on_ranks(3, "-m", "mpi4py.futures", tmp_path / "script.py") == ["True"]


def test_a_task_is_small_and_asks_for_one_thread(serial):
    seen = []

    def workers(function, tasks):
        seen.extend(tasks)
        return map(pickle.loads(pickle.dumps(function)), pickle.loads(pickle.dumps(tasks)))

    assert census(workers=workers).records == serial
    assert {task.ufm.threads for task in seen} == {1}
    assert all(len(pickle.dumps(task)) < 3000 for task in seen)
    assert MODELS[0].threads is None


def test_each_run_is_on_the_disk_before_the_next_is_asked_for(tmp_path):
    """Of a map that is lazy and gives results in order."""
    path, lines = tmp_path / "census.jsonl", []

    def workers(function, tasks):
        for task in tasks:
            lines.append(path.read_bytes().count(b"\n"))
            yield function(task)

    census(workers=workers, path=path)
    assert lines == list(range(1, 1 + len(MODELS) * RUNS))


def test_what_is_done_is_not_asked_for_again(serial, tmp_path):
    path, asked = tmp_path / "census.jsonl", []
    uf.census(MODELS, 1, seed=SEED, path=path)

    def workers(function, tasks):
        asked.extend((task.model, task.run) for task in tasks)
        return map(function, reversed(tasks))

    assert census(workers=workers, path=path).records == serial
    assert asked == [(model, run) for run in range(1, RUNS) for model in range(len(MODELS))]
    assert census(workers=lambda function, tasks: pytest.fail("nothing is left to do"), path=path).records == serial


@pytest.mark.parametrize("of_joblib", [False, True])
def test_an_interrupt_cancels_what_has_not_begun(of_joblib):
    calls = []

    def stop(done, total):
        calls.append(done)
        if done == 3:
            raise KeyboardInterrupt

    run = partial(uf.census, MODELS, 100_000, callback=stop)
    if of_joblib:
        joblib = pytest.importorskip("joblib")
        with joblib.parallel_config("threading", n_jobs=2), pytest.raises(KeyboardInterrupt):
            run()
    else:
        with ThreadPoolExecutor(2) as pool, pytest.raises(KeyboardInterrupt):
            uf.census(MODELS, 1000, workers=pool.map, callback=stop)
    assert calls == [0, 1, 2, 3]


@pytest.mark.parametrize("of_joblib", [False, True])
def test_an_error_in_a_worker_reaches_the_caller_and_keeps_what_is_done(of_joblib, tmp_path, monkeypatch):
    from ufm_fast._landscape import census as module

    path, explore = tmp_path / "census.jsonl", module.explore

    def broken(task):
        if (task.model, task.run) == (1, 1):
            raise MemoryError("no memory for this one")
        return explore(task)

    monkeypatch.setattr(module, "explore", broken)
    if of_joblib:
        joblib = pytest.importorskip("joblib")
        with joblib.parallel_config("threading", n_jobs=2), pytest.raises(MemoryError, match="this one"):
            census(path=path)
    else:
        with ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError, match="this one"):
            census(path=path, workers=pool.map)
        assert len(uf.Census.load(path).records) == len(MODELS) + 1


@pytest.mark.parametrize(
    ("workers", "error", "message"),
    [
        ("map", TypeError, "workers must be an int, a function like map, or None, not 'map'"),
        (2.0, TypeError, "workers must be an int, a function like map, or None, not 2.0"),
        (0, ValueError, "workers must be positive, or negative .* not 0"),
        (
            lambda function, tasks: None,
            TypeError,
            "workers must give the results one after another, .* not None",
        ),
        (lambda function, tasks: [Future()], TypeError, "workers must give what the function returns, .* not <Future"),
        (
            lambda function, tasks: [function(tasks[0])],
            ValueError,
            "workers must .* 11 of 12 are missing",
        ),
    ],
)
def test_what_workers_must_be(workers, error, message):
    with pytest.raises(error, match=message):
        census(workers=workers)
