"""Lines on standard error, and streams that nobody reads."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO


def tell(message: object) -> None:
    """Print one line on standard error, if there is one that can be written."""
    if sys.stderr is None:  # for which print takes standard output
        return
    try:
        print(f"ufm-fast: {message}", file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def abandon(stream: TextIO) -> None:
    """Let a standard stream, and what Python still holds for it, go nowhere: its reader has left, or its disk is full.

    Else Python tries once more at its end, and has an exit code of its own for the failure.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def telling_warnings() -> Iterator[None]:
    """Print a warning as one line like all others, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: tell(message)
        yield
