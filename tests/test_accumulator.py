"""Neural-collapse metrics of batches: merged, shared between threads, interrupted, refused."""

import copy
import pickle
import signal
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm_fast as uf
from nc_definitions import by_definition, example
from ufm_fast._runtime import memory


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 600), max_size=5), parts=st.integers(1, 3))
def test_batches_and_merging_do_not_matter(seed, cuts, parts):
    rng = np.random.default_rng(seed)
    K, d = 5, 6
    labels = rng.choice(K, size=600, p=[0.6, 0.2, 0.1, 0.08, 0.02])
    labels[:K] = np.arange(K)
    H = 100 * rng.standard_normal((1, d)) + rng.standard_normal((K, d))[labels] + rng.standard_normal((600, d))
    accumulators = [uf.NCAccumulator(K, d, threads=1 + i % 2) for i in range(parts)]
    for i, rows in enumerate(np.split(np.arange(600), sorted(cuts))):
        accumulators[i % parts].update(H[rows], labels[rows])
    merged = uf.NCAccumulator(K, d)
    for accumulator in accumulators:
        merged.merge(accumulator)
    W = rng.standard_normal((K, d))
    found, expected = merged.result(W), by_definition(W, H, labels, np.zeros(K))
    for name in ("nc1", "nc1_trace_ratio", "cdnv", "nc2_means", "nc3_product", "norm_ratio"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9), name
    assert np.array_equal(found.counts, np.bincount(labels, minlength=K))


def test_threads_change_no_more_than_rounding():
    W, H, labels, b = example("imbalanced")
    H, labels = np.tile(H, (40, 30)), np.tile(labels, 40)
    W = np.tile(W, (1, 30))
    one, three = (uf.nc_metrics(W, H, labels, b, threads=threads) for threads in (1, 3))
    again = uf.nc_metrics(W, H, labels, b, threads=3)
    assert three.nc1 == again.nc1
    assert one.nc1 == pytest.approx(three.nc1, rel=1e-12)


@pytest.mark.parametrize("statistics", ["full", "traces"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("K", "d"), [(1, 40), (3, 530), (400, 65)])
def test_classes_and_products_cut_between_threads(K, d, threads, statistics):
    """Classes of a few rows and of more than a worker's; one block of columns and several; more than one tile."""
    rng = np.random.default_rng(6)
    labels = np.minimum(rng.geometric(3 / K, 5000) - 1, K - 1) if K > 3 else np.sort(rng.integers(0, K, 5000))
    labels[:K] = np.arange(K)
    H = rng.standard_normal((K, d))[labels] + rng.standard_normal((5000, d))
    accumulator = uf.NCAccumulator(K, d, statistics=statistics, threads=threads).update(H, labels)
    means, _, squares, scatter = accumulator._statistics.read(threads)
    for k in range(K):
        np.testing.assert_allclose(means[k], H[labels == k].mean(axis=0), rtol=0, atol=1e-13)
    deviations = H - means[labels]
    np.testing.assert_allclose(squares, np.bincount(labels, (deviations**2).sum(axis=1)), rtol=1e-11, atol=1e-10)
    if statistics == "full":
        np.testing.assert_allclose(scatter, deviations.T @ deviations, rtol=0, atol=1e-9)
    else:
        assert scatter is None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers are POSIX")
def test_interrupt():
    """Ctrl-C reaches an update of many rows, which leaves nothing to go on with."""
    H = np.ones((40_000, 1000), dtype=np.float32)
    accumulator = uf.NCAccumulator(2, 1000, threads=1)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            accumulator.update(H, np.zeros(len(H), dtype=int))
    finally:
        signal.signal(signal.SIGALRM, previous)
    for use in (
        lambda: accumulator.update(H[:5], [0] * 5),
        accumulator.state,
        lambda: copy.copy(accumulator),
        lambda: copy.deepcopy(accumulator),
        lambda: pickle.dumps(accumulator),
    ):
        with pytest.raises(ValueError, match="were interrupted: start new ones"):
            use()


def test_one_accumulator_from_several_threads():
    W, H, labels, b = example("random")
    shared = uf.NCAccumulator(7, 11)
    threads = [threading.Thread(target=shared.update, args=(H[i::4], labels[i::4])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.result(W, b).nc1 == pytest.approx(uf.nc_metrics(W, H, labels, b).nc1, rel=1e-12)


def test_without_a_second_reading_nc4_is_nan():
    W, H, labels, b = example("random")
    accumulator = uf.NCAccumulator(7, 11).update(H, labels)
    assert np.isnan(accumulator.result(W, b).nc4_agreement)
    expected = by_definition(W, H, labels, b)["nc4_agreement"]
    assert accumulator.result(W, b, batches=[H[:50], H[50:]]).nc4_agreement == expected
    assert 0 < expected < 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_that_are_not_finite(dtype, bad):
    W, H, labels, _ = example("random")
    H = H.astype(dtype)
    H[13, 4] = bad
    accumulator = uf.NCAccumulator(7, 11).update(np.nan_to_num(H, posinf=0, neginf=0), labels)
    with pytest.raises(ValueError, match=f"H must be finite, but row 153 holds {bad}"):
        accumulator.update(H, labels)
    with pytest.raises(ValueError, match="refused a batch"):
        accumulator.update(H[:5], labels[:5])
    with pytest.raises(ValueError, match="refused a batch"):
        accumulator.result(W)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "labels must be integers, not float64", {"labels": np.zeros(140)}),
        (ValueError, r"labels must have shape \(140,\), not \(3,\)", {"labels": [0, 1, 2]}),
        (ValueError, r"H must have shape \(rows, 11\), not \(140, 10\)", {"H": np.zeros((140, 10))}),
        (TypeError, "H must be float32 or float64, not complex128", {"H": np.zeros((140, 11), complex)}),
        (ValueError, r"W must have shape \(K, d\), not \(7,\)", {"W": np.zeros(7)}),
        (ValueError, "W must be finite", {"W": np.full((7, 11), np.nan)}),
        (ValueError, r"b must have shape \(7,\), not \(8,\)", {"b": np.zeros(8)}),
        (ValueError, "centre must be 'samples' or 'classes'", {"centre": "middle"}),
        (ValueError, "classes must be different", {"classes": [0, 1, 2, 3, 4, 5, 5]}),
    ],
)
def test_bad_arguments(error, message, change):
    W, H, labels, b = example("random")
    with pytest.raises(error, match=message):
        uf.nc_metrics(**({"W": W, "H": H, "labels": labels, "b": b} | change))


def test_merge_refuses_what_does_not_fit():
    accumulator = uf.NCAccumulator(3, 4)
    with pytest.raises(ValueError, match="same classes"):
        accumulator.merge(uf.NCAccumulator(3, 4, classes=[3, 4, 5]))
    with pytest.raises(ValueError, match="same K and d"):
        accumulator.merge(uf.NCAccumulator(3, 5))
    for one, other in (("full", "traces"), ("traces", "full")):
        with pytest.raises(ValueError, match=f"other must have statistics='{one}', as this has, not '{other}'"):
            uf.NCAccumulator(3, 4, statistics=one).merge(uf.NCAccumulator(3, 4, statistics=other))
    with pytest.raises(ValueError, match="another"):
        accumulator.merge(accumulator)
    with pytest.raises(ValueError, match="no samples yet"):
        accumulator.result(np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("means", [0, 1e6])
def test_traces_are_all_but_nc1(means, dtype, recwarn):
    """Batches that move references, two accumulators merged; against the definitions and, to rounding, "full"."""
    W, H, labels, b = example("imbalanced")
    H = (H + means).astype(dtype)
    found = {}
    for statistics in ("full", "traces"):
        first, second = (uf.NCAccumulator(*W.shape, statistics=statistics) for _ in range(2))
        for rows in np.array_split(np.arange(len(H)), 7):
            (first if rows[0] % 2 else second).update(H[rows], labels[rows])
        found[statistics] = first.merge(second).result(W, b, batches=[H])
    assert [warning for warning in recwarn if "NC1" in str(warning.message)] == []
    traces, expected = found["traces"], by_definition(W, H, labels, b)
    for name, value in vars(found["full"]).items():
        other = getattr(traces, name)
        if name in ("nc1", "spectrum_within"):
            assert np.isnan(other).all(), name
            assert np.shape(other) == np.shape(value)
        elif isinstance(value, str) or value is None:
            assert other == value
        else:
            np.testing.assert_allclose(other, value, rtol=1e-12, atol=1e-12, err_msg=name)
    for name in ("nc1_trace_ratio", "cdnv", "norm_ratio", "nc2_means", "nc3_product", "nc4_agreement"):
        assert getattr(traces, name) == pytest.approx(expected[name], rel=1e-9 if means == 0 else 1e-5), name
    assert uf.nc_metrics(W, H, labels, b, statistics="traces").cdnv == pytest.approx(traces.cdnv, rel=1e-12)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_traces_of_features_with_very_many_dimensions(run_python):
    """Ten classes of 65 536 dimensions: 5.2 MB a K x d array, where S_W alone would be 34 GB."""
    script = """
import numpy as np, ufm_fast as uf
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
rng = np.random.default_rng(0)
labels, d = np.arange(40) % 10, 65536
W, H = rng.standard_normal((10, d)), rng.standard_normal((40, d)).astype(np.float32)
uf.NCAccumulator(2, 3, threads=2).update(np.eye(3)[:2], [0, 1]).result(np.eye(3)[:2])
before = status("VmRSS")
accumulator = uf.NCAccumulator(10, d, statistics="traces", threads=2)
for first in range(0, 40, 8):
    accumulator.update(H[first : first + 8], labels[first : first + 8])
updating = status("VmHWM") - before
found = accumulator.result(W)
means = np.array([H[labels == k].astype(float).mean(axis=0) for k in range(10)])
within = ((H - means[labels]) ** 2).sum() / 40
between = ((means - H.mean(axis=0, dtype=float)) ** 2).sum() / 10
print(updating, status("VmHWM") - before, found.nc1_trace_ratio * between / within - 1)
"""
    updating, whole, error = map(float, run_python(script, OPENBLAS_NUM_THREADS="1").split())
    assert abs(error) < 1e-11
    assert updating < 25_000  # KiB: references and sums, and four shifted rows for each thread
    assert whole < 200_000


def test_a_scatter_that_no_memory_holds_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2.0**30)
    with pytest.raises(
        MemoryError, match=r'NCAccumulator needs about 96.* GiB .* K = 10, d = 65536; 1 .*: statistics="traces"'
    ):
        uf.NCAccumulator(10, 65536)
    with pytest.raises(MemoryError, match=r"K = 5000, d = 65536; 1 are available$"):
        uf.NCAccumulator(5000, 65536, statistics="traces")
    assert uf.NCAccumulator(10, 65536, statistics="traces").counts.sum() == 0


@pytest.mark.parametrize("statistics", ["full", "traces"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_class_means(dtype, statistics):
    """Of a class without samples they are NaN, and what is given is the caller's own."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 50)
    H = (1e3 + rng.standard_normal((50, 3))).astype(dtype)
    accumulator = uf.NCAccumulator(5, 3, statistics=statistics)
    assert np.isnan(accumulator.class_means).all()
    accumulator.update(H[:20], labels[:20]).update(H[20:], labels[20:])
    expected = [H[labels == k].astype(float).mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(accumulator.class_means[:4], expected, rtol=1e-15)
    assert np.isnan(accumulator.class_means[4]).all()
    accumulator.class_means[:] = 0
    np.testing.assert_allclose(accumulator.class_means[:4], expected, rtol=1e-15)
