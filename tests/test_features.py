"""What users hand in as features, labels and classifiers: the right numbers or an error that names the argument."""

import re
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

import ufm_fast as uf
from handed_in import D, K, N, assert_same, example
from ufm_fast._networks.arrays import as_single


class Readable:
    """What NumPy can read, and nothing else."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Guarded:
    """As a tensor that requires a gradient."""

    shape = (N, D)

    def __getitem__(self, rows):
        return self

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it requires a gradient")


GOOD = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "list": lambda x: x.tolist(),
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "Fortran order": np.asfortranarray,
    "readable": Readable,
    "memoryview": lambda x: memoryview(np.ascontiguousarray(x)),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("name", ["W", "H", "labels", "b"])
@pytest.mark.parametrize("kind", GOOD)
def test_arrays_of_every_layout(name, kind):
    arrays = example()
    found = uf.nc_metrics(**(arrays | {name: GOOD[kind](arrays[name])}))
    assert_same(found, uf.nc_metrics(**arrays))


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f2", "int8"])
@pytest.mark.parametrize("name", ["W", "H", "b"])
def test_numbers_of_every_type(name, dtype):
    arrays = example()
    arrays[name] = np.round(20 * arrays[name])
    assert_same(uf.nc_metrics(**(arrays | {name: arrays[name].astype(dtype)})), uf.nc_metrics(**arrays), rel=1e-6)


BAD = {
    "masked": np.ma.masked_greater,
    "unmasked": lambda x, _: np.ma.masked_array(x),
    "complex": lambda x, _: x.astype(complex),
    "objects": lambda x, _: x.astype(object),
    "text": lambda x, _: x.astype(str),
    "bytes": lambda x, _: x.astype("S"),
    "bool": lambda x, _: x > 0,
    "long double": lambda x, _: x.astype("g"),
    "fractions": lambda x, _: np.vectorize(Fraction, otypes=[object])(x).tolist(),
    "ragged": lambda x, _: [[1.0, 2.0], [3.0]],
    "generator": lambda x, _: (row for row in x),
    "dict": lambda x, _: {0: 1},
    "set": lambda x, _: {1},
    "word": lambda x, _: "abc",
    "number": lambda x, _: 3,
    "type": lambda x, _: float,
    "structure": lambda x, _: np.zeros(len(x), dtype=[("a", float)]),
    "sparse": lambda x, _: sparse.csr_matrix(x),
    "refuses": lambda x, _: Guarded(),
    "empty": lambda x, _: x[:0],
    "a dimension more": lambda x, _: x[None],
    "a dimension less": lambda x, _: x[0],
    "no columns": lambda x, _: x[..., :0],
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("W", "H", "labels", "b") for kind in BAD if name != "labels" or "masked" not in kind],
)
def test_everything_else_is_refused_by_name(name, kind):
    arrays = example()
    bad = arrays | {name: BAD[kind](arrays[name], 1)}
    if name == "H" and kind == "empty":
        bad["labels"] = bad["labels"][:0]
    for measure in (uf.nc_metrics, uf.inspect):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
            measure(**bad)
    if name in ("H", "labels"):
        if kind == "empty":  # an empty batch is one
            bad = arrays | {"labels": arrays["labels"][:0]}
        with pytest.raises((TypeError, ValueError), match=f"^{'labels' if kind == 'empty' else name} must "):
            uf.NCAccumulator(K, D).update(bad["H"], bad["labels"])
    else:
        accumulator = uf.NCAccumulator(K, D).update(arrays["H"], arrays["labels"])
        with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
            accumulator.result(bad["W"], bad["b"])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("H must not be a masked array: fill its masked entries, or drop", lambda a: {"H": np.ma.masked_array(a["H"])}),
        ("H must be float32 or float64, not csr_matrix", lambda a: {"H": sparse.csr_matrix(a["H"])}),
        ("cannot be read as one: it requires a gradient", lambda a: {"H": Guarded()}),
        ("H must have shape (rows, 7), not (7, 60): transpose it", lambda a: {"H": a["H"].T}),
        ("b must have shape (7,), not (5,), for this W, whose rows are classes: transpose it",
         lambda a: {"W": a["W"].T}),
        ("labels must have shape (60,), not (60, 1): labels.reshape(-1) has it",
         lambda a: {"labels": a["labels"][:, None]}),
        ("labels must have shape (60,), not (59,): H has 60 rows", lambda a: {"labels": a["labels"][1:]}),
        ("W must have at least two rows, not 1", lambda a: {"W": a["W"][:1]}),
        ("W must have at least one column, not 0", lambda a: {"W": a["W"][:, :0]}),
        ("W must be smaller: the squares of its entries overflow", lambda a: {"W": 1e200 * a["W"]}),
        ("b must be smaller: the squares of its entries overflow", lambda a: {"b": 1e200 * a["b"]}),
        ("H must be smaller: the squares of its class means overflow", lambda a: {"H": 1e160 * a["W"][a["labels"]]}),
        ("H must be larger: the squares of differences of its class means underflow", lambda a: {"H": 1e-180 * a["H"]}),
    ],
)  # fmt: skip
def test_messages(message, change):
    arrays = example()
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        uf.nc_metrics(**(arrays | change(arrays)))


class Shrinking:
    """Features that say they have more rows than they give."""

    shape = (N, D)

    def __getitem__(self, rows):
        return np.zeros((N - 1, D))


def test_batches_must_hold_the_samples_that_were_counted():
    arrays = example()
    accumulator = uf.NCAccumulator(K, D).update(arrays["H"], arrays["labels"])
    for rows in (slice(N - 1), np.arange(2 * N) % N):
        with pytest.raises(ValueError, match="batches must hold the 60 samples that were counted, once more"):
            accumulator.result(arrays["W"], batches=[arrays["H"][rows]])
    with pytest.raises(ValueError, match="batches must be finite"):
        accumulator.result(arrays["W"], batches=[np.full((N, D), np.nan)])
    with pytest.raises(ValueError, match=r"H\[0:60\] must have as many rows, not 59"):
        uf.nc_metrics(arrays["W"], Shrinking(), arrays["labels"])


@pytest.mark.parametrize(
    ("error", "message", "sizes"),
    [
        (ValueError, "K must be .*, not 0", (0, 3)),
        (ValueError, "d must be .*, not -1", (2, -1)),
        (TypeError, "K must be an int, not", (2.0, 3)),
        (TypeError, "d must be an int, not", (2, "3")),
        (ValueError, "K = 4294967296 and d = 4294967296 must be smaller", (2**32, 2**32)),
        (ValueError, "K = 2 and d = 4611686018427387904 must be smaller", (2, 2**62)),
    ],
)
def test_sizes(error, message, sizes):
    with pytest.raises(error, match=message):
        uf.NCAccumulator(*sizes)


def test_merge_takes_accumulators_only():
    with pytest.raises(TypeError, match="other must be an NCAccumulator, not ndarray"):
        uf.NCAccumulator(2, 3).merge(np.zeros(3))


def test_half_precision_is_widened_to_the_same_bits():
    """Every number of float16, in blocks with infinities and without, in every order of bytes and axes."""
    halves = np.resize(np.arange(2**16, dtype=np.uint16).view(np.float16), (40, 2**13))
    finite = np.where(np.isfinite(halves), halves, 0)
    for given in (halves, finite, halves[:3], halves.astype(">f2"), halves[::-3, ::5], halves.T, halves[:0]):
        widened = as_single(given)
        assert widened.flags.c_contiguous
        assert np.array_equal(widened.view(np.uint32), np.ascontiguousarray(given.astype(np.float32)).view(np.uint32))


def test_half_precision_where_subnormal_numbers_are_flushed():
    """As a thread may have asked its processor to do."""
    torch = pytest.importorskip("torch")
    halves = np.float16([[2**-24, 1.0], [-(2**-20), 2**-14]])
    if torch.set_flush_denormal(True):
        try:
            widened = as_single(halves)
        finally:
            torch.set_flush_denormal(False)
        assert widened.tolist() == halves.tolist()
