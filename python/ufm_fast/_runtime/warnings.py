"""Warnings of the package, which point at the caller's line."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_PACKAGE = str(Path(__file__).parent.parent) + os.sep

_held: ContextVar[list[str] | None] = ContextVar("held", default=None)


class ConvergenceWarning(UserWarning):
    """A solver stopped before its result was certified to, or had, the tolerance.

    Examples
    --------
    >>> import warnings
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=8, d=2, n=5, lambda_W=1e-3, lambda_H=1e-3)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     result = uf.minimize(ufm)
    >>> result.success, caught[0].category is uf.ConvergenceWarning
    (False, True)
    """


def warn(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """Issue a warning at the first line outside of this package, however many of its functions lie in between.

    Functions of contextlib, which call what a context manager decorates, are passed over too.
    """
    held = _held.get()
    if held is not None and category is ConvergenceWarning:
        held.append(message)
        return
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def held_convergence_warnings() -> Iterator[list[str]]:
    """Keep this thread's convergence warnings from the user, and give their messages.

    ``warnings.catch_warnings`` is no way to do so: what it changes, all threads have in common.
    """
    messages: list[str] = []
    before = _held.set(messages)
    try:
        yield messages
    finally:
        _held.reset(before)


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) or file == contextlib.__file__
