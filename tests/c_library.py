"""The C functions of the installed shared library, called by ctypes."""

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_void_p
from pathlib import Path

import numpy as np

import ufm_fast as uf

FILE = {"win32": "ufm_fast.dll", "darwin": "libufm_fast.dylib"}.get(sys.platform, "libufm_fast.so")
PATH = Path(uf.get_library_dir()) / FILE

OK, INVALID, MEMORY, OVERFLOW, INTERRUPTED, UNAVAILABLE = range(6)
STOP = ctypes.CFUNCTYPE(c_int, c_void_p)

# The arguments after the problem, by the letters of their types.
LETTERS = {"s": c_char_p, "n": c_int64, "i": c_int, "d": c_double, "p": c_void_p}
SIGNATURES = {
    "set_number": "sd",
    "set_vector": "snp",
    "set_word": "ss",
    "set_decays": "dddi",
    "set_labels": "npppp",
    "set_targets": "npppp",
    "set_sparse_targets": "npppppp",
    "set_threads": "i",
    "size": "p",
    "loss": "pp",
    "loss_f": "pp",
    "loss_and_gradient": "ppp",
    "loss_and_gradient_f": "ppp",
    "loss_and_gradient_of_parts": "p" * 7,
    "loss_and_gradient_of_parts_f": "p" * 7,
    "hessian_products": "pnpp",
    "hessian_products_f": "pnpp",
}


def load():
    library = ctypes.CDLL(str(PATH))
    for name in ("version", "message", "instruction_set"):
        getattr(library, f"ufm_fast_{name}").restype = c_char_p
    library.ufm_fast_new.argtypes = [c_char_p, c_int64, c_int64, c_int, POINTER(c_void_p)]
    library.ufm_fast_free.argtypes = [c_void_p]
    library.ufm_fast_set_gemm.argtypes = [c_void_p, c_void_p, c_int]
    library.ufm_fast_set_interruption.argtypes = [c_void_p, STOP, c_void_p]
    for name, letters in SIGNATURES.items():
        getattr(library, f"ufm_fast_{name}").argtypes = [c_void_p, *(LETTERS[letter] for letter in letters)]
    return library


class Refused(Exception):
    """A code other than OK, with the message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def pointer(array):
    return None if array is None else array.ctypes.data


class Problem:
    """A handle; its methods are the C functions, a code other than OK is an exception."""

    def __init__(self, library, loss, K, d, dtype="float64"):
        self.library, self.dtype, self.handle = library, np.dtype(dtype), c_void_p()
        self._check(library.ufm_fast_new(loss.encode(), K, d, self.dtype == np.float32, byref(self.handle)))

    def __del__(self):
        self.library.ufm_fast_free(self.handle)

    def _check(self, code):
        if code != OK:
            raise Refused(code, self.library.ufm_fast_message().decode())

    def call(self, name, *arguments):
        given = [pointer(x) if isinstance(x, np.ndarray) else x for x in arguments]
        self._check(getattr(self.library, f"ufm_fast_{name}")(self.handle, *given))

    def typed(self, name, *arguments):
        self.call(name + ("_f" if self.dtype == np.float32 else ""), *arguments)

    def size(self):
        size = c_int64()
        self.call("size", byref(size))
        return size.value

    def loss(self, x):
        value = c_double()
        self.typed("loss", x, byref(value))
        return value.value

    def loss_and_gradient(self, x):
        value, gradient = c_double(), np.full_like(x, np.nan)
        self.typed("loss_and_gradient", x, byref(value), gradient)
        return value.value, gradient

    def hessian_products(self, x, V):
        out = np.full_like(V, np.nan)
        self.typed("hessian_products", x, len(V), V, out)
        return out
