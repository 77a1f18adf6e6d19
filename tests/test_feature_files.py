"""Files given to ``ufm-fast inspect``: read by slices, or refused where nothing can be read without a guess."""

import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from feature_writers import CHECKED, WRITERS, package
from ufm_fast._io.feature_files import agreed, check_same_rows, open_arrays, stacked, stacked_features
from ufm_fast._io.files import FileError

CHECKPOINTS = [Path(__file__).parent / "checkpoints" / name for name in ("zipped.pt", "older.pt")]
FEATURES = np.arange(20, dtype=np.float32).reshape(5, 4)
SLICES = [slice(3, 8), slice(0, 5), slice(4, 4), slice(11, 99), slice(None), slice(2, 3), slice(2, 9)]


def refusal(*paths, name=None):
    with pytest.raises(FileError) as caught, open_arrays(*paths) as arrays:
        arrays[name][:]
    return str(caught.value)


def check(stored, array):
    assert stored.shape == array.shape
    assert stored.dtype.newbyteorder("=") == array.dtype
    for rows in SLICES:
        np.testing.assert_array_equal(stored[rows], array[rows])


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_every_kind_is_read_by_slices(tmp_path, kind, dtype):
    suffix, write = WRITERS[kind]
    array = (np.arange(39).reshape(13, 3) ** 2 - 7).astype(dtype)
    write(tmp_path / f"H{suffix}", array)
    with open_arrays(tmp_path / f"H{suffix}") as arrays:
        check(arrays["H"], array)
        with pytest.raises(ValueError, match="in order"):
            arrays["H"][::2]


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if not kind.startswith(("hdf5", "parquet", "torch"))])
def test_three_dimensions(tmp_path, kind):
    suffix, write = WRITERS[kind]
    array = np.arange(130.0).reshape(13, 2, 5)
    write(tmp_path / f"H{suffix}", array)
    with open_arrays(tmp_path / f"H{suffix}") as arrays:
        check(arrays["H"], array)


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("state_dict.module.fc.weight", np.arange(12.0).reshape(3, 4) / 8),
        ("fc.bias", np.arange(3, dtype=np.float32)),
        ("columns", FEATURES),
        ("every_second", FEATURES[:, ::2]),
        ("part", FEATURES[1:3]),
        ("half", FEATURES),
        ("half_columns", FEATURES),
        ("numpy_columns", FEATURES),
        ("labels", np.arange(5) % 3),
        ("layers.1", 2 * FEATURES),
        ("unsigned", np.arange(5, dtype=np.uint16)),
        ("constant", np.ones(5, dtype=np.float32)),
    ],
)
def test_checkpoints_of_pytorch_without_it(path, name, array, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with open_arrays(path) as arrays:
        check(arrays[name], array)


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_tensors_that_are_no_plain_numbers(path):
    assert "not float8_e4m3fn" in refusal(path, name="float8")
    assert "must be a dense tensor" in refusal(path, name="sparse")
    assert "not O8" in refusal(path, name="args.shape")


def test_bare_tensors_lists_and_modules(tmp_path):
    torch = package("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    weight = model[0].weight.detach().numpy()
    for zipped in (True, False):
        for content, name in (
            (model[0].weight, "x"),
            ([model[0].bias, model[0].weight], "1"),
            (model, "0.weight"),
            ({"net": model.state_dict(), "lr": torch.optim.Adam(model.parameters()).state_dict()}, "net.0.weight"),
            (torch.tensor(weight).T.conj().T, "x"),
        ):
            torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
            with open_arrays(tmp_path / "x.pt") as arrays:
                np.testing.assert_array_equal(arrays[name][:], weight)


def test_a_conjugate_is_not_read_as_its_numbers(tmp_path):
    torch = package("torch")
    torch.save({"x": torch.ones(3, dtype=torch.complex64).conj()}, tmp_path / "x.pt")
    assert "must be a plain tensor" in refusal(tmp_path / "x.pt", name="x")


class _Malice:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_checkpoint_is_run(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({"x": _Malice(), "y": np.arange(3.0)}, protocol=2))
    with open_arrays(tmp_path / "x.pt") as arrays:
        np.testing.assert_array_equal(arrays["y"][:], np.arange(3.0))
    (tmp_path / "y.pt").write_bytes(pickle.dumps(_Malice()))
    assert "must be a file that torch.save wrote" in refusal(tmp_path / "y.pt", name="x")
    assert capsys.readouterr() == ("", "")


def test_a_pickle_cannot_ask_for_a_table_of_any_length(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}r" + struct.pack("<I", 2**31) + b".")
    assert "is numbered where" in refusal(tmp_path / "x.pt", name="x")


@pytest.mark.parametrize("memo", [b"", b"q\x00h\x00"])
def test_a_pickle_cannot_nest_tuples_without_end(tmp_path, memo):
    """To hash one as a key takes the processor's stack."""
    tuples = b")" + (b"\x85" + memo + b"\x85" * bool(memo)) * 10**6
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + tuples + b"K\x01s.")
    assert "tuples within tuples 1001 deep" in refusal(tmp_path / "x.pt")


def written_safetensors(path, dtype, shape, content):
    header = json.dumps({"H": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(content)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)


def test_safetensors_that_numpy_has_no_type_for(tmp_path):
    path = tmp_path / "H.safetensors"
    bits = (FEATURES.view(np.uint32) >> 16).astype("<u2")  # small integers: 8 bits of them are exact
    written_safetensors(path, "BF16", [5, 4], bits.tobytes())
    with open_arrays(path) as arrays:
        check(arrays["H"], FEATURES)
    written_safetensors(path, "F8_E4M3", [4, 3], bytes(12))
    message = "it must be of a type that NumPy has, or BF16, not F8_E4M3"
    assert refusal(path, name="H") == f"cannot read H in {path}: {message}"


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ([5, 4], 72, "has 72 bytes"),
        ([5, -4], 80, "must not have the shape"),
        ([True, 20], 80, "must not have the shape"),
    ],
)
def test_safetensors_whose_header_is_wrong(tmp_path, shape, size, message):
    written_safetensors(tmp_path / "H.safetensors", "F32", shape, bytes(size))
    assert message in refusal(tmp_path / "H.safetensors", name="H")


def test_objects_that_nobody_asks_for(tmp_path):
    np.savez(tmp_path / "x.npz", H=FEATURES, names=np.array([{}, "a"], dtype=object), text=np.array(["a"]))
    with open_arrays(tmp_path / "x.npz") as arrays:
        check(arrays["H"], FEATURES)
    assert refusal(tmp_path / "x.npz", name="names") == (
        f"cannot read names in {tmp_path / 'x.npz'}: it must hold numbers, not Python objects"
    )
    np.save(tmp_path / "b.npy", np.zeros(3, dtype="V2"))
    assert "bfloat16 array loses its type" in refusal(tmp_path / "b.npy", name="b")


def test_two_arrays_of_one_name_in_one_file(tmp_path):
    np.save(tmp_path / "H.npy", FEATURES)
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.write(tmp_path / "H.npy", "H.npy")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(tmp_path / "H.npy", "H.npy")
    message = refusal(tmp_path / "twice.npz")
    assert message == f"cannot read {tmp_path / 'twice.npz'}: it must not hold two members 'H.npy'"


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize(("change", "message"), [(-8, "truncated"), (8, "more in it")])
def test_npy_files_of_another_length(tmp_path, by_columns, change, message):
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(FEATURES) if by_columns else FEATURES)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    assert message in refusal(path, name="x")


def test_tables(tmp_path):
    pa, write = package("pyarrow"), package("pyarrow.parquet").write_table
    rows = np.arange(14.0).reshape(7, 2)
    labels = [0, 1, None, 2, None, 1, 0]
    columns = {f"f{k}": rows[:, k] for k in range(2)}
    ragged = {"ragged": [[1.0] * (1 + i % 2) for i in range(7)], "holes": [[1.0, None]] * 7}
    table = pa.table(columns | ragged | {"labels": pa.array(labels, pa.int32()), "when": ["now"] * 7})
    for name in ("a", "b"):
        write(table, tmp_path / f"{name}.parquet", row_group_size=3)
    with open_arrays(tmp_path / "a.parquet", tmp_path / "b.parquet") as arrays:
        check(stacked_features(arrays.find("f*")), np.vstack([rows, rows]))
        found = arrays["labels"][5:12]
        np.testing.assert_array_equal(np.ma.getmaskarray(found), [label is None for label in (labels + labels)[5:12]])
        np.testing.assert_array_equal(found.compressed(), [1, 0, 0, 1, 2])
    assert "each row must have 1 numbers" in refusal(tmp_path / "a.parquet", name="ragged")
    assert "each row must have 2 numbers" in refusal(tmp_path / "a.parquet", name="holes")
    assert "must be a column of numbers" in refusal(tmp_path / "a.parquet", name="when")


def test_a_dataset_that_is_not_as_large_as_its_shape(tmp_path):
    h5py = package("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["H"] = FEATURES
        file["text"] = "text"
    content = path.read_bytes()
    place = content.index(struct.pack("<QQ", *FEATURES.shape))
    path.write_bytes(content[:place] + struct.pack("<Q", 4) + content[place + 8 :])
    assert "H has 80 bytes" in refusal(path, name="H")


@pytest.mark.parametrize("shape", [(10**12,), (10**12, 3), (6, 4)])
@pytest.mark.parametrize("options", [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}], ids=str)
def test_numbers_of_a_dataset_that_were_never_written(tmp_path, shape, options):
    """They are zeros for the library, which makes memory for them."""
    with package("h5py").File(tmp_path / "x.h5", "w") as file:
        H = file.create_dataset("H", shape, "f4", **options)
        if options and shape != (6, 4):
            H[:5] = 1
    message = refusal(tmp_path / "x.h5", name="H")
    assert "H has " in message
    assert f"where {shape} of float32 needs" in message


def parts(tmp_path, **arrays):
    """Write each list of arrays as one name in files part0, part1, ..."""
    paths = [tmp_path / f"part{i}.npz" for i in range(max(map(len, arrays.values())))]
    for i, path in enumerate(paths):
        np.savez(path, **{name: each[i] for name, each in arrays.items() if i < len(each)})
    return paths


def test_rows_in_several_files_follow_each_other(tmp_path):
    H = np.arange(26.0).reshape(13, 2)
    paths = parts(tmp_path, H=[H[:4], H[4:4], H[4:11], H[11:]])
    with open_arrays(*paths) as arrays:
        check(arrays["H"], H)
    with open_arrays(*reversed(paths)) as arrays:
        np.testing.assert_array_equal(arrays["H"][:], np.vstack([H[11:], H[4:11], H[:4]]))


def test_parts_that_do_not_fit_together(tmp_path):
    first, second = parts(tmp_path, H=[np.zeros((3, 2)), np.zeros((2, 4))], labels=[np.zeros(2), np.zeros(3)])
    with open_arrays(first, second) as arrays:
        with pytest.raises(ValueError, match=r"H in .*part0.npz has shape \(3, 2\), and H in .*part1.npz"):
            arrays["H"]
        with pytest.raises(ValueError, match=r"H in .*part0.npz has 3 rows, but labels in .*part0.npz has 2"):
            check_same_rows(stacked([*arrays.find("H")[:1], *arrays.find("H")[:1]]), arrays["labels"])


def test_what_must_be_the_same_in_all_files(tmp_path):
    W = np.array([[0.0, 1.0]])
    first, second, third = parts(tmp_path, W=[W, W, np.array([[-0.0, 1.0]])])
    with open_arrays(first, second) as arrays:
        np.testing.assert_array_equal(agreed(arrays.find("W")), W)
    with open_arrays(first, second, third) as arrays, pytest.raises(ValueError, match="must be the same") as caught:
        agreed(arrays.find("W"))
    assert str(first) in str(caught.value)
    assert str(third) in str(caught.value)


def test_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{"net.fc.weight": np.zeros((3, 2)), "ema.fc.weight": np.zeros((3, 4)), "a.b": np.zeros(2)})
    np.save(tmp_path / "W.npy", np.ones(1))
    with open_arrays(path, tmp_path / "W.npy") as arrays:
        assert arrays["b"].shape == (2,)
        assert arrays["ema.fc.weight"].shape == (3, 4)
        assert arrays[f"{tmp_path / 'W.npy'}"][:] == 1
        assert arrays[f"{path}:net.fc.weight"].shape == (3, 2)
        for name, message in (
            ("fc.weight", "can mean net.fc.weight, ema.fc.weight: which one?"),
            ("eight", r"no array eight in the files, but net.fc.weight \(3, 2\), ema.fc.weight \(3, 4\), a.b \(2,\)"),
            (f"{path}:W", rf"no array W in {path}, but"),
        ):
            with pytest.raises(ValueError, match=message):
                arrays[name]


def test_a_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "x.h5").write_bytes(b"")
    message = r'x\.h5 needs h5py: pip install "ufm-fast\[io\]"'
    with pytest.raises(ImportError, match=message), open_arrays(tmp_path / "x.h5"):
        pass


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files(tmp_path, kind):
    """None leads to another error than one that names the file; HDF5 alone has no means to protect a shape."""
    suffix, write = WRITERS[kind]
    path, array = tmp_path / f"H{suffix}", (np.arange(39).reshape(13, 3) ** 2 - 7).astype(np.float32)
    write(path, array)
    content, rng, outcomes = path.read_bytes(), np.random.default_rng(0), set()
    for _ in range(150):
        damaged = bytearray(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)
        if len(damaged) == len(content):
            damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        outcomes.add(outcome(path, array, any_shape="hdf5" in kind))
    assert outcomes == {"same", "refused"} if kind in CHECKED else outcomes <= {"same", "refused", "other"}
    assert "refused" in outcomes


def outcome(path, array, *, any_shape):
    try:
        with open_arrays(path) as arrays:
            found = arrays["H"][:]
    except FileError as error:
        return "refused" if str(path) in str(error) else f"{error} names no file"
    except ValueError as error:
        return "refused" if "no array H in the files" in str(error) else str(error)  # the name is damaged
    if found.shape != array.shape and not any_shape:
        return f"another shape: {found.shape}"
    return "same" if np.array_equal(found, array) else "other"


def test_one_number_in_place_of_rows(tmp_path):
    path = tmp_path / "H.npz"
    np.savez(path, H=2.0)
    with open_arrays(path) as arrays, pytest.raises(FileError, match=r"H in .*H\.npz must have rows, but holds one"):
        arrays["H"][:1]
