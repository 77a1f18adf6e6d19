"""Warnings of the package."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from pathlib import Path

_OURS = (str(Path(__file__).parent.parent), contextlib.__file__)


class ConvergenceWarning(UserWarning):
    """A solver stopped before its result was certified to, or had, the tolerance."""


def warn(message: str, category: type[Warning] = ConvergenceWarning) -> None:
    """Issue a warning that points at the line outside of this package from which it was called."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
