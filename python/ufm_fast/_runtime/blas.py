"""BLAS, held to one thread while threads of our own call it: in the compiled core (SciPy's, found once) and here.

BLAS's own threads keep spinning for a while after each call and, where the processor is shared (with the core, the
other one of NumPy's and SciPy's BLAS, or another process), wait for each other: a singular value decomposition can
take ten times as long. So factorisations run on one thread, and products on ours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import core
from .arrays import Array
from .threads import get_num_threads

_PARAMETERS = {"dgemm": 13, "sgemm": 13, "dsyrk": 10, "ssyrk": 10}  # of the functions that the core calls
_WITHOUT_AVX512 = {"Haswell", "Zen", "Excavator", "Steamroller", "Bulldozer", "Sandybridge", "Nehalem", "Prescott"}
_SMALL_K = 256  # up to here K x K work loses more by waking threads than it gains

_lock = threading.RLock()  # a signal's handler may come in the midst, and compute too
_callers = 0
_limit: Any = None


def _integer_bytes(capsule: Any, expected_parameters: int) -> int | None:
    """Bytes of the integers in a cython_blas capsule, None if its signature is not a known one."""
    import ctypes

    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    parameters = name(capsule).decode().partition("(")[2].split(",")
    integer = parameters[2].replace("*", "").strip() if len(parameters) == expected_parameters else ""
    return {"int": 4, "int32_t": 4, "npy_int32": 4, "int64_t": 8, "npy_int64": 8, "long long": 8}.get(integer)


def _connected() -> Any:
    """Give SciPy's BLAS to the core, unless that does better alone; return what limits the threads of every BLAS."""
    from scipy.linalg import cython_blas
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController().select(user_api="blas")
    if is_outdone(controller.info()):
        return controller
    for name, parameters in _PARAMETERS.items():
        capsule = cython_blas.__pyx_capi__.get(name)
        integer_bytes = _integer_bytes(capsule, parameters) if capsule is not None else None
        if integer_bytes is not None:
            getattr(core, f"set_{name}")(capsule, integer_bytes)
    return controller


def is_outdone(libraries: list[dict[str, Any]]) -> bool:
    """Whether the core's products are much faster than those of these libraries, and so do not call them.

    For some processors with AVX-512, OpenBLAS chooses kernels without it.
    """
    architectures = {library.get("architecture") for library in scipys_own(libraries)}
    return core.isa == "v4" and bool(architectures) and architectures <= _WITHOUT_AVX512


def scipys_own(libraries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the BLAS libraries that SciPy's wheel brings, beside which NumPy's brings another, or else all."""
    own = [library for library in libraries if {"scipy", "scipy.libs"} & set(Path(library["filepath"]).parts)]
    return own or libraries


_controller = _connected()  # while this is imported, so that no thread computes before


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
    """Hold every BLAS to one thread until the last concurrent caller leaves.

    Also a decorator: of every public function and method that multiplies or factorises matrices, and of nothing else.
    """
    global _callers, _limit
    with _lock:
        _callers += 1  # before the limit is set and until it is gone: whoever comes in the midst leaves it alone
        if _callers == 1:
            try:
                _open_limits_to_all_threads()
                _limit = _controller.limit(limits=1)
            except BaseException:  # Ctrl-C
                _callers -= 1
                raise
    try:
        yield
    finally:
        with _lock:
            try:
                if _callers == 1:
                    _open_limits_to_all_threads()
                    _limit.restore_original_limits()
                    _open_limits_to_all_threads()
            finally:
                _callers -= 1


def fitting_threads(K: int, threads: int | None) -> int:
    """Return how many of these threads (by default, `get_num_threads`) work on K x K arrays is worth."""
    return 1 if K <= _SMALL_K else threads or get_num_threads()


def product(X: Array, Y: Array, threads: int, out: Array | None = None) -> Array:
    """Return X Y. Each factor is contiguous or the transpose of what is."""
    return core.matrix_product(X, Y, threads, out)


def gram(X: Array, threads: int) -> Array:
    """Return X^T X for a contiguous X."""
    return core.gram(X, threads)
