"""Factorisations of NumPy and SciPy that Ctrl-C can interrupt.

LAPACK computes for seconds or minutes without a look at Python, which runs the handlers of signals in the main thread
alone. So there a large factorisation gets a thread of its own, and the main thread waits for it: that ends with the
signal. The factorisation itself cannot be stopped; its thread goes on until it is done, and its result is dropped.
Only functions that release the interpreter's lock can be waited for so, as not all of SciPy's do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast

import numpy as np
import scipy.linalg

from .helpers import Helper

F = TypeVar("F", bound=Callable[..., Any])

_LONG = 2**16  # numbers of a matrix from which on a factorisation takes more than milliseconds


def interruptible(function: F) -> F:
    """Make a signal end the wait for a function of a matrix."""

    @wraps(function)
    def call(matrix: Any, *arguments: Any, **options: Any) -> Any:
        if np.size(matrix) < _LONG or threading.current_thread() is not threading.main_thread():
            return function(matrix, *arguments, **options)
        try:
            helper = Helper(partial(function, matrix, *arguments, **options))
        except (RuntimeError, MemoryError):  # no further thread can be started
            return function(matrix, *arguments, **options)
        return helper.result()

    return cast(F, call)


eigh = interruptible(np.linalg.eigh)
eigvalsh = interruptible(np.linalg.eigvalsh)
svd = interruptible(np.linalg.svd)
qr = interruptible(np.linalg.qr)
scipy_qr = interruptible(scipy.linalg.qr)
cholesky = interruptible(np.linalg.cholesky)
solve = interruptible(np.linalg.solve)
