"""Lines on standard error."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator


def tell(message: object) -> None:
    """Print one line on standard error; where nothing can be written there, nobody reads it."""
    if sys.stderr is not None:  # print would take standard output then
        with contextlib.suppress(OSError):
            print(f"ufm-fast: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def telling_warnings() -> Iterator[None]:
    """Print a warning as one line like all others, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: tell(message)
        yield
