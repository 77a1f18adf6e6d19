"""Arrays of other libraries, and what behaves like them: measured as the same numbers in NumPy's arrays are."""

import re
from io import BytesIO

import numpy as np
import pytest

import ufm_fast as uf
from handed_in import D, K, N, example
from nc_definitions import by_definition
from ufm_fast._networks.features import Features


class Shared:
    """What hands out its memory by DLPack, and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Stored:
    """What has a shape and slices of rows, at most 4096 of them, and nothing else."""

    def __init__(self, array):
        self._array, self.shape = array, array.shape

    def __getitem__(self, rows):
        found = self._array[rows]
        assert len(found) <= 4096
        return found


class Followed:
    """A tensor that autograd follows, of bfloat16: it gives numbers after `detach` and `float` only."""

    def __init__(self, array, dtype="torch.bfloat16", requires_grad=True):
        self._array, self.dtype, self.requires_grad, self.shape = array, dtype, requires_grad, array.shape

    def __getitem__(self, rows):
        return Followed(self._array[rows], self.dtype, self.requires_grad)

    def float(self):
        return Followed(self._array.astype(np.float32), "torch.float32", self.requires_grad)

    def detach(self):
        return Followed(self._array, self.dtype, False)

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad or self.dtype == "torch.bfloat16":
            raise RuntimeError("it gives no numbers")
        return self._array


class Extension:
    """A type of numbers of which some may be missing."""

    def __init__(self, dtype):
        self.numpy_dtype = np.dtype(dtype)


class Positions:
    """Rows of a frame by their places."""

    def __init__(self, frame):
        self._frame = frame

    def __getitem__(self, rows):
        assert rows == slice(0, N)
        return self._frame


MIXED = (Extension("f8"), np.dtype("f4"), Extension("i4"))


class Nullable:
    """A frame or a column of pandas."""

    def __init__(self, array, dtypes=MIXED):
        self._array, self.shape = array, array.shape
        if array.ndim == 2:
            self.columns, self.dtypes = range(D), [dtypes[i % len(dtypes)] for i in range(D)]
        else:
            self.dtype = dtypes[0]

    def __getitem__(self, rows):
        raise KeyError("slices are of labels of rows")

    @property
    def iloc(self):
        return Positions(self)

    def isna(self):
        return np.isnan(self._array)

    def __array__(self, dtype=None, copy=None):
        return self._array.astype(object)

    def to_numpy(self, dtype, na_value=None):
        assert dtype == np.float64
        assert (na_value is not None) == self.isna().any()
        return np.where(self.isna(), na_value, self._array).astype(dtype)


def bfloat16(array):
    """Round floats to numbers that bfloat16 has."""
    if array.dtype.kind != "f":
        return array
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x8000) & 0xFFFF0000).view(np.float32).astype(array.dtype)


def of_torch(convert):
    return lambda array: convert(pytest.importorskip("torch").from_numpy(array))


def parameter(tensor):
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def half(tensor, name):
    torch = pytest.importorskip("torch")
    return parameter(tensor.to(getattr(torch, name))) if tensor.is_floating_point() else tensor


def of_pandas(array, dtype=None):
    pandas = pytest.importorskip("pandas")
    make = pandas.DataFrame if array.ndim == 2 else pandas.Series
    index = np.linspace(100, 200, len(array))  # which slices of the frame itself take
    return make(array, index=index).astype(("Int64" if array.dtype.kind == "i" else dtype) if dtype else array.dtype)


def of_h5py(array):
    h5py = pytest.importorskip("h5py")
    return h5py.File(BytesIO(), "w").create_dataset("x", data=array)


def short(array):
    return array.astype(pytest.importorskip("ml_dtypes").bfloat16) if array.dtype.kind == "f" else array


KINDS = {
    "DLPack": Shared,
    "rows": Stored,
    "tensor": lambda x: Followed(x) if x.dtype.kind == "f" else x,
    "frame": lambda x: Nullable(x) if x.dtype.kind == "f" else x,
    "torch": of_torch(lambda x: x),
    "torch parameter": of_torch(parameter),
    "torch bfloat16": of_torch(lambda x: half(x, "bfloat16")),
    "torch float16": of_torch(lambda x: half(x, "float16")),
    "torch by DLPack": of_torch(Shared),
    "ml_dtypes": short,
    "pandas": of_pandas,
    "pandas Float64": lambda x: of_pandas(x, "Float64"),
    "h5py": of_h5py,
    "zarr": lambda x: pytest.importorskip("zarr").array(x, chunks=(7,) * x.ndim),
    "jax": lambda x: pytest.importorskip("jax.numpy").asarray(x),
    "jax bfloat16": lambda x: pytest.importorskip("jax.numpy").asarray(
        x, dtype="bfloat16" if x.dtype.kind == "f" else None
    ),
}


@pytest.mark.parametrize("name", ["W", "H", "labels", "b", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_other_libraries(kind, name):
    arrays = {key: bfloat16(array) for key, array in example().items()}
    foreign = {key: KINDS[kind](value) if name in (key, "all") else value for key, value in arrays.items()}
    expected = by_definition(*(arrays[key] for key in ("W", "H", "labels", "b")))
    found = uf.nc_metrics(**foreign)
    for metric, value in expected.items():
        assert getattr(found, metric) == pytest.approx(value, rel=1e-6, abs=1e-7), metric
    accumulator = uf.NCAccumulator(K, D)
    accumulator.update(foreign["H"], foreign["labels"])
    assert accumulator.result(foreign["W"], foreign["b"]).nc1 == found.nc1
    assert uf.inspect(**foreign, lambda_W=1e-2, lambda_H=1e-3).metrics.nc1 == found.nc1


@pytest.mark.parametrize("kind", KINDS)
def test_regression_and_levels(kind):
    arrays = example()
    W, H, Y = (KINDS[kind](bfloat16(x)) for x in (arrays["W"][:3], arrays["H"], arrays["H"][:, :3] ** 2))
    expected = uf.nrc_metrics(*(bfloat16(x) for x in (arrays["W"][:3], arrays["H"], arrays["H"][:, :3] ** 2)))
    found = uf.nrc_metrics(W, H, Y)
    for metric in ("nrc1", "nrc2", "nrc3", "gamma", "rank_W"):
        assert getattr(found, metric) == pytest.approx(getattr(expected, metric), rel=1e-5), metric
    w, thresholds = KINDS[kind](bfloat16(arrays["W"][:1])), KINDS[kind](np.array([-1.0, 0.0, 1.0, 2.0]))
    ordinal = uf.onc_metrics(w, H, KINDS[kind](arrays["labels"]), thresholds)
    expected = uf.onc_metrics(
        bfloat16(arrays["W"][:1]), bfloat16(arrays["H"]), arrays["labels"], np.array([-1.0, 0.0, 1.0, 2.0])
    )
    for metric in ("onc1", "onc2", "onc3", "onc3_midpoint"):
        assert getattr(ordinal, metric) == pytest.approx(getattr(expected, metric), rel=1e-5), metric


@pytest.mark.parametrize("kind", ["tensor", "torch bfloat16", "ml_dtypes", "jax bfloat16"])
def test_the_rank_of_a_classifier_in_bfloat16(kind):
    """Rounding to 8 bits adds singular values that W did not have; in float64 they would count."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 30))
    labels = np.arange(40) % 20
    H = rng.standard_normal((40, 30))
    assert uf.nc_metrics(bfloat16(W), H, labels).rank_W == 20
    assert uf.nc_metrics(KINDS[kind](bfloat16(W)), H, labels).rank_W == 3
    assert uf.nrc_metrics(KINDS[kind](bfloat16(W)), H, rng.standard_normal((40, 20))).rank_W == 3


def test_features_are_read_a_batch_at_a_time():
    """Rows of more numbers in smaller batches."""
    arrays = example()
    H, labels = np.tile(arrays["H"], (150, 1)), np.tile(arrays["labels"], 150)
    expected, found = uf.nc_metrics(**arrays), uf.nc_metrics(arrays["W"], Stored(H), labels, arrays["b"])
    assert len(H) == found.N > 2 * 4096
    assert found.nc1 == pytest.approx(expected.nc1, rel=1e-12)
    assert found.nc4_agreement == expected.nc4_agreement

    class Wide:
        shape = (5, 2**23)

        def __getitem__(self, rows):
            return np.zeros((rows.stop - rows.start, 2**23), dtype=np.float16)

    assert [rows for rows, _ in Features(Wide(), 2**23).read()] == [slice(0, 2), slice(2, 4), slice(4, 5)]


class Elsewhere:
    """A tensor in the memory of an accelerator."""

    device, shape = "cuda:0", (N, D)

    def __getitem__(self, rows):
        return self

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert it")


def meta():
    return pytest.importorskip("torch").empty((N, D), device="meta")


@pytest.mark.parametrize("name", ["W", "H", "labels", "b"])
@pytest.mark.parametrize(("tensor", "device"), [(Elsewhere, "cuda:0"), (meta, "meta")])
def test_tensors_on_other_devices(tensor, device, name):
    message = re.escape(f"{name} must be in main memory, not on {device}: {name}.cpu() copies it there")
    with pytest.raises(TypeError, match=message):
        uf.nc_metrics(**(example() | {name: tensor()}))


@pytest.mark.parametrize(
    "frame", [Nullable, of_pandas, lambda x: of_pandas(x, "Float64"), lambda x: of_pandas(x, "Float32")]
)
def test_missing_numbers_of_a_frame_are_named_by_their_row(frame):
    arrays = example()
    arrays["H"][31, 4] = np.nan
    arrays["H"] = frame(arrays["H"])
    with pytest.raises(ValueError, match="H must be finite, but row 31 holds nan"):
        uf.nc_metrics(**arrays)
    with pytest.raises(ValueError, match="H must be finite, but row 31 holds nan"):
        uf.nrc_metrics(arrays["W"][:2], arrays["H"], np.zeros((N, 2)))
    arrays = example()
    arrays["W"][1, 2] = np.nan
    with pytest.raises(ValueError, match="W must be finite, but holds a NaN"):
        uf.nc_metrics(**(arrays | {"W": frame(arrays["W"])}))


@pytest.mark.parametrize("dtypes", [("f8", "U3"), ("f8", "?"), ("O",), ("c16",)])
def test_frames_of_other_things_are_refused(dtypes):
    arrays = example()
    with pytest.raises(TypeError, match="H must be float32 or float64, not object"):
        uf.nc_metrics(**(arrays | {"H": Nullable(arrays["H"], [Extension(dtype) for dtype in dtypes])}))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("H must have shape (rows, 7), not (7, 60): transpose it", lambda a: {"H": a["H"].T}),
        ("H must have shape (rows, 7), not (7, 60): transpose it",
         lambda a: {"H": a["H"].T, "labels": a["labels"][:3]}),
        ("H must have shape (rows, 5), not (60, 7): transpose W, which has shape (7, 5)",
         lambda a: {"W": a["W"].T, "b": None}),
        ("b must have shape (7,), not (5,), for this W, whose rows are classes: transpose it",
         lambda a: {"W": a["W"].T}),
        ("H must have shape (rows, 7), not (60, 6)", lambda a: {"H": a["H"][:, :6]}),
    ],
)  # fmt: skip
def test_what_to_transpose(message, change):
    arrays = example()
    arrays |= change(arrays)
    for measure in (uf.nc_metrics, uf.inspect):
        with pytest.raises(ValueError, match=re.escape(message) + "$"):
            measure(**arrays)


def test_what_to_transpose_of_other_networks():
    arrays = example()
    with pytest.raises(ValueError, match=r"W must have shape \(1, d\) or \(d,\), not \(7, 1\): transpose it"):
        uf.onc_metrics(arrays["W"][:1].T, arrays["H"], arrays["labels"])
    with pytest.raises(ValueError, match=r"H must have shape \(rows, 3\), not \(60, 7\): transpose W, .* \(7, 3\)"):
        uf.nrc_metrics(arrays["W"][:3].T, arrays["H"], np.zeros((N, 3)))
    with pytest.raises(ValueError, match=r"H must have shape \(rows, 7\), not \(7, 60\): transpose it"):
        uf.nrc_metrics(arrays["W"][:3], arrays["H"].T, np.zeros((N, 3)))
