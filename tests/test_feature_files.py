"""Files given to ``ufm-fast inspect``: read by slices, or refused where nothing can be read without a guess."""

import json
import struct
import zipfile

import numpy as np
import pytest

from ufm_fast._io.feature_files import open_arrays

ARRAYS = {"W": np.eye(3), "H": np.eye(3)[[0, 1, 2, 0]], "labels": np.array([0, 1, 2, 0]), "b": np.zeros(3)}


def refusal(*paths):
    with pytest.raises(ValueError) as caught, open_arrays(*paths):  # noqa: PT011 - the caller looks at the message
        pass
    return str(caught.value)


@pytest.mark.parametrize(("name", "array"), [("H.npy", "H"), ("x.npz", "arr_0")])
def test_an_array_in_two_files(run, tmp_path, name, array):
    np.savez(tmp_path / "rest.npz", **{name: ARRAYS[name] for name in ("W", "labels")})
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "H.npy", ARRAYS["H"])
        np.savez(tmp_path / folder / "x.npz", ARRAYS["H"])
    train, test = tmp_path / "train" / name, tmp_path / "test" / name
    assert refusal(train, test) == f"{train} and {test} must not both hold an array {array}: which is meant?"
    code, out, err = run("inspect", tmp_path / "rest.npz", train, test, "--H", array, "--lambda-W", 1, "--json")
    assert (code, out) == (2, "")
    assert f"must not both hold an array {array}" in err


def test_two_arrays_of_one_name_in_one_file(tmp_path):
    np.save(tmp_path / "H.npy", ARRAYS["H"])
    archive = zipfile.ZipFile(tmp_path / "twice.npz", "w")
    archive.write(tmp_path / "H.npy", "H.npy")
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.write(tmp_path / "H.npy", "H.npy")
    archive.close()
    assert refusal(tmp_path / "twice.npz") == f"cannot read {tmp_path / 'twice.npz'}: it must not hold two arrays H"


@pytest.mark.parametrize("name", ["W", "H", "labels", "b"])
@pytest.mark.parametrize("value", [np.array(3), np.zeros((4, 3), complex), np.full((4, 3), "text")])
def test_what_is_no_array_of_numbers(run, tmp_path, name, value):
    np.savez(tmp_path / "x.npz", **(ARRAYS | {name: value}))
    code, out, err = run("inspect", tmp_path / "x.npz", "--lambda-W", 1, "--json")
    assert (code, out) == (2, "")
    assert f"{name} must " in err


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1)])
def test_types_that_numpy_lacks(run, tmp_path, dtype, size):
    pytest.importorskip("safetensors")
    header = json.dumps({"H": {"dtype": dtype, "shape": [4, 3], "data_offsets": [0, 12 * size]}}).encode()
    (tmp_path / "H.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12 * size))
    np.savez(tmp_path / "rest.npz", **{name: ARRAYS[name] for name in ("W", "labels")})
    code, out, err = run("inspect", tmp_path / "H.safetensors", tmp_path / "rest.npz", "--lambda-W", 1, "--json")
    assert (code, out) == (2, "")
    assert f"H in {tmp_path}/H.safetensors must be of a type that NumPy has, such as F32, not {dtype}" in err


def test_stored_arrays_are_read_by_slices(tmp_path):
    array = np.arange(60.0).reshape(20, 3)
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "y.npz", y=array)
    with open_arrays(tmp_path / "x.npy", tmp_path / "y.npz") as stored:
        for name in "xy":
            assert stored[name].shape == (20, 3)
            for rows in (slice(3, 8), slice(0, 5), slice(15, 99), slice(None)):
                np.testing.assert_array_equal(stored[name][rows], array[rows])
            with pytest.raises(ValueError, match="in order"):
                stored[name][::2]


def test_arrays_that_cannot_be_read(tmp_path):
    array = np.arange(60.0).reshape(20, 3)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(array))
    with pytest.raises(ValueError, match="C order"), open_arrays(tmp_path / "fortran.npy"):
        pass
    np.save(tmp_path / "cut.npy", array)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    with pytest.raises(ValueError, match="truncated"), open_arrays(tmp_path / "cut.npy") as stored:
        stored["cut"][:]
