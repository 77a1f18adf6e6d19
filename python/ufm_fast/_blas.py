"""BLAS, held to one thread while threads of our own call it: in the compiled core (SciPy's, found once) and here.

BLAS's own threads are left to what cannot be split. After each call they keep spinning for a while, which slows down
whoever has the processor to share: the core, the other one of NumPy's and SciPy's BLAS, or another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from . import _core
from ._threads import concurrently, get_num_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .model import UFM

_F = TypeVar("_F", bound=Callable[..., Any])

_PARAMETERS = {"dgemm": 13, "sgemm": 13, "dsyrk": 10, "ssyrk": 10}  # of the functions that the core calls
_SMALL_K = 256  # up to here K x K work loses more by waking threads than it gains

_lock = threading.Lock()
_callers = 0
_controller: Any = None
_limit: Any = None


def _integer_bytes(capsule: Any, expected_parameters: int) -> int | None:
    """Bytes of the integers in a cython_blas capsule, None if its signature is not a known one."""
    import ctypes

    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    parameters = name(capsule).decode().partition("(")[2].split(",")
    integer = parameters[2].replace("*", "").strip() if len(parameters) == expected_parameters else ""
    return {"int": 4, "int32_t": 4, "npy_int32": 4, "int64_t": 8, "npy_int64": 8, "long long": 8}.get(integer)


def _load() -> Any:
    from scipy.linalg import cython_blas
    from threadpoolctl import ThreadpoolController

    for name, parameters in _PARAMETERS.items():
        capsule = cython_blas.__pyx_capi__.get(name)
        integer_bytes = _integer_bytes(capsule, parameters) if capsule is not None else None
        if integer_bytes is not None:
            getattr(_core, f"set_{name}")(capsule, integer_bytes)
    return ThreadpoolController().select(user_api="blas")


def _open_limits_to_all_threads() -> None:
    """Let any Python thread set limits: recent threadpoolctl ignores all but the first to have set OpenBLAS's.

    Ours come in turn under `_lock`, but from whichever thread enters first and leaves last.
    """
    for library in _controller.lib_controllers:
        release = getattr(library, "clear_controlling_thread", None)
        if release is not None:
            release(force=True)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Load SciPy's BLAS into the core and hold every BLAS to one thread until the last concurrent caller leaves."""
    global _callers, _controller, _limit
    with _lock:
        if _controller is None:
            _controller = _load()
        if _callers == 0:
            _open_limits_to_all_threads()
            _limit = _controller.limit(limits=1)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                _open_limits_to_all_threads()
                _limit.restore_original_limits()
                _open_limits_to_all_threads()


def fitting_threads(ufm: UFM) -> int:
    """Return how many threads work on K x K arrays of a model is worth."""
    return 1 if ufm.K <= _SMALL_K else ufm.threads or get_num_threads()


def fitting_blas(function: _F) -> _F:
    """Decorate a function of a model that works on K x K arrays: one BLAS thread for a small or one-threaded model."""

    @wraps(function)
    def fitted(ufm: UFM, *args: Any, **kwargs: Any) -> Any:
        with single_threaded_blas() if fitting_threads(ufm) == 1 else nullcontext():
            return function(ufm, *args, **kwargs)

    return cast("_F", fitted)


def product(
    X: NDArray[np.float64], Y: NDArray[np.float64], threads: int, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return X Y, its rows split over threads."""
    if out is None:
        out = np.empty((X.shape[0], Y.shape[1]))
    if threads == 1:
        return np.matmul(X, Y, out=out)
    with single_threaded_blas():
        concurrently([partial(np.matmul, X[i:j], Y, out=out[i:j]) for i, j in _parts(len(X), threads)], threads)
    return out


def gram(X: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
    """Return X^T X, the rows of X split over threads."""
    if threads == 1:
        return X.T @ X
    with single_threaded_blas():
        parts = concurrently([partial(np.matmul, X[i:j].T, X[i:j]) for i, j in _parts(len(X), threads)], threads)
    for part in parts[1:]:
        parts[0] += part
    return cast("NDArray[np.float64]", parts[0])


def _parts(size: int, count: int) -> list[tuple[int, int]]:
    return list(pairwise(size * i // count for i in range(count + 1)))
