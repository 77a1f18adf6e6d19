"""Files of every kind that ``ufm-fast inspect`` reads, written by the packages that own the formats."""

import importlib

import numpy as np
import pytest


def package(name):
    """Import a package; the test is skipped where it is missing."""
    pytest.importorskip(name.partition(".")[0])
    return importlib.import_module(name)


def npy(path, array):
    np.save(path, array)


def npy_by_columns(path, array):
    np.save(path, np.asfortranarray(array))


def npz(path, array):
    np.savez(path, H=array, other=np.arange(3))


def npz_by_columns(path, array):
    np.savez(path, H=np.asfortranarray(array))


def npz_compressed(path, array):
    np.savez_compressed(path, H=np.asfortranarray(array), other=array)


def safetensors(path, array):
    package("safetensors.numpy").save_file({"other": np.arange(3), "H": array}, path, metadata={"format": "np"})


def torch_zipped(path, array):
    torch = package("torch")
    torch.save({"model": {"H": torch.tensor(array)}}, path)


def torch_older(path, array):
    torch = package("torch")
    torch.save({"H": torch.tensor(array), "other": array}, path, _use_new_zipfile_serialization=False)


def hdf5(path, array):
    with package("h5py").File(path, "w") as file:
        file.create_dataset("train/H", data=array, chunks=(3, 2), compression="gzip")
        file["other"] = array


def matlab(path, array):
    package("scipy.io").savemat(path, {"H": array, "text": "abc"})


def matlab_compressed(path, array):
    package("scipy.io").savemat(path, {"H": array, "cell": np.array([1, "x"], dtype=object)}, do_compression=True)


def matlab_hdf5(path, array):
    """Write what MATLAB's ``save -v7.3`` does: HDF5 behind a header, transposed."""
    numpy_class = {"f": {4: "single", 8: "double"}, "i": {8: "int64"}}[array.dtype.kind][array.dtype.itemsize]
    with package("h5py").File(path, "w", userblock_size=512) as file:
        file["H"] = array.T
        file["H"].attrs["MATLAB_class"] = np.bytes_(numpy_class)
        file["text"] = np.array([[97]], dtype=np.uint16)
        file["text"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/a"] = np.zeros(3)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


def parquet(path, array):
    pa = package("pyarrow")
    rows = array if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
    package("pyarrow.parquet").write_table(pa.table({"H": rows}), path, row_group_size=4)


def parquet_checked(path, array):
    table = package("pyarrow").table({"H": list(array)})
    package("pyarrow.parquet").write_table(table, path, write_page_checksum=True)


def parquet_lists(path, array):
    pa = package("pyarrow")
    table = pa.table({"H": pa.array(list(array)), "text": ["a"] * len(array)})
    package("pyarrow.parquet").write_table(table, path)


#: The file's suffix and who writes an array H.
WRITERS = {
    writer.__name__: (suffix, writer)
    for suffix, writer in (
        (".npy", npy),
        (".npy", npy_by_columns),
        (".npz", npz),
        (".npz", npz_by_columns),
        (".npz", npz_compressed),
        (".safetensors", safetensors),
        (".pt", torch_zipped),
        (".pth", torch_older),
        (".h5", hdf5),
        (".mat", matlab),
        (".mat", matlab_compressed),
        (".mat", matlab_hdf5),
        (".parquet", parquet),
        (".parquet", parquet_lists),
        (".parquet", parquet_checked),
    )
}
#: Those whose format has checksums of its numbers.
CHECKED = ("npz", "npz_by_columns", "npz_compressed", "torch_zipped", "matlab_compressed", "parquet_checked")
