"""An accumulator as plain arrays: written and read again, copied, pickled, merged across processes, damaged."""

import copy
import io
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import ufm_fast as uf
from nc_definitions import by_definition, example

K, D = 7, 11


def gathered(dtype="float64", statistics="full", rows=slice(None)):
    """Statistics of samples some of which are left out, the labels not being places, with a class that has none."""
    _, H, labels, _ = example("random")
    names = np.arange(K + 1) * 10
    accumulator = uf.NCAccumulator(K + 1, D, classes=names, ignore_index=[-1, -7], statistics=statistics)
    for part in (slice(0, 5), slice(5, 120)):  # the second moves references
        marked = np.where(np.arange(len(labels)) % 9 == 3, -7, names[labels])
        accumulator.update(H[rows][part].astype(dtype), marked[rows][part])
    return accumulator


def through_a_file(accumulator):
    file = io.BytesIO()
    np.savez(file, **accumulator.state())
    file.seek(0)
    return uf.NCAccumulator.from_state(np.load(file, allow_pickle=False))


def same(first, second):
    """Whether two states agree in names, types, shapes and bits."""
    return list(first) == list(second) and all(
        np.asarray(first[name]).dtype == np.asarray(second[name]).dtype
        and np.asarray(first[name]).shape == np.asarray(second[name]).shape
        and np.asarray(first[name]).tobytes() == np.asarray(second[name]).tobytes()
        for name in first
    )


COPIES = {
    "a file": through_a_file,
    "the state": lambda accumulator: uf.NCAccumulator.from_state(accumulator.state()),
    "a pickle": lambda accumulator: pickle.loads(pickle.dumps(accumulator)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("statistics", ["full", "traces"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copy_has_every_bit_and_goes_on_alike(dtype, statistics, make_copy):
    accumulator = gathered(dtype, statistics)
    before = accumulator.state()
    assert before["left_out"] > 0
    found = make_copy(accumulator)
    assert same(found.state(), before)
    rows, labels = np.random.default_rng(1).standard_normal((400, D)).astype(dtype), np.arange(400) % K * 10
    found.update(rows, labels)
    assert same(accumulator.state(), before)  # nothing is shared
    accumulator.update(rows, labels)
    assert same(found.state(), accumulator.state())


def test_threads_go_along_where_the_machine_is_the_same():
    accumulator = uf.NCAccumulator(2, 3, threads=2)
    assert copy.copy(accumulator).threads == pickle.loads(pickle.dumps(accumulator)).threads == 2
    assert uf.NCAccumulator.from_state(accumulator.state()).threads is None
    assert uf.NCAccumulator.from_state(accumulator.state(), threads=3).threads == 3


def test_one_from_a_pickle_is_used_by_several_threads():
    W, H, labels, b = example("random")
    shared = pickle.loads(pickle.dumps(uf.NCAccumulator(K, D)))
    threads = [threading.Thread(target=shared.update, args=(H[i::4], labels[i::4])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.result(W, b).nc1 == pytest.approx(uf.nc_metrics(W, H, labels, b).nc1, rel=1e-12)


SHARD = """
import sys
import numpy as np
import ufm_fast as uf
folder, i = sys.argv[1], int(sys.argv[2])
data = np.load(folder + "/data.npz")
rows = np.array_split(np.arange(len(data["H"])), 4)[i]
accumulator = uf.NCAccumulator(*data["W"].shape, ignore_index=-1, threads=1)
for batch in np.array_split(rows, 3):
    accumulator.update(data["H"][batch], data["labels"][batch])
np.savez(f"{folder}/shard{i}.npz", **accumulator.state())
"""


def test_four_processes_over_four_shards_are_one_pass(tmp_path):
    """The classes are in order, so that a shard has few of them, and each class is in one shard or two."""
    rng = np.random.default_rng(3)
    labels = np.sort(rng.integers(0, 9, 2000))
    W, H = rng.standard_normal((9, D)), rng.standard_normal((9, D))[labels] + 0.3 * rng.standard_normal((2000, D))
    labels[::50] = -1
    np.savez(tmp_path / "data.npz", W=W, H=H, labels=labels)
    shards = [subprocess.Popen([sys.executable, "-c", SHARD, str(tmp_path), str(i)]) for i in range(4)]
    assert [shard.wait() for shard in shards] == [0] * 4
    merged = uf.NCAccumulator(*W.shape, ignore_index=-1)
    for i in range(4):
        merged.merge(uf.NCAccumulator.from_state(np.load(tmp_path / f"shard{i}.npz")))
    one = uf.NCAccumulator(*W.shape, ignore_index=-1).update(H, labels)
    assert merged.left_out == one.left_out == 40
    found, expected = merged.result(W, batches=[H[labels >= 0]]), one.result(W, batches=[H[labels >= 0]])
    for name, value in vars(expected).items():
        if value is not None and not isinstance(value, str):
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-12, err_msg=name)
    for name, value in by_definition(W, H[labels >= 0], labels[labels >= 0], np.zeros(9)).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-10), name


def changed(**entries):
    return gathered().state() | entries


def edited(name, place, value, statistics="full"):
    state = gathered(statistics=statistics).state()
    state[name][place] = value
    return state


def without(name):
    state = gathered().state()
    del state[name]
    return state


@pytest.mark.parametrize(
    ("error", "message", "state"),
    [
        (TypeError, "state must be a mapping of names to arrays, not list", lambda: [1, 2]),
        (ValueError, "state must have an entry 'format'", lambda: {"W": np.eye(2)}),
        (ValueError, r"state\['format'\] must be 'ufm_fast", lambda: changed(format="ufm_fast.NCAccumulator 0")),
        (ValueError, r"state\['format'\] must be 'ufm_fast", lambda: changed(format=np.arange(3))),
        (ValueError, r"state\['statistics'\] must be 'full' or 'traces'", lambda: changed(statistics="all")),
        (ValueError, "state must have an entry 'sums'", lambda: without("sums")),
        (ValueError, "state must have an entry 'scatter'", lambda: without("scatter")),
        (ValueError, "state must not have an entry 'scatter'", lambda: changed(statistics="traces")),
        (ValueError, "state must not have an entry 'moments'", lambda: changed(moments=np.zeros(3))),
        (TypeError, r"state\['sums'\] must be float64, not float32", lambda: changed(sums=np.zeros((8, 11), "f4"))),
        (TypeError, r"state\['counts'\] must be int64, not float64", lambda: changed(counts=np.ones(8))),
        (TypeError, r"state\['squares'\] must be float64, not <U1", lambda: changed(squares=np.array(["a"] * 8))),
        (ValueError, r"state\['classes'\] must have shape \('K',\), not \(\)", lambda: changed(classes=np.int64(3))),
        (ValueError, r"state\['references'\] must have shape \(3, 11\)", lambda: changed(classes=np.arange(3))),
        (ValueError, r"state\['sums'\] must have shape \(8, 11\), not \(8, 1", lambda: changed(sums=np.ones((8, 10)))),
        (ValueError, r"state\['scatter'\] must have shape \(11, 11\)", lambda: changed(scatter=np.ones((8, 10)))),
        (ValueError, r"state\['left_out'\] must not be negative", lambda: changed(left_out=-1)),
        (ValueError, r"state\['precision'\] must be finite", lambda: changed(precision=np.nan)),
        (ValueError, r"state\['sums'\] must be finite", lambda: edited("sums", (2, 3), np.inf)),
        (ValueError, r"state\['counts'\] must not be negative, but holds -2", lambda: edited("counts", 1, -2)),
        (ValueError, r"state\['settled_counts'\] must be between 1", lambda: edited("settled_counts", 1, 99999)),
        (ValueError, r"state\['settled_counts'\] must be between 1", lambda: edited("settled_counts", 1, 0)),
        (ValueError, r"state\['squares'\] must be zero for classes that", lambda: edited("squares", K, 0.1)),
        (ValueError, r"state\['references'\] must be zero", lambda: edited("references", (K, 3), 1, "traces")),
        (ValueError, r"state\['scatter'\] must be zero below", lambda: edited("scatter", (3, 2), 1.0)),
        (ValueError, r"state\['scatter'\] must have a trace near", lambda: edited("scatter", (3, 3), -50.0)),
        (ValueError, "classes must be different", lambda: edited("classes", 1, 20)),
    ],
)
def test_what_is_no_state_is_refused_by_name(error, message, state):
    with pytest.raises(error, match=message):
        uf.NCAccumulator.from_state(state())


def test_numbers_of_another_byte_order_and_lists_are_taken():
    accumulator = gathered()
    state = accumulator.state()
    arrays = {name: np.asarray(value) for name, value in state.items() if not isinstance(value, str)}
    swapped = state | {name: array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()}
    listed = state | {name: array.tolist() for name, array in arrays.items()}
    for other in (swapped, listed):
        assert same(uf.NCAccumulator.from_state(other).state(), state)
    nothing = uf.NCAccumulator(2, 3).state()
    assert same(uf.NCAccumulator.from_state(nothing | {"ignored": []}).state(), nothing)


def test_no_state_after_features_that_are_refused():
    accumulator = gathered()
    with pytest.raises(ValueError, match="H must be finite"):
        accumulator.update(np.full((1, D), np.nan), [0])
    with pytest.raises(ValueError, match="refused a batch"):
        accumulator.state()
