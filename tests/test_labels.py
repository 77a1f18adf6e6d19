"""Labels: the row of W that each belongs to, and the samples that are left out."""

import warnings

import numpy as np
import pytest

import ufm_fast as uf
from handed_in import D, K, N, assert_same, example
from nc_definitions import by_definition
from ufm_fast._networks.features import Samples


@pytest.mark.parametrize(
    ("mark", "dtype"), [(-1, np.int64), (-100, np.int32), (255, np.uint8), (255, np.uint64), (K, np.int64)]
)
def test_a_mark_for_samples_without_a_class_is_no_class(mark, dtype):
    """K different labels, of which one is no class: taken in their order, every class would be shifted."""
    arrays = example()
    marked = np.where(arrays["labels"] == K - 1, mark, arrays["labels"]).astype(dtype)
    first, *others = np.flatnonzero(arrays["labels"] == K - 1)
    message = (
        rf"labels must lie in \[0, 5\), but sample {first} and {len(others)} others have {mark}: "
        f"ignore_index={mark} leaves them out"
    )
    for measure in (uf.nc_metrics, uf.inspect):
        with pytest.raises(ValueError, match=message):
            measure(**(arrays | {"labels": marked}))
    with pytest.raises(ValueError, match=message):
        uf.NCAccumulator(K, D).update(arrays["H"], marked)


@pytest.mark.parametrize("labels", [[-3, -1, -1, 0, 7], [1, 2, 3, 5, 5], [10, 20, 30, 40, 50]])
def test_other_labels_need_classes(labels):
    arrays = example()
    all_labels = np.resize(labels, N)
    with pytest.raises(ValueError, match="classes= gives the label that belongs to each row of W"):
        uf.nc_metrics(**(arrays | {"labels": all_labels}))


def test_labels_from_1_to_K_are_taken_with_a_warning():
    arrays = example()
    one_based = arrays | {"labels": arrays["labels"] + 1}
    with pytest.warns(RuntimeWarning, match=r"labels go from 1 to 5: label k is taken to belong to row k - 1 of W"):
        found = uf.nc_metrics(**one_based)
    assert_same(found, uf.nc_metrics(**arrays))
    assert_same(uf.nc_metrics(**one_based, classes=range(1, K + 1)), found)


def test_unsigned_labels_do_not_wrap():
    arrays = example()
    labels = arrays["labels"].astype(np.uint64)
    assert_same(uf.nc_metrics(**(arrays | {"labels": labels})), uf.nc_metrics(**arrays))
    labels[3] += np.uint64(2**63)
    for more in ({}, {"classes": range(K)}, {"ignore_index": -1}):
        with pytest.raises(ValueError, match=rf"labels must be below 2\^63, but there is {labels[3]}"):
            uf.nc_metrics(**(arrays | {"labels": labels}), **more)
    with pytest.raises(ValueError, match=r"classes must be below 2\^63"):
        uf.NCAccumulator(2, D, classes=np.array([0, 2**63], dtype=np.uint64))


@pytest.mark.parametrize("mark", [-100, 255, 2])
def test_ignored_samples_are_left_out(mark):
    """Among the others, and a whole batch of them."""
    arrays = example()
    order = np.random.default_rng(1).permutation(N + 9)
    H = np.concatenate([np.full((5000, D), 1e3), np.concatenate([arrays["H"], np.full((9, D), -1e3)])[order]])
    labels = np.concatenate([np.full(5000, mark), np.append(arrays["labels"], [mark] * 9)[order]])
    kept = labels != mark
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # class 2 has no samples where its label is the mark
        expected = uf.nc_metrics(**(arrays | {"H": H[kept], "labels": labels[kept]}))
        found = uf.nc_metrics(**(arrays | {"H": H, "labels": labels}), ignore_index=mark)
        assert found.left_out == (~kept).sum()
        for name, value in (expected.scalars() | {"left_out": found.left_out}).items():
            assert getattr(found, name) == (pytest.approx(value, rel=1e-12, nan_ok=True) if name != "centre" else value)
        accumulator = uf.NCAccumulator(K, D, ignore_index=mark)
        for rows in np.array_split(np.arange(len(H)), 7):
            accumulator.update(H[rows], labels[rows])
        assert np.array_equal(accumulator.counts, expected.counts)
        found = accumulator.result(arrays["W"], arrays["b"], batches=[H[kept]])
    assert found.nc1 == pytest.approx(expected.nc1, rel=1e-10, nan_ok=True)
    assert found.nc4_agreement == pytest.approx(expected.nc4_agreement, nan_ok=True)


def test_ignored_labels_from_1_to_K():
    arrays = example()
    labels = np.append(arrays["labels"] + 1, [0] * 4)
    H = np.concatenate([arrays["H"], np.ones((4, D))])
    with pytest.warns(RuntimeWarning, match="labels go from 1 to 5"):
        found = uf.nc_metrics(arrays["W"], H, labels, arrays["b"], ignore_index=0)
    assert_same(found, uf.nc_metrics(**arrays))


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, r"ignore_index must be an int, not -1\.0", {"ignore_index": -1.0}),
        (TypeError, "ignore_index must be an int, not True", {"ignore_index": True}),
        (ValueError, r"ignore_index must be between -9223372036854775808 and", {"ignore_index": 2**64 - 1}),
        (TypeError, "classes must be integers, not float64", {"classes": np.arange(5.0)}),
        (TypeError, "classes must not be a masked array", {"classes": np.ma.arange(5)}),
        (ValueError, r"ignore_index must be an int or several in one dimension, not of shape \(1, 2\)",
         {"ignore_index": [[7, 8]]}),
        (TypeError, "ignore_index must be integers, not float64", {"ignore_index": [7.0, 8.0]}),
        (TypeError, r"ignore_index must be an int, not \{7\}", {"ignore_index": {7}}),
        (ValueError, "ignore_index must not be among the classes, but 3 is: which is meant",
         {"classes": range(5), "ignore_index": [7, 3]}),
        (ValueError, r"classes must be 5 ints, one for each row of W, not of shape \(4,\)", {"classes": range(4)}),
    ],
)  # fmt: skip
def test_bad_options(error, message, options):
    with pytest.raises(error, match=message):
        uf.nc_metrics(**example(), **options)
    with pytest.raises(error, match=message):
        uf.NCAccumulator(K, D, **options)


def test_no_samples():
    arrays = example()
    with pytest.raises(ValueError, match="H must hold samples, but has 0 rows"):
        uf.nc_metrics(arrays["W"], np.zeros((0, D)), [])
    with pytest.raises(ValueError, match="H must hold samples, but all 2 are left out"):
        uf.inspect(arrays["W"], np.zeros((2, D)), [-1, -1], ignore_index=-1)


# Samples without a label


class Nullable:
    """Integers of which some are missing, as pandas has them."""

    def __init__(self, labels, missing):
        self.dtype, self._labels, self._missing = labels.dtype, labels, missing

    def isna(self):
        return self._missing

    def to_numpy(self, dtype, na_value):
        return np.where(self._missing, na_value, self._labels).astype(dtype)

    def __array__(self, dtype=None, copy=None):
        return np.where(self._missing, np.nan, self._labels)


def series(labels, missing, dtype="Int64"):
    pandas = pytest.importorskip("pandas")
    return pandas.Series(np.where(missing, None, labels), dtype=dtype, index=np.arange(len(labels))[::-1])


WITHOUT = {
    "masked": lambda labels, missing: np.ma.masked_array(np.where(missing, 10**6, labels), missing),
    "unsigned": lambda labels, missing: np.ma.masked_array(np.where(missing, 2**64 - 1, labels.astype("u8")), missing),
    "ignored": lambda labels, missing: np.where(missing, np.resize([-1, 255], len(labels)), labels),
    "nullable": Nullable,
    "pandas": series,
    "pandas, unsigned bytes": lambda labels, missing: series(labels, missing, "UInt8"),
    "pandas, array": lambda labels, missing: series(labels, missing).array,
    "pandas, column": lambda labels, missing: series(labels, missing).to_frame("y")["y"],
    "pandas, arrow": lambda labels, missing: (
        pytest.importorskip("pyarrow") and series(labels, missing, "int64[pyarrow]")
    ),
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_samples_without_a_label_are_left_out(kind):
    """Whatever says so, all metrics are those of the others by definition; features left out need not be finite."""
    arrays = example()
    missing = np.random.default_rng(2).random(N) < 0.3
    missing[:2] = False, True
    labels = WITHOUT[kind](arrays["labels"], missing)
    expected = by_definition(arrays["W"], arrays["H"][~missing], arrays["labels"][~missing], arrays["b"])
    H = np.where(missing[:, None], np.nan, arrays["H"])
    found = uf.nc_metrics(arrays["W"], H, labels, arrays["b"], ignore_index=[-1, 255])
    assert (~missing).sum() == found.N
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-10), name
    inspected = uf.inspect(arrays["W"], H, labels, arrays["b"], ignore_index=(255, -1), lambda_W=1e-2, lambda_H=1e-3)
    assert_same(inspected.metrics, found)
    parts = [uf.NCAccumulator(K, D, ignore_index=np.array([-1, 255], dtype=np.int16)) for _ in range(2)]
    parts[0].update(H[:20], labels[:20] if kind not in ("nullable",) else Nullable(arrays["labels"][:20], missing[:20]))
    assert parts[0].left_out == missing[:20].sum()
    parts[1].update(H, labels)
    merged = parts[0].merge(parts[1])
    assert merged.left_out == missing[:20].sum() + missing.sum()
    assert np.array_equal(parts[1].counts, found.counts)


def test_a_class_may_be_ignored():
    """With the classes that nobody named; a class that was named and ignored is a contradiction."""
    arrays = example()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = uf.nc_metrics(**arrays, ignore_index=2)
    assert found.counts[2] == 0
    assert (arrays["labels"] != 2).sum() == found.N


@pytest.mark.parametrize("more", [{}, {"ignore_index": [-5, -6]}, {"classes": range(10, 15), "ignore_index": -5}])
def test_a_strange_label_is_named_with_its_sample(more):
    """Its place in the whole input, those left out and earlier batches counted."""
    arrays = example()
    shift = 10 if "classes" in more else 0
    labels = np.tile(arrays["labels"] + shift, 100)
    H = np.tile(arrays["H"], (100, 1))
    if more:
        labels[50:5000:7] = -5
    labels[[4999, 5500]] = 99, -7
    message = r"but sample 4999 and 1 other have -7, 99: ignore_index=\[-7, 99\] leaves them out, and classes= gives"
    with pytest.raises(ValueError, match=message):
        uf.nc_metrics(arrays["W"], H, labels, **more)
    accumulator = uf.NCAccumulator(K, D, **more).update(H[:4500], labels[:4500])
    with pytest.raises(ValueError, match="but sample 4999 has 99: ignore_index=99 leaves them out, and classes="):
        accumulator.update(H[4500:5500], labels[4500:5500])
    assert accumulator.counts.sum() + accumulator.left_out == 4500


def test_features_that_are_not_finite_are_named_by_their_place():
    """In the whole input, those left out counted."""
    arrays = example()
    labels, H = np.tile(arrays["labels"], 200), np.tile(arrays["H"], (200, 1))
    labels[::3] = -1
    H[9000, 2] = np.nan  # left out
    uf.nc_metrics(arrays["W"], H, labels, ignore_index=-1)
    H[9004, 3] = -np.inf
    for measure in (uf.nc_metrics, uf.inspect):
        with pytest.raises(ValueError, match="H must be finite, but row 9004 holds -inf"):
            measure(arrays["W"], H, labels, ignore_index=-1)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.ma.masked_array(np.arange(N) % K > 0), "bool"),
        (np.ma.masked_array(np.arange(N) % K * 1.0, np.arange(N) > 50), "float64"),
        (np.ma.masked_array(np.full(N, "a"), np.arange(N) > 50), "<U1"),
        (np.float32(np.arange(N) % K), "float32"),
        (Nullable(np.arange(N) % K * 1.0, np.arange(N) > 50), "float64"),
    ],
)
def test_labels_that_are_no_integers(labels, kind):
    arrays = example()
    for measure in (uf.nc_metrics, uf.inspect):
        with pytest.raises(TypeError, match=f"labels must be integers, not {kind}"):
            measure(**(arrays | {"labels": labels}))


def test_masked_labels_of_another_shape():
    arrays = example()
    labels = np.ma.masked_array(arrays["labels"], arrays["labels"] == 0)
    for bad, shape in ((labels[1:], r"\(59,\)"), (labels[:, None], r"\(60, 1\)")):
        with pytest.raises(ValueError, match=rf"labels must have shape \(60,\), not {shape}"):
            uf.nc_metrics(**(arrays | {"labels": bad}))


def test_without_a_classifier_the_classes_are_the_labels_that_occur():
    H = np.zeros((6, 3))
    labels = np.ma.masked_equal([7, -2, 100, 7, 5, 0], 100)
    samples = Samples(H, labels, None, None, classes=None, ignore_index=[5, 6])
    assert samples.classes.tolist() == [-2, 0, 7]
    assert samples.rows.tolist() == [2, 0, 2, 1]
    assert (samples.N, samples.d) == (6, 3)
    with pytest.raises(ValueError, match="labels must be among the 3 classes, but sample 5 has 0"):
        Samples(H, labels, None, None, classes=[7, -2, 8], ignore_index=5)
    for classes in ([], 7, [[7, -2]]):
        with pytest.raises(ValueError, match="classes must be a sequence of ints, not of shape"):
            Samples(H, labels, None, None, classes=classes, ignore_index=None)
    with pytest.raises(ValueError, match=r"H must have shape \(rows, d\), not \(6, 0\)"):
        Samples(H[:, :0], labels, None, None, classes=None, ignore_index=None)
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\), not \(6,\): H has 3 rows: transpose it$"):
        Samples(H.T, labels, None, None, classes=None, ignore_index=None)
